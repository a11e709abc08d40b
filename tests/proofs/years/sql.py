"""The ledger's statements on sqlite3 itself: SQLAlchemy compiles each once, and none of its work is done again.

Must stay true: text, values and rows are those that SQLAlchemy makes for SQLite, so that one seed is the same run with
this and with the ledger's own Database (test_years.py); what this can't do it refuses, by NotImplementedError.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.engine.interfaces import Dialect

from proofs.years import lazy
from proofs.years.lazy import Note

Values = Mapping[str, Any]
_Bound = tuple[
    str, list[tuple[str, int | None, Any]]
]  # text; of each value its name, its place in a list, its processor


class Result:
    """Rows, all of them fetched."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows, self.rowcount = rows, rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> list[Any]:
        """Every row."""
        return self._rows

    def first(self) -> Any:
        """The first row, or None."""
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        """The only row. ValueError where there are more or none."""
        (row,) = self._rows
        return row

    def scalar(self) -> Any:
        """The first column of the first row, or None."""
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        """The first column of the only row."""
        return self.one()[0]

    def scalars(self) -> "Result":
        """The first column of every row."""
        return Result([row[0] for row in self._rows], self.rowcount)


class _Compiled:
    """One compiled statement: how its values become sqlite3's, and its rows the ledger's."""

    def __init__(self, compiled: Any, dialect: Dialect) -> None:
        if compiled.insert_prefetch or compiled.update_prefetch or compiled.literal_execute_params:
            raise NotImplementedError(str(compiled))
        self.compiled = compiled
        self._processors = compiled._bind_processors
        self._lists = [name for name in compiled.positiontup if compiled.binds[name] in compiled.post_compile_params]
        if any(compiled.binds[name].type._is_tuple_type for name in self._lists):
            raise NotImplementedError(str(compiled))
        self._whole: _Bound = (
            compiled.string,
            [(name, None, self._processors.get(name)) for name in compiled.positiontup],
        )
        self._expanded: dict[tuple[int, ...], _Bound] = {}
        columns = compiled._result_columns
        self.row: Callable[[tuple[Any, ...]], Any] | None = None
        if columns:
            kind = namedtuple("Row", [column.keyname for column in columns], rename=True)  # type: ignore[misc]
            self.row = self._rows(kind, [column.type._cached_result_processor(dialect, None) for column in columns])

    @staticmethod
    def _rows(kind: Any, processors: Sequence[Any]) -> Callable[[tuple[Any, ...]], Any]:
        changed = [(at, processor) for at, processor in enumerate(processors) if processor]
        if not changed:
            return kind._make  # type: ignore[no-any-return]

        def make(row: tuple[Any, ...]) -> Any:
            values = list(row)
            for at, processor in changed:
                values[at] = processor(values[at])
            return kind._make(values)

        return make

    def bound(self, values: Values) -> tuple[str, list[Any]]:
        """The text for values with lists of these lengths, and the values in their order."""
        text, order = self._whole
        if self._lists:
            key = tuple([len(values[name]) for name in self._lists])
            if key not in self._expanded:
                self._expanded[key] = self._expand(values)
            text, order = self._expanded[key]
        bound = []
        for name, at, processor in order:
            value = values[name] if at is None else values[name][at]
            bound.append(processor(value) if processor else value)
        return text, bound

    def _expand(self, values: Values) -> _Bound:
        state = self.compiled._process_parameters_for_postcompile({**values})
        source = {
            one: (name, at) for name, several in state.parameter_expansion.items() for at, one in enumerate(several)
        }
        processors = {**self._processors, **state.processors}
        return state.statement, [(*source.get(name, (name, None)), processors.get(name)) for name in state.positiontup]


class Compiler:
    """What was compiled, for as many Statements as share it."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._cache: dict[Any, Any] = {}  # SQLAlchemy's own
        self._known: dict[Any, _Compiled] = {}
        self._forms: dict[Any, tuple[_Compiled, dict[str, Any], dict[str, str]]] = {}

    def made(self, statement: Any, several: Sequence[Values]) -> tuple[_Compiled, dict[str, Any], dict[str, str]]:
        """A statement compiled for such values, the values that it has of its own, and the names of those by key."""
        shape = (len(several) > 1, *sorted(several[0])) if several else (False,)
        if type(statement) is Note:
            form = lazy.form(statement)
            if form is None:
                return self.made(lazy.with_values(statement), several)
            made = self._forms.get((form, shape))
            if made is None:
                made = self._forms[form, shape] = self.made(lazy.with_parameters(statement), several)
            return made[0], made[1] | lazy.values(statement), made[2]
        kept = statement.__dict__.get("_years")  # a statement made of another has its attributes, too
        if kept and kept[0] is statement and (found := kept[1].get(shape)):
            return found  # type: ignore[no-any-return]
        compiled, extracted, collected, _ = statement._compile_w_cache(
            self.dialect, compiled_cache=self._cache, column_keys=list(shape[1:]), for_executemany=shape[0]
        )
        if compiled not in self._known:
            self._known[compiled] = _Compiled(compiled, self.dialect)
        base = compiled.construct_params(
            several[0] if several else None,
            extracted_parameters=extracted,
            escape_names=False,
            _collected_params=collected,
        )
        names = {bind.key: name for bind, name in compiled.bind_names.items()}
        if not kept or kept[0] is not statement:
            kept = statement.__dict__["_years"] = (statement, {})
        found = kept[1][shape] = self._known[compiled], base, names
        return found


class Statements:
    """Executes on one sqlite3 connection, as a SQLAlchemy Connection does."""

    def __init__(self, connection: sqlite3.Connection, compiler: Compiler) -> None:
        self.connection, self.dialect = connection, compiler.dialect
        self._compiler = compiler
        self._cursor = connection.cursor()

    def execute(self, statement: Any, values: Values | Sequence[Values] | None = None) -> Result:
        """Execute a statement with one set of values, or with several."""
        several = [values] if isinstance(values, Mapping) else list(values or [])
        made, base, names = self._compiler.made(statement, several)
        sets = [base | {names[key]: value for key, value in one.items()} for one in several] or [base]
        if len(sets) == 1:
            return self._run(made, sets[0])
        if made.row is None:
            bound = [made.bound(one) for one in sets]
            self._cursor.executemany(bound[0][0], [values for _, values in bound])
            return Result([], self._cursor.rowcount)
        rows = [row for one in sets for row in self._run(made, one)]
        return Result(rows, len(rows))

    def _run(self, made: _Compiled, values: Values) -> Result:
        cursor = self._cursor
        cursor.execute(*made.bound(values))
        found = cursor.fetchall() if made.row else []
        return Result([made.row(row) for row in found] if made.row else found, cursor.rowcount)
