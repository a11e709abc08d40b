"""The database of a ledger: opened, brought to the format of this release, and its transactions.

A transaction that writes takes SQLite's lock at its start, so it never fails half-way for somebody else's. COMMIT
returns when the data is on disk. The format is changed under a lock, by one process at a time; a database that is newer
or not a ledger is left as it is. A file made here is its owner's alone, because keys lie in it. Every wait for a
database has an end, and every error of one is a line without a password.
"""

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, SQLAlchemyError

from dormouse_host import files, places
from dormouse_host.errors import HostError
from dormouse_host.ledger import contention
from dormouse_host.ledger.schema import HEAD, VERSION_TABLE, moved

_PATIENCE = 20  # seconds to wait for another process's transaction
_IDLE = 15  # … after which PostgreSQL ends that of a process which has stopped in it: before others lose patience
_DEAD = (
    30  # seconds after which a PostgreSQL server that is silent is asked whether it is there, and is given to answer
)
_PRAGMAS = ("synchronous = FULL", "foreign_keys = ON")  # FULL: COMMIT waits for the disk
_LIMITS = {  # of a connection to PostgreSQL, where its URL says nothing else
    "connect_timeout": _PATIENCE,
    "tcp_user_timeout": 1000 * _DEAD,
    "keepalives_idle": _DEAD,
    "keepalives_interval": _DEAD // 3,
    "keepalives_count": 3,
    "options": f"-c lock_timeout={_PATIENCE}s -c idle_in_transaction_session_timeout={_IDLE}s",
}
_TOO_LONG = {"54000"}  # SQLSTATE of PostgreSQL: an index takes no text of thousands of characters
_ONE_MOMENT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
_MOVED = select(moved.c.target)
CHANNEL = "dormouse_ledger"  # of PostgreSQL's NOTIFY: something was written
LISTENERS = 0x646F726E  # of its advisory locks, the one that everybody has who listens: without them nobody is told
_MOVED_OR_TELL = text(
    f"SELECT (SELECT target FROM moved LIMIT 1) AS target, CASE WHEN pg_try_advisory_lock({LISTENERS})"
    f" THEN pg_advisory_unlock({LISTENERS}) ELSE pg_notify('{CHANNEL}', '') IS NULL END"
)
_DAMAGED = "put a copy in its place that dormouse ledger backup has made, then run dormouse ledger restored"
_REMEDIES = {  # of what SQLite says, in the order in which they are looked for
    "readonly": "give this user the right to write to the file and its folder, or give another path",
    "malformed": _DAMAGED,
    "disk I/O error": f"look whether the disk is well, and if the file is damaged {_DAMAGED}",
    "unable to open": "give this user the right to read and write the file and its folder, or give another path",
    "is full": "make room on its disk; what was stored before is whole",
}
_BACK = "dormouse ledger reopen if nobody has imported it"
_MIGRATES = threading.Lock()  # alembic has state that all threads share
_LOCK = 0x646F726D  # of PostgreSQL's advisory locks, the one under which the format is changed


def moved_to(connection: Connection) -> str | None:
    """The file that the ledger was written out to, to be used elsewhere."""
    target: str | None = connection.execute(_MOVED).scalar()
    return target


def default_url() -> str:
    """The ledger of this user, where the platform keeps such data."""
    return f"sqlite:///{_default_path()}"


def _default_path() -> Path:
    import platformdirs

    return platformdirs.user_data_path("dormouse", appauthor=False) / "ledger.db"


def _parse(where: str) -> URL:
    """A URL, or the path of a file."""
    if "://" not in where:
        try:
            return _of_file(URL.create("sqlite", database=str(Path(where).expanduser())))
        except RuntimeError:
            raise HostError(f"database {where}: there is no such user", 2) from None
    try:
        url = make_url(where)
    except (ArgumentError, ValueError):
        raise HostError("malformed database URL: write a file's path or postgresql://user@host/name", 2) from None
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite":
        return _of_file(url)
    why = "only SQLite and PostgreSQL hold a ledger: write a file's path or postgresql://user@host/name"
    raise HostError(f"database {url.drivername}: {why}", 2)


def _of_file(url: URL) -> URL:
    """What SQLite keeps nowhere holds no ledger."""
    if not url.database or ":memory:" in url.database or url.query:
        raise HostError("a SQLite ledger is a file: write its path, or sqlite:///ledger.db", 2)
    return url


