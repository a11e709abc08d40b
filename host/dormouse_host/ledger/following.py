"""Following a ledger: each of its events once, from a cursor on, also across a restart.

Must stay true: nothing is given that a key below it may still be missing of. SQLite has one writer, so its keys come in
the order of the commits. On PostgreSQL a key is drawn before the commit, and another transaction may commit a higher
one first. Whoever inserts into a table holds a lock on it (ROW EXCLUSIVE) from before the key is drawn until the end.
So the highest key is read first, then who holds such locks, and all below that key is read once those are gone.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Self

from sqlalchemy import Connection, delete, insert, select, text

from dormouse_host.errors import HostError
from dormouse_host.ledger import events, schema, watch
from dormouse_host.ledger.database import Database
from dormouse_host.ledger.events import Event, Place, Wanted

_PATIENCE = 20.0  # seconds that a beginning waits for transactions under way
_WRITERS = text(
    "SELECT DISTINCT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock'"
    " AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    f" AND relation IN ({', '.join(f'CAST({name!r} AS regclass)' for name in events.TABLES)})"
)


class Following:
    """An iterator over the events of a ledger, a context manager, for one thread at a time. After an error `next` goes
    on where it was.
    """

    def __init__(
        self,
        database: Database,
        wanted: Wanted,
        after: str | None,
        timeout: float | None,
        name: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`after`: a cursor; None: what comes from now on. `timeout`: the iterator ends after so many seconds without
        an event; None: never. `name`: that of a cursor which `keep` has stored, and which replaces `after` then.
        """
        self._name = name
        self._clock = clock
        self._database = database
        self._wanted = wanted
        self._timeout = timeout
        self._watch: watch.Watch | None = None
        self._waiting: deque[Event] = deque()
        self._pending: tuple[Place, set[str]] | None = None  # a place, and who may commit something below it
        self._is_behind = True  # is there more to read than was looked at?
        self._looked = 0.0
        kept = self._kept() if name else None
        after = after if kept is None else kept
        start = events.read(after) if after is not None else None
        upto = self._now() if start is None else self._heads()[0]
        # a cursor above all that is there is of a ledger that was put back since
        self._place = upto if start is None else tuple(map(min, start, upto))
        self._settled = self._place  # all below is committed, or never will be
        self._given = self._place

    @property
    def cursor(self) -> str:
        """The place behind what was given, also where nothing was."""
        return events.written(self._given if self._waiting else self._place)

    @property
    def ahead(self) -> int:
        """Events that are read and not yet given: those that come without waiting."""
        return len(self._waiting)

    def keep(self) -> None:
        """Store the cursor in the ledger, under the name that this has. HostError without one."""
        if self._name is None:
            raise HostError("no name to keep a cursor under: on(name=…)", 2)
        kept = {"name": self._name, "cursor": self.cursor, "at": self._clock()}
        with self._database.writing() as connection:
            connection.execute(delete(schema.cursors).where(schema.cursors.c.name == self._name))
            connection.execute(insert(schema.cursors), kept)

    def close(self) -> None:
        """Give up the connection with which it waits."""
        found, self._watch = self._watch, None
        if found:
            found.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_watch", None):
            self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while (event := self.poll()) is None:
            left = watch.EVERY if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise StopIteration
            self.rest(left)
        return event

    # ---- for who waits otherwise

    @property
    def timeout(self) -> float | None:
        """Seconds without an event after which it ends."""
        return self._timeout

    @property
    def socket(self) -> int | None:
        """It becomes readable when something may be new; None where nothing tells."""
        return self._watch.socket if self._watch else None

    @property
    def pause(self) -> float:
        """Seconds until the next look is due at the earliest."""
        return max(0.0, self._looked + watch.APART - time.monotonic())

    def waiting(self) -> Event | None:
        """The next event of those that were read already."""
        if not self._waiting:
            return None
        event = self._waiting.popleft()
        self._given = events.read(event.cursor)
        return event

    def poll(self) -> Event | None:
        """The next event, if there is one by now."""
        self.look()
        return self.waiting()

    def rest(self, seconds: float) -> None:
        """Until it is time to look again, at most so long."""
        if self._watch:
            watch.wait(self._watch, seconds)
        time.sleep(min(seconds, self.pause))

    def look(self) -> None:
        """Read what is new, where all that was read is given."""
        if self._waiting:
            return
        try:
            if self._watch is None:
                self._watch = watch.watch(self._database)
            if self._watch.changed():
                self._is_behind = True
            while self._is_behind and not self._waiting:
                self._read()
        except BaseException:
            self.close()
            self._is_behind = True
            raise
        finally:
            self._looked = time.monotonic()

    # ---- reading

    def _read(self) -> None:
        """What is settled above the place; where nothing is, everything is read."""
        heads, writers = self._heads()
        if self._pending and not self._pending[1] & writers:
            self._settled, self._pending = self._pending[0], None
        if not writers:
            self._settled, self._pending = heads, None
        elif not self._pending:
            self._pending = heads, writers
        with self._database.reading() as connection:
            found, place = events.between(connection, self._place, self._settled, self._wanted)
        self._is_behind = bool(found)
        self._waiting.extend(found)
        self._place = place

    def _heads(self) -> tuple[Place, set[str]]:
        """The place behind all that is committed, and then the transactions that may commit something below it."""
        with self._database.reading() as connection:
            return events.heads(connection), self._writers(connection)

    def _kept(self) -> str | None:
        query = select(schema.cursors.c.cursor).where(schema.cursors.c.name == self._name)
        with self._database.reading() as connection:
            found: str | None = connection.execute(query).scalar()
            return found

    def _writers(self, connection: Connection) -> set[str]:
        return set() if self._database.is_file else set(connection.execute(_WRITERS).scalars())

    def _now(self) -> Place:
        """The place behind all that is committed, once nothing below it can be committed any more."""
        heads, writers = self._heads()
        deadline = time.monotonic() + _PATIENCE
        while writers and time.monotonic() < deadline:
            time.sleep(0.02)
            with self._database.reading() as connection:
                writers &= self._writers(connection)
        return heads
