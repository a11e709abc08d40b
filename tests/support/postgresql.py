"""A PostgreSQL server of the tests' own, on a port of its own, as a user who may run one.

Must stay true: it is gone when the `with` block ends, with its data; it answers on 127.0.0.1 only.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
import pytest

from dormouse_host import processes
from dormouse_host.broker.local import HOST, free_port
from dormouse_host.ledger.database import Database

USER = "nobody"  # root may not run PostgreSQL
_TEMPLATE = "ledger"


def need_postgresql() -> Path:
    """The folder of its programs, or the end of this test: in CI a failure."""
    found = shutil.which("initdb", path=os.pathsep.join([os.environ.get("PATH", ""), *_versions()]))
    if found is None:
        missing = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return Path(found).resolve().parent


def _versions() -> list[str]:
    return sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)


class PostgreSQL:
    """A running server. `url` is its empty database's; `fresh` makes more."""

    def __init__(self, programs: Path, *, durable: bool = False) -> None:
        """`durable`: a commit waits for the disk, as it does where a ledger is in use."""
        self._programs = programs
        self._durable = durable
        self._folder = Path(tempfile.mkdtemp(prefix="dormouse-postgresql-"))
        self._port = free_port()
        self._as: list[str] = []
        if os.geteuid() == 0:
            os.chown(self._folder, pwd.getpwnam(USER).pw_uid, -1)
            self._as = ["setpriv", "--reuid", USER, "--clear-groups", "--"]
        self.url = self._url("postgres")
        self._made = 0
        self._has_template = False

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}@{HOST}:{self._port}/{database}"

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The URL of a database that holds an empty ledger, for as long as the block lasts. It is a copy of a template,
        which takes a fifth of the time that the migrations take.
        """
        if not self._has_template:
            self._has_template = True
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {_TEMPLATE}")
            Database(self._url(_TEMPLATE)).close()
        with self.copy(self._url(_TEMPLATE)) as url:
            yield url

    @contextmanager
    def empty(self) -> Iterator[str]:
        """The URL of a database that holds nothing, for as long as the block lasts."""
        with self.copy(self._url("template0")) as url:
            yield url

    @contextmanager
    def copy(self, url: str) -> Iterator[str]:
        """The URL of a copy of a database, for as long as the block lasts. Ends the connections to the original."""
        self._made += 1
        name, original = f"ledger_{self._made}", url.rpartition("/")[2]
        with psycopg.connect(self.url, autocommit=True) as connection:
            ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
            connection.execute(ended, [original])
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {original}")
            try:
                yield self._url(name)
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def __enter__(self) -> Self:
        data = self._folder / "data"
        initdb = [*self._as, str(self._programs / "initdb"), "-D", str(data), "-A", "trust", "-U", USER, "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=self._folder)
        settings = [f"port={self._port}", f"listen_addresses={HOST}", f"unix_socket_directories={self._folder}"]
        if not self._durable:
            settings.append("fsync=off")  # a test may end the server, but not the machine
        options = [word for setting in settings for word in ("-c", setting)]
        argv = [*self._as, str(self._programs / "postgres"), "-D", str(data), *options]
        with (self._folder / "log").open("wb") as log:
            self._child = processes.start(argv, output=log)
        for _ in range(200):
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return self
            except psycopg.OperationalError:
                time.sleep(0.1)
        pytest.fail("PostgreSQL did not start: " + (self._folder / "log").read_text())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.send_signal(signal.SIGINT)  # a fast shutdown
        self._child.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)