class NoLedger(HostError):
    """There is none yet, and none is to be made."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no ledger at {name}: dormouse relay makes one, or dormouse devices add DEVICE")


class Unstorable(HostError):
    """A value that this database does not take: a text with NUL or half a character, a number too big."""


class Gone(HostError):
    """The ledger's file is not the one that was opened: what is written to that nobody will ever read."""


class Database:
    """An open database in this release's format."""

    def __init__(self, where: str | None = None, *, make: bool = True) -> None:
        """`where`: a file's path or a URL; default_url() without. HostError where it can't be used, NoLedger where
        there is nothing yet and `make` is False.
        """
        url = _parse(where or default_url())
        self.is_file = url.get_backend_name() == "sqlite"
        self.path = Path(url.database) if self.is_file and url.database else None
        shown = url.set(drivername="postgresql").render_as_string(hide_password=True)  # as a person writes it
        self.name = str(self.path) if self.path else shown
        if self.path and not make and not self.path.exists():
            raise NoLedger(self.name)
        self.engine = self._engine(url)
        try:
            self._file = self._identity()
            self._bring_up_to_date(make=make)
        except BaseException:
            self.close()
            raise

    def _engine(self, url: URL) -> Engine:
        if self.path:
            _find_or_make(self.path)
            engine = create_engine(url, connect_args={"timeout": _PATIENCE, "isolation_level": None})
            event.listen(engine, "connect", _set_up_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        try:
            limits = {name: value for name, value in _LIMITS.items() if name not in url.query}
            return create_engine(url, pool_pre_ping=True, connect_args=limits)
        except ModuleNotFoundError:
            raise HostError("PostgreSQL needs a driver: pip install 'dormouse-mqtt[postgresql]'", 2) from None

    def _identity(self) -> tuple[int, int] | None:
        """Which file this is, whatever it is called; None on a server."""
        if self.path is None:
            return None
        try:
            found = self.path.stat()
        except FileNotFoundError:
            raise Gone(f"database {self.name}: the file was deleted while this was at work") from None
        except OSError as error:
            raise HostError(f"database {self.name}: {error.strerror}") from None
        return found.st_dev, found.st_ino

    def check_file(self) -> None:
        """Gone where a SQLite ledger's file was deleted, or replaced by another, since it was opened."""
        if self._identity() != self._file:
            raise Gone(f"database {self.name}: the file was replaced while this was at work")

    @contextmanager
    def writing(self, *, even_moved: bool = False) -> Iterator[Connection]:
        """A transaction that may write. It commits nothing to a file that is not there any more, nor, without
        `even_moved`, to a ledger that was moved: who wrote it out has had the tables locked, so the end sees that.
        Whoever listens on PostgreSQL is told with the commit.
        """
        self.check_file()
        with self.errors(), self.engine.begin() as connection:
            yield connection
            at = connection.execute(_MOVED if self.is_file else _MOVED_OR_TELL).first()
            if not even_moved and at and at.target:
                raise HostError(f"database {self.name} was moved to {at.target}: use it there, or {_BACK}", 2)
            self.check_file()

    @contextmanager
    def reading(self, *, slowly: bool = False) -> Iterator[Connection]:
        """A transaction that sees one moment and writes nothing. `slowly`: it may pause, for as long as somebody reads
        what it has found so far.
        """
        self.check_file()
        how = {"reading": True} if self.is_file else _ONE_MOMENT
        with self.errors(), self.engine.connect().execution_options(**how) as connection, connection.begin():
            if slowly and not self.is_file:
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            yield connection

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What the database says of an error, as a HostError of one line."""
        try:
            yield
        except DBAPIError as error:
            why = (str(error.orig).strip().splitlines() or ["no reason given"])[0]
            if self.is_file and "not a database" in why:
                raise _not_ours(self.name) from None
            state = getattr(error.orig, "sqlstate", None)
            if isinstance(error, DataError) or state in _TOO_LONG:
                raise Unstorable(f"database {self.name}: {why}", 2) from None
            if self.is_file:
                why = _with_remedy(why)
            raise contention.busy(self.name, state, why) or HostError(f"database {self.name}: {why}") from None
        except (UnicodeError, OverflowError) as error:  # of the driver, which SQLAlchemy lets through
            raise Unstorable(f"database {self.name}: {type(error).__name__}: {error}", 2) from None
        except SQLAlchemyError as error:
            raise HostError(f"database {self.name}: {type(error).__name__}") from None

    def _bring_up_to_date(self, *, make: bool) -> None:
        with self.reading() as connection:
            version = self._version(connection)
        if version == HEAD:
            return
        if version is None and not make:
            raise NoLedger(self.name)
        if self.path:
            _keep_a_log(self.path)
        with self.writing() as connection:
            if not self.is_file:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            if self._version(connection) != HEAD:  # nobody did it meanwhile
                self._migrate(connection)

    def _version(self, connection: Connection) -> str | None:
        """The format's number, None for an empty database; HostError for one that is not a ledger."""
        tables = set(inspect(connection).get_table_names())
        if VERSION_TABLE in tables:
            version: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
            return version
        if tables and (self.is_file or "commands" in tables):
            raise _not_ours(self.name)
        return None

    def _migrate(self, connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        version = self._version(connection)
        known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
        if version is not None and version not in known:
            raise HostError(f"database {self.name}: made by a newer dormouse (format {version}); update this one", 2)
        config.attributes["connection"] = connection
        with _MIGRATES:
            command.upgrade(config, "head")

    def back_up(self, target: Path) -> None:
        """Write a consistent copy of a SQLite ledger to a new file."""
        if not self.path:
            raise HostError("a PostgreSQL ledger is backed up with pg_dump", 2)
        if os.path.lexists(target):
            raise HostError(f"{target} exists already; nothing was written", 2)
        try:
            with tempfile.TemporaryDirectory(prefix=".backup-", dir=self.path.parent) as ours:
                self._copy(Path(ours, "copy"))
                with files.new(target) as file, Path(ours, "copy").open("rb") as copy:
                    shutil.copyfileobj(copy, file)
                    file.flush()
                    os.fsync(file.fileno())
        except FileExistsError:
            raise HostError(f"{target} exists already; nothing was written", 2) from None
        except (OSError, sqlite3.Error) as error:
            raise HostError(f"backup to {target}: {getattr(error, 'strerror', None) or error}") from None

    def _copy(self, target: Path) -> None:
        """In a folder of our own: SQLite opens its files by their paths."""
        source, copy = sqlite3.connect(str(self.path)), sqlite3.connect(target)
        try:
            source.backup(copy)
        finally:
            copy.close()
            source.close()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _find_or_make(path: Path) -> None:
    """An empty file that only its owner may read, unless there is one; what SQLite puts beside it is as the file is.

    SQLite opens both by their paths, so the folder is one in which no other user may write, but for its own group. It
    is made for this user's own ledger alone: another path that leads nowhere is mistyped.
    """
    try:
        with places.folder(path.parent, 0o700 if path == _default_path() else None):
            places.settled(path)
        with contextlib.suppress(FileExistsError):
            files.new(path).close()
    except FileNotFoundError:
        why = f"no file can be made in {path.parent}: give another path"
        if not path.parent.is_dir():
            why = f"there is no folder {path.parent}: make it, or give another path"
        raise HostError(f"database {path}: {why}") from None
    except places.Unsafe as error:
        raise HostError(f"database {path}: {error.strerror}: give a path in a folder of your own", 2) from None
    except OSError as error:
        why = f"{error.strerror}: give a path in a folder in which this user may make files"
        raise HostError(f"database {path}: {why}") from None


def _not_ours(name: str) -> HostError:
    return HostError(f"database {name}: this is not a dormouse ledger; nothing was changed: give another path", 2)


def _with_remedy(why: str) -> str:
    """What SQLite says of an error, with what to do where that is known."""
    return next((f"{why}: {remedy}" for words, remedy in _REMEDIES.items() if words in why), why)


def _keep_a_log(path: Path) -> None:
    """Have a new file work with a write-ahead log from now on: readers and one writer do not wait for each other."""
    deadline = time.monotonic() + _PATIENCE
    connection = sqlite3.connect(path, timeout=_PATIENCE)
    try:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:  # SQLite does not wait here for who does the same
                if time.monotonic() > deadline:
                    raise HostError(f"database {path}: {_with_remedy(str(error))}") from None
                time.sleep(0.02)
    finally:
        connection.close()


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
