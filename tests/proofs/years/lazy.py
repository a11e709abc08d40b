"""Statements that are noted while the ledger makes them, and made by SQLAlchemy once for each form.

Must stay true: what is noted is made by the same calls on the same objects, with a named parameter in the place of each
value; what is no plain value, table or column is part of no form, and its statement is made anew each time. Whoever
takes a note for SQLAlchemy's own gets that.
"""

import pkgutil
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager
from functools import cache, partial
from importlib import import_module
from typing import Any

import sqlalchemy
from sqlalchemy import Column, Table, bindparam
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import ClauseElement

from dormouse_host import ledger
from dormouse_host.ledger import given
from proofs.years.swap import swapped

_PLAIN = {str, int, float, bytes}
_LISTS = {list, set, frozenset, tuple}
_OBJECTS = (Column, Table)
_OPEN = {  # whose arguments are values, and no part of the text
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__add__", "__sub__", "__radd__", "__rsub__"),
    *("__mul__", "in_", "not_in", "values", "limit", "offset"),
}
_FUNCTIONS = (
    *(sqlalchemy.select, sqlalchemy.insert, sqlalchemy.update, sqlalchemy.delete, sqlalchemy.or_, sqlalchemy.and_),
    given.among,
)
_PROPERTIES = {"table", "type", "name", "key", "c"}  # of a column, and of a subquery
_NAMES = [f"noted_{n}" for n in range(200)]


class Note:
    """One call, of a function or of a method of what another note stands for."""

    __slots__ = ("_args", "_form", "_how", "_of", "_op", "_real", "_values")
    _form: Hashable
    _values: list[Any]

    def __init__(self, op: Any, of: "Note | None", args: tuple[Any, ...], how: dict[str, Any]) -> None:
        self._op, self._of, self._args, self._how = op, of, args, how
        self._real: Any = None
        form: list[Any] = [op]
        values: list[Any] = []
        known = True
        if of is not None:
            known = of._form is not None
            form.append(of._form)
            values += of._values
        literal = op not in _OPEN
        for arg in args:
            known = known and _read(arg, form, values, literal)
        if how:
            known = known and _read(how, form, values, literal)
        self._form = tuple(form) if known else None
        self._values = values

    def _make(self, parameters: Iterator[Any] | None) -> Any:
        if parameters is None and self._real is not None:
            return self._real
        of = self._of._make(parameters) if self._of is not None else None
        literal = self._op not in _OPEN
        args = [_made(arg, parameters, literal) for arg in self._args]
        how = _made(self._how, parameters, literal)
        found = (self._op if of is None else getattr(of, self._op))(*args, **how)
        if parameters is None:
            self._real = found
        return found

    # ---- as SQLAlchemy's own

    def __clause_element__(self) -> Any:
        return self._make(None)

    def _execute_on_connection(self, *args: Any) -> Any:
        return self._make(None)._execute_on_connection(*args)

    def __getattr__(self, name: str) -> Any:
        if name[0] == "_" or name == "is_clause_element":
            raise AttributeError(name)
        if name in _PROPERTIES:
            return getattr(self._make(None), name)
        return partial(_method, self, name)

    def __bool__(self) -> bool:
        return bool(self._make(None))

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> "Note":  # type: ignore[override]
        return Note("__eq__", self, (other,), {})

    def __ne__(self, other: object) -> "Note":  # type: ignore[override]
        return Note("__ne__", self, (other,), {})


def _operator(name: str) -> Any:
    return lambda self, *other: Note(name, self, other, {})


for _name in ("lt", "le", "gt", "ge", "add", "sub", "radd", "rsub", "mul", "and", "or", "invert"):
    setattr(Note, f"__{_name}__", _operator(f"__{_name}__"))


def _method(note: Note, name: str, /, *args: Any, **how: Any) -> Note:
    return Note(name, note, args, how)


def form(note: Note) -> Hashable:
    """What two notes have in common that differ in their values alone; None where there is no such thing."""
    return note._form


def values(note: Note) -> dict[str, Any]:
    """What the form leaves open, by the names of `with_parameters`."""
    return dict(zip(_NAMES, note._values, strict=False))


def with_parameters(note: Note) -> Any:
    """SQLAlchemy's statement, a parameter in the place of each value."""
    each = zip(_NAMES[: len(note._values)], note._values, strict=True)
    return note._make(bindparam(name, value, expanding=type(value) is list) for name, value in each)


def with_values(note: Note) -> Any:
    """SQLAlchemy's statement as it would have been without a note."""
    return note._make(None)


def _read(arg: Any, form: list[Any], values: list[Any], literal: bool) -> bool:
    """Add one argument to a form and its values. False where it has none."""
    kind = type(arg)
    if kind is Note:
        form.append(arg._form)
        values += arg._values
        return arg._form is not None
    if arg is None or kind is bool or (literal and kind in _PLAIN):
        form.append(("literal", arg))
    elif kind in _PLAIN:
        form.append("value")
        values.append(arg)
    elif kind is dict:
        form.append(tuple(arg))
        return all(_read(value, form, values, literal) for value in arg.values())
    elif kind in _LISTS:
        form.append("list")
        values.append(list(arg))
        return not literal and all(type(one) in _PLAIN for one in arg)
    elif isinstance(arg, _OBJECTS) or id(arg) in _lasting:
        form.append(id(arg))
    else:
        return False
    return True


def _made(arg: Any, parameters: Iterator[Any] | None, literal: bool) -> Any:
    """The argument for SQLAlchemy, in the order of `_read`."""
    kind = type(arg)
    if kind is Note:
        return arg._make(parameters)
    if kind is dict:
        return {name: _made(value, parameters, literal) for name, value in arg.items()}
    if parameters is None or literal or arg is None or not (kind in _PLAIN or kind in _LISTS):
        return arg
    return next(parameters)


class _Columns:
    """A table's columns, as notes."""

    def __init__(self, columns: Any) -> None:
        self._columns = columns
        self._notes: dict[str, Note] = {}

    def __getattr__(self, name: str) -> Note:
        note = self._notes.get(name)
        if note is None:
            note = self._notes[name] = Note(partial(_same, self._columns[name]), None, (), {})
        return note

    def __getitem__(self, name: str) -> Note:
        return getattr(self, name)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._columns)


def _same(column: Any) -> Any:
    return column


def _noting(function: Any) -> Any:
    return lambda *args, **how: Note(function, None, args, how)


_FOR_NOW = {id(function): _noting(function) for function in _FUNCTIONS}
_lasting: set[int] = set()  # ids of what the ledger's modules have made once for all
_tables: dict[int, _Columns] = {}  # by the columns' id: the ledger's tables are there for good


@cache
def _places() -> list[tuple[Any, str, Any]]:
    """(module of the ledger, name in it, what notes in its place)."""
    places: list[tuple[Any, str, Any]] = []
    for found in pkgutil.iter_modules(ledger.__path__, ledger.__name__ + "."):
        if found.ispkg:
            continue
        module = import_module(found.name)
        for name, value in vars(module).items():
            if isinstance(value, ReadOnlyColumnCollection):
                places.append((module, name, _tables.setdefault(id(value), _Columns(value))))
            elif id(value) in _FOR_NOW:
                places.append((module, name, _FOR_NOW[id(value)]))
            elif isinstance(value, ClauseElement):
                _lasting.add(id(value))
    return places


def noted() -> AbstractContextManager[None]:
    """Meanwhile the ledger's modules note what they make."""
    return swapped(_places())
