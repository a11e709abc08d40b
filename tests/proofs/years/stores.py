"""Where a world's ledger lies: in memory, or as it ships, in a file.

Must stay true: a ledger that was opened works on the store's tables as they are at that moment; `restore` puts those of
the last `back_up` in their place. Whoever opens one in memory shares its one connection: no transaction waits.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from dormouse_host.errors import HostError
from dormouse_host.ledger import store
from dormouse_host.ledger.database import Database
from dormouse_host.ledger.store import Ledger
from proofs.years import lazy
from proofs.years.sql import Compiler, Statements
from proofs.years.swap import swapped

Clock = Callable[[], float]


class Store(Protocol):
    """A world's tables."""

    def open(self, clock: Clock) -> Ledger:
        """A ledger on them, as one process has it."""

    def ask(self, *query: Any) -> list[tuple[Any, ...]]:
        """Rows, by SQL of the asker's own."""

    def back_up(self) -> None:
        """Keep a copy, in the place of the one before."""

    @property
    def backed_up(self) -> bool:
        """Is there a copy?"""

    def restore(self) -> None:
        """The copy in the tables' place. No ledger is open."""

    def close(self) -> None:
        """The end."""

    def noted(self) -> AbstractContextManager[None]:
        """Meanwhile it is used."""


class Template:
    """An empty ledger, and what several worlds share of its statements."""

    def __init__(self, path: Path) -> None:
        with Ledger(str(path)) as made:
            with made.database.reading() as connection:
                self.compiler = Compiler(connection.dialect)
            self.path = path
            self.name = made.database.name


class InMemory:
    """SQLite in memory."""

    def __init__(self, template: Template) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.execute("PRAGMA foreign_keys = ON")
        with_tables = sqlite3.connect(template.path)
        with_tables.backup(self._connection)
        with_tables.close()
        self._copy: sqlite3.Connection | None = None
        self._database = _Database(template.name, Statements(self._connection, template.compiler))

    def open(self, clock: Clock) -> Ledger:
        """See Store."""
        with swapped([(store, "Database", lambda _where, make: self._database)]):
            return Ledger(clock=clock)

    def ask(self, *query: Any) -> list[tuple[Any, ...]]:
        """See Store."""
        return self._connection.execute(*query).fetchall()

    def back_up(self) -> None:
        """See Store."""
        if self._copy is None:
            self._copy = sqlite3.connect(":memory:")
        self._connection.backup(self._copy)

    @property
    def backed_up(self) -> bool:
        """See Store."""
        return self._copy is not None

    def restore(self) -> None:
        """See Store."""
        if self._copy is not None:
            self._copy.backup(self._connection)

    def close(self) -> None:
        """See Store."""
        self._connection.close()
        if self._copy:
            self._copy.close()

    def noted(self) -> AbstractContextManager[None]:
        """See Store."""
        return lazy.noted()


class _Database(Database):
    """The ledger's Database, of which only transactions and errors are used."""

    def __init__(self, name: str, statements: Statements) -> None:
        self.name, self.path, self.is_file = name, None, True
        self._statements = statements

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        run = self._statements.connection.execute
        try:
            run("BEGIN")
            try:
                yield self._statements
            except BaseException:
                run("ROLLBACK")
                raise
            run("COMMIT")
        except sqlite3.Error as error:
            raise HostError(f"database {self.name}: {error}") from error

    @contextmanager
    def writing(self, *, even_moved: bool = False) -> Iterator[Any]:
        """See Database."""
        with self.errors(), self._transaction() as statements:
            yield statements

    @contextmanager
    def reading(self, *, slowly: bool = False) -> Iterator[Any]:
        """See Database."""
        with self.errors(), self._transaction() as statements:
            yield statements

    def close(self) -> None:
        """Its connection is the store's."""


class OnDisk:
    """SQLite as it ships, in `folder`."""

    def __init__(self, template: Template, folder: Path) -> None:
        self._path, self._saved = folder / "ledger.db", folder / "saved.db"
        shutil.copyfile(template.path, self._path)

    def open(self, clock: Clock) -> Ledger:
        """See Store."""
        return Ledger(str(self._path), clock=clock)

    def ask(self, *query: Any) -> list[tuple[Any, ...]]:
        """See Store."""
        connection = sqlite3.connect(self._path)
        found = connection.execute(*query).fetchall()
        connection.close()
        return found

    def back_up(self) -> None:
        """See Store."""
        self._saved.unlink(missing_ok=True)
        with Ledger(str(self._path)) as ledger:
            ledger.back_up(self._saved)

    @property
    def backed_up(self) -> bool:
        """See Store."""
        return self._saved.exists()

    def restore(self) -> None:
        """See Store."""
        for end in ("", "-wal", "-shm"):
            Path(f"{self._path}{end}").unlink(missing_ok=True)
        shutil.copyfile(self._saved, self._path)

    def close(self) -> None:
        """See Store."""

    def noted(self) -> AbstractContextManager[None]:
        """See Store."""
        return nullcontext()
