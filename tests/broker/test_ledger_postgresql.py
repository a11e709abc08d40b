"""The same ledger in PostgreSQL, with several writers and two relays at once."""

import json
import multiprocessing

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.cli import app
from dormouse_host.errors import HostError
from dormouse_host.ledger import database, rows, schema
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Incoming, Ledger
from support.relays import WITHIN, Running, greet, make_device, say, until, until_sent, wake


@pytest.fixture
def url(postgresql_url):
    return postgresql_url


def _send_many(where: str, times: int) -> None:
    with Ledger(where) as mine:
        mine.add_devices(["dev"])
        for _ in range(times):
            mine.enter([Order("dev", "ping")])


def test_several_writers_make_one_ledger_and_give_no_number_twice(postgresql_server):
    """All of them come to an empty database at once."""
    with postgresql_server.empty() as url:
        _several_writers(url)


def test_who_only_reads_makes_no_ledger(postgresql_server):
    """Neither in a database that holds nothing, nor in one of another program's."""
    with postgresql_server.empty() as url, psycopg.connect(url, autocommit=True) as other:
        for words in (["devices", "list"], ["status"], ["send", "dev", "ping"], ["relay", "check", "one"]):
            told = CliRunner().invoke(app.app, [*words, "--db", url]).exception
            said = f"no ledger at {url}: dormouse relay makes one, or dormouse devices add DEVICE"
            assert (str(told), getattr(told, "code", None)) == (said, 1)
            other.execute("CREATE TABLE IF NOT EXISTS others (a int)")
        assert other.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall() == [("others",)]
        with Fleet(url) as fleet:
            fleet.add("dev")
        with Fleet(url, make=False) as fleet:
            assert fleet.members() == ["dev"]


def _several_writers(url: str) -> None:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may inherit a lock for ever
    writers = [context.Process(target=_send_many, args=(url, 10)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    with Ledger(url) as ledger, ledger.database.reading() as connection:
        numbers = connection.execute(text("SELECT number FROM commands WHERE device = 'dev' ORDER BY number"))
        assert list(numbers.scalars()) == list(range(1, 41))
        migrated = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(migrated, schema.metadata) == []


def test_who_waits_for_another_session_is_told_after_a_while(url, monkeypatch):
    """One that never ends its transaction, for instance because its process was stopped."""
    with Ledger(url) as ledger, ledger.database.reading() as connection:
        ledger.add_devices(["dev"])
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "20s"
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "15s"
    with Ledger(url) as ledger, ledger.database.reading(slowly=True) as connection:
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "0"
    monkeypatch.setitem(database._LIMITS, "options", "-c lock_timeout=500ms")
    with psycopg.connect(url) as other, Ledger(url) as ledger:
        other.execute("SELECT * FROM devices FOR UPDATE")
        with pytest.raises(HostError, match="lock timeout") as caught:
            ledger.enter([Order("dev", "ping")])
        assert "\n" not in str(caught.value)


def test_a_process_that_was_stopped_in_its_transaction_holds_nobody_up(url, monkeypatch):
    """PostgreSQL ends that transaction before the patience of those who wait for it is over."""
    assert database._IDLE < database._PATIENCE
    monkeypatch.setitem(database._LIMITS, "options", "-c lock_timeout=20s -c idle_in_transaction_session_timeout=1s")
    with Ledger(url) as stopped, Ledger(url) as ledger, stopped.database.engine.connect() as connection:
        ledger.add_devices(["dev"])
        connection.execute(text("SELECT * FROM devices FOR UPDATE"))
        ledger.enter([Order("dev", "ping")])
        with pytest.raises(DBAPIError, match="idle-in-transaction"):
            connection.execute(text("SELECT 1"))


def test_devices_are_locked_in_one_order_whatever_the_database_sorts_by(url):
    """Between two pieces Python sorts, inside one the database: by bytes, too."""
    names = ["a_b", "aB", "aa", "Ab", "dev", "Dev2"]
    with Ledger(url) as ledger:
        with ledger.database.writing() as connection:
            connection.execute(text("DROP VIEW dormouse_devices, dormouse_commands"))  # they hold the columns' types
            connection.execute(text('ALTER TABLE devices ALTER COLUMN id TYPE text COLLATE "en-x-icu"'))
            connection.execute(text('ALTER TABLE commands ALTER COLUMN device TYPE text COLLATE "en-x-icu"'))
        ledger.add_devices(names)
        with ledger.database.writing() as connection:
            assert list(rows.lock_all(connection, names)) == sorted(names)
        ledger.enter([Order(name, "ping") for name in names])
        report = json.dumps({"wake": 1, "state": "s1"}).encode()
        ledger.take([Incoming(name, protocol.WAKE, report) for name in names], None)
        assert [one.device for one in ledger.claim("r", "c", 10)] == sorted(names)


def test_two_relays_on_one_ledger_store_results_once_and_share_the_devices(tmp_path, mosquitto, url):
    with Fleet(url) as fleet:
        fleet.add("dev")
        device = make_device(tmp_path, mosquitto)
        with Running(url, mosquitto, "one"), Running(url, mosquitto, "two"):
            greet(fleet, device)
            names = say(fleet, *"abcdef")
            until_sent(fleet, names)
            assert wake(fleet, device) == list("abcdef")
            views = [fleet.wait(name, WITHIN) for name in names]
            assert {(view.status, view.published) for view in views} == {("succeeded", 1)}
            assert wake(fleet, device) == []
            until(lambda: len(list(fleet.export("results"))) == len(names) + 1)  # its catalogue was asked for, too
            assert {fleet.result(name).published for name in names} == {1}
