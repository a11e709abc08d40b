"""Where a test's ledger is kept: the tests of the ledger run on SQLite and on PostgreSQL.

Must stay true: each test has a ledger of its own, and one server serves all tests of a process.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dormouse_host.ledger.store import Ledger
from support.postgresql import PostgreSQL, need_postgresql

sqlite_only = pytest.mark.parametrize("where", ["sqlite"], indirect=True)  # the test is about SQLite's file


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    """A server, from the first test that needs one to the end of the process."""
    with PostgreSQL(need_postgresql()) as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: PostgreSQL) -> Iterator[str]:
    """An empty ledger on PostgreSQL."""
    with postgresql_server.fresh() as url:
        yield url


@pytest.fixture
def sqlite_file(tmp_path: Path) -> str:
    """The path of a ledger that is not there yet, for a test about files."""
    return str(tmp_path / "ledger.db")


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest) -> str:
    """The test runs twice: once per kind of database."""
    found: str = request.getfixturevalue("sqlite_file" if request.param == "sqlite" else "postgresql_url")
    return found


@pytest.fixture
def backup(request: pytest.FixtureRequest, tmp_path: Path, where: str) -> Iterator[Callable[[], str]]:
    """Makes copies of the ledger as it is at that moment, and says where they are."""
    with ExitStack() as copies:

        def make() -> str:
            if "://" in where:
                server: PostgreSQL = request.getfixturevalue("postgresql_server")
                return copies.enter_context(server.copy(where))
            target = tmp_path / "copy.db"
            with Ledger(where) as ledger:
                ledger.back_up(target)
            return str(target)

        yield make
