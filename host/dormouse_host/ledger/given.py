"""Any number of values in one statement, whose text is the same however many they are: the database takes them as JSON.

A text that changes with the number of its parameters is compiled, sent and planned anew each time, and a statement for
each row is a round trip for each. SQLite runs one statement for many rows faster by itself (`insert`, `update`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    select,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType, TypeEngine

_KINDS: dict[type, TypeEngine[Any]] = {str: Text(), int: BigInteger()}
_NAME = "given"  # of the parameter
_POSTGRESQL = "postgresql"
_KEY = "its_key"  # what a row to be changed is found by


class _AmongThem(FunctionElement[Any]):
    inherit_cache = True
    name = "among"
    type = NullType()  # of a Boolean SQLAlchemy makes `… = 1` for SQLite, which then finds no index


@compiles(_AmongThem, "sqlite")
def _among_in_sqlite(element: _AmongThem, compiler: Any, **how: Any) -> str:
    what, listed = (compiler.process(part, **how) for part in element.clauses)
    return f"{what} IN (SELECT value FROM json_each({listed}))"


@compiles(_AmongThem, _POSTGRESQL)
def _among_in_postgresql(element: _AmongThem, compiler: Any, **how: Any) -> str:
    what, listed = element.clauses
    kind = "bigint" if isinstance(what.type, Integer) else "text"
    listed, what = compiler.process(listed, **how), compiler.process(what, **how)
    return f"{what} IN (SELECT value::{kind} FROM jsonb_array_elements_text(CAST({listed} AS jsonb)))"


def among(what: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Is a column one of the texts or numbers in the parameter `name`, which is their `listed`?"""
    return _AmongThem(what, bindparam(name, type_=Text()))


def listed(several: Iterable[str | int]) -> str:
    """The parameter for these."""
    return json.dumps(list(several))


@cache
def columns(dialect: str, *kinds: type) -> tuple[ColumnElement[Any], ...]:
    """The columns, of these types (str or int), of a table that is handed over: `values` makes the parameter."""
    if dialect == _POSTGRESQL:
        every = func.jsonb_array_elements(_as_json()).table_valued("value")
        parts = (every.c.value.op("->>", return_type=Text())(at) for at in range(len(kinds)))
        return tuple(cast(part, _KINDS[kind]) for part, kind in zip(parts, kinds, strict=True))
    every = func.json_each(bindparam(_NAME, type_=Text())).table_valued("value")
    return tuple(func.json_extract(every.c.value, f"$[{at}]", type_=_KINDS[kind]) for at, kind in enumerate(kinds))


def values(given: Iterable[tuple[str | int, ...]]) -> dict[str, str]:
    """The parameter for these rows of it."""
    return {_NAME: json.dumps(list(given))}


def insert_once(connection: Connection, table: Table, several: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, all with the same columns, in this order, but those that are there."""
    made = _insert_once(connection.dialect.name, table, tuple(several[0]))
    connection.execute(made, {_NAME: json.dumps(several)} if connection.dialect.name == _POSTGRESQL else several)


@cache
def _insert_once(dialect: str, table: Table, names: tuple[str, ...]) -> Any:
    new = import_module(f"sqlalchemy.dialects.{dialect}").insert(table)  # each takes long to load
    if dialect == _POSTGRESQL:
        given = _rows({name: table.c[name] for name in names})
        new = new.from_select(list(names), select(*(given.c[name] for name in names)), include_defaults=False)
    return new.on_conflict_do_nothing()


def update_each(connection: Connection, key: Column[Any], several: Iterable[tuple[object, Mapping[str, Any]]]) -> None:
    """Set columns of rows, each found by its value of the column `key`."""
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for its_key, new in several:
        alike.setdefault(tuple(new), []).append({_KEY: its_key, **{f"new_{name}": new[name] for name in new}})
    for names, rows in alike.items():
        made = _update_each(connection.dialect.name, key, names)
        connection.execute(made, {_NAME: json.dumps(rows)} if connection.dialect.name == _POSTGRESQL else rows)


@cache
def _update_each(dialect: str, key: Column[Any], names: tuple[str, ...]) -> Any:
    table: Table = key.table
    if dialect == _POSTGRESQL:
        given = _rows({_KEY: key, **{f"new_{name}": table.c[name] for name in names}})
        return update(table).where(key == given.c[_KEY]).values({name: given.c[f"new_{name}"] for name in names})
    new: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    return update(table).where(key == bindparam(_KEY)).values(new)


def _rows(typed: Mapping[str, Column[Any]]) -> FromClause:
    """The rows that are handed over, with columns of these names that have the types of others."""
    named = (column(name, other.type) for name, other in typed.items())
    return func.jsonb_to_recordset(_as_json()).table_valued(*named).render_derived("given", with_types=True)


def _as_json() -> ColumnElement[Any]:
    return cast(bindparam(_NAME, type_=Text()), import_module("sqlalchemy.dialects.postgresql").JSONB)
