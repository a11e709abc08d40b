"""Who waits for a ledger to change: told by PostgreSQL, asked of SQLite once a second.

A change that is missed costs a second, and nothing more: whoever waits looks again by then.
"""

import select
import sqlite3
import time
from typing import Any, Protocol

from sqlalchemy import text

from dormouse_host.errors import HostError
from dormouse_host.ledger.database import CHANNEL, LISTENERS, Database

EVERY = 1.0  # seconds between two looks at a ledger that tells nothing
APART = 0.1  # seconds between two looks at one that does: what is written meanwhile is read together


class Watch(Protocol):
    """Says whether a ledger has changed. `socket`: it becomes readable when that is so; None where nothing tells."""

    socket: int | None

    def changed(self) -> bool:
        """May anything be new since the last call? HostError where the database can't be reached any more."""

    def close(self) -> None:
        """Give its connection up."""


def watch(database: Database) -> Watch:
    """A watch of a database, on a connection of its own."""
    return _Server(database) if database.path is None else _File(database)


def wait(found: Watch, seconds: float) -> None:
    """Until something may be new, at most so long."""
    if found.socket is None:
        time.sleep(min(seconds, EVERY))
    else:
        select.select([found.socket], [], [], min(seconds, EVERY))


class _File:
    """A SQLite file: its number rises with each commit of another connection."""

    socket: int | None = None

    def __init__(self, database: Database) -> None:
        self._database = database
        self._number: int | None = None
        database.check_file()  # SQLite would make a new one
        try:
            self._connection = sqlite3.connect(str(database.path), isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise HostError(f"database {database.name}: {error}") from None

    def changed(self) -> bool:
        self._database.check_file()
        try:
            (number,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            raise HostError(f"database {self._database.name}: {error}") from None
        before, self._number = self._number, int(number)
        return self._number != before

    def close(self) -> None:
        self._connection.close()


class _Server:
    """PostgreSQL: LISTEN. What is written shows that somebody listens by a lock that ends with the connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.errors():
            self._connection = database.engine.connect()
            try:
                self._connection.execution_options(isolation_level="AUTOCOMMIT")
                driver: Any = self._connection.connection.driver_connection
                self.socket: int | None = driver.fileno()
                self._connection.detach()  # never another's again: it would still be told
                self._connection.execute(text(f"LISTEN {CHANNEL}"))
                self._connection.execute(text("SELECT pg_advisory_lock_shared(:key)"), {"key": LISTENERS})
            except BaseException:
                self._connection.close()
                raise

    def changed(self) -> bool:
        with self._database.errors():
            self._connection.execute(text("SELECT 1"))  # takes in what was told meanwhile
        return True

    def close(self) -> None:
        self._connection.close()
