"""Lists of values that are handed to the database as one parameter, as JSON, and joined with its tables.

The statement's text is the same for any number of values, so it is compiled once and planned once.
"""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Text, bindparam, cast, func
from sqlalchemy.types import TypeEngine

_KINDS: dict[type, TypeEngine[Any]] = {str: Text(), int: BigInteger()}
_NAME = "given"  # of the parameter


@cache
def columns(dialect: str, *kinds: type) -> tuple[ColumnElement[Any], ...]:
    """The columns, of these types (str or int), of the table that the parameter is."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import JSONB  # takes long to load

        every = func.jsonb_array_elements(cast(bindparam(_NAME, type_=Text()), JSONB)).table_valued("value")
        parts = (every.c.value.op("->>", return_type=Text())(at) for at in range(len(kinds)))
        return tuple(cast(part, _KINDS[kind]) for part, kind in zip(parts, kinds, strict=True))
    every = func.json_each(bindparam(_NAME, type_=Text())).table_valued("value")
    return tuple(func.json_extract(every.c.value, f"$[{at}]", type_=_KINDS[kind]) for at, kind in enumerate(kinds))


def values(given: Iterable[tuple[str | int, ...]]) -> dict[str, str]:
    """The parameter for these rows of it."""
    return {_NAME: json.dumps(list(given))}
