"""The ledger keeps its books: numbers, formats and copies."""

import json
import multiprocessing
import os
import sqlite3
import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, text

from dormouse_host.errors import HostError
from dormouse_host.ledger import database, schema
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Ledger
from support.ledgers import sqlite_only
from support.reports import answer, awake, end, enter, report

# ---- numbers

PROCESSES = multiprocessing.get_context("spawn")  # a fork beside threads may inherit a lock for ever


def _send_many(where: str, device: str, times: int) -> None:
    with Ledger(where) as mine:
        for _ in range(times):
            mine.enter([Order(device, "ping"), Order("shared", "ping")])


def test_several_threads_may_each_make_a_ledger_of_their_own(tmp_path):
    """The migrations' library has state that all threads share."""

    def make(number: int) -> int:
        with Ledger(str(tmp_path / f"{number}.db")) as mine:
            return mine.add_devices(["dev"])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(make, range(12))) == [1] * 12


def test_several_processes_give_no_number_twice(where):
    """Each of four writers takes numbers for its own device and for one that all share."""
    with Ledger(where) as opened:
        opened.add_devices(["shared", *(f"d{i}" for i in range(4))])
        writers = [PROCESSES.Process(target=_send_many, args=(where, f"d{i}", 10)) for i in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        assert [writer.exitcode for writer in writers] == [0] * 4
        with opened.database.reading() as connection:
            rows = [tuple(row) for row in connection.execute(text("SELECT device, ledger, number FROM commands"))]
    assert sorted(number for device, _, number in rows if device == "shared") == list(range(1, 41))
    assert max(Counter(rows).values()) == 1


def test_processes_that_make_the_same_ledger_at_once_agree_on_it(tmp_path):
    where = str(tmp_path / "ledger.db")
    with PROCESSES.Pool(3) as pool:
        names = pool.map_async(_name, [where] * 3).get(60)
    assert len(set(names)) == 1


def _name(where: str) -> str:
    with Ledger(where) as mine:
        mine.enter([Order("dev", "ping")], create=True)
        return str(mine.name("dev"))


def test_numbers_go_on_from_1_in_the_order_of_sending(ledger):
    enter(ledger, "a", "b")
    enter(ledger, "c")
    awake(ledger)
    ids = [json.loads(one.payload)["id"] for one in ledger.claim("r", "c1", 10)]
    assert ids == [f"s1-{ledger.name('dev')}.{n}" for n in (1, 2, 3)]


def test_orders_are_entered_all_or_none(ledger):
    with pytest.raises(HostError, match="device nobody is not known"):
        ledger.enter([Order("dev", "a"), Order("nobody", "a")])
    assert ledger.counts() == {}


# ---- formats


def test_migrations_make_what_the_schema_says(ledger):
    with ledger.database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, schema.metadata) == []
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).with_name("migrations")))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


def test_a_ledger_of_an_unknown_format_is_refused_and_left_alone(where):
    with Ledger(where) as ledger, ledger.database.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(HostError, match=r"made by a newer dormouse \(format 9999\)") as caught:
        Ledger(where)
    assert caught.value.code == 2
    engine = create_engine(database._parse(where))
    with engine.connect() as connection:
        version = connection.exec_driver_sql(f"SELECT version_num FROM {schema.VERSION_TABLE}").scalar()
    engine.dispose()
    assert version == "9999"


@pytest.mark.parametrize("content", [b"this is a letter, and not a database at all" * 30, None])
def test_a_file_that_is_not_a_ledger_is_refused_and_left_alone(tmp_path, content):
    file = tmp_path / "other.db"
    if content is None:
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE recipes (name TEXT)")
    else:
        file.write_bytes(content)
    before = file.read_bytes()
    with pytest.raises(HostError, match="not a d"):
        Ledger(str(file))
    assert file.read_bytes() == before


@sqlite_only
def test_a_full_disk_is_one_line_and_stores_nothing_half(ledger):
    enter(ledger, "before")
    with ledger.database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    ledger.database.close()
    event.listen(ledger.database.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(HostError, match="full"):
        enter(ledger, *["x" * 40] * 3000)
    assert ledger.counts() == {"queued": 1}


@sqlite_only
def test_a_commit_is_on_disk_before_it_returns(ledger):
    with ledger.database.reading() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]


# ---- copies


def test_a_report_with_a_higher_number_shows_that_this_ledger_is_a_copy(ledger):
    """It takes a new name for new commands; what it alone had cancelled may have been published meanwhile."""
    awake(ledger)
    (cancelled,) = enter(ledger, "a")
    old = ledger.name("dev")
    ledger.cancel(cancelled)
    (kept,) = enter(ledger, "b")
    ledger.take([report(2, end=end(1, {old: [9, "s8"]}))], "c1")
    assert ledger.name("dev") != old
    assert ledger.command(cancelled).status == "unknown"
    enter(ledger, "c")
    ids = {json.loads(one.payload)["id"] for one in ledger.claim("r", "c1", 10)}
    assert {f"s1-{old}.2", f"s1-{ledger.name('dev')}.1"} <= ids, "what was numbered keeps its id"
    assert not ledger.command(kept).final


def test_an_answer_to_other_bytes_settles_as_rejected_and_renames(ledger):
    awake(ledger)
    (name,) = enter(ledger, "a")
    old = ledger.name("dev")
    (sent,) = ledger.claim("r", "c1", 10)
    ledger.take([answer(sent, crc=1)], "c1")
    assert ledger.command(name).status == "rejected"
    assert ledger.name("dev") != old


def test_restored_said_outright_makes_what_was_open_unknown_until_an_answer_comes(ledger):
    awake(ledger)
    (name,) = enter(ledger, "a")
    old = ledger.name("dev")
    (sent,) = ledger.claim("r", "c1", 10)
    assert ledger.restored() == (1, 1)
    assert ledger.name("dev") != old
    assert ledger.command(name).status == "unknown"
    ledger.take([answer(sent)], "c1")
    assert ledger.command(name).status == "succeeded"


@sqlite_only
def test_a_backup_is_a_whole_ledger_and_never_overwrites(ledger, tmp_path):
    enter(ledger, "a", "b")
    ledger.back_up(tmp_path / "copy.db")
    with Ledger(str(tmp_path / "copy.db")) as copy:
        assert (copy.name("dev"), copy.counts()) == (ledger.name("dev"), {"queued": 2})
    with pytest.raises(HostError, match="exists already"):
        ledger.back_up(tmp_path / "copy.db")


@pytest.mark.parametrize("umask", [0o022, 0])
def test_what_is_made_is_its_owners_alone(tmp_path, monkeypatch, umask):
    """Keys and passwords lie in it; SQLite gives its two helpers the mode of the file."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "new"))
    made = tmp_path / "new" / "dormouse"
    before = os.umask(umask)
    try:
        with Ledger() as ledger:
            ledger.add_devices(["dev"])
            ledger.back_up(made / "copy.db")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["ledger.db", "ledger.db-wal", "ledger.db-shm", "copy.db"], 0o600)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (made, made.parent)] == [0o700, 0o700]
    with Ledger(str(made / "ledger.db")) as ledger:
        assert ledger.counts() == {}


@pytest.mark.parametrize("name", ["none/ledger.db", "none/below/ledger.db"])
def test_a_folder_that_is_missing_is_not_made_for_a_path_that_was_typed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for where in (name, str(tmp_path / name), f"sqlite:///{name}"):
        with pytest.raises(HostError, match=f"database .*{name}: there is no folder .*none.*: make it, or") as caught:
            Ledger(where)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@sqlite_only
def test_a_backup_that_fails_leaves_nothing_behind(ledger, tmp_path):
    with pytest.raises(HostError, match=r"backup to .*no: Not a directory"):
        ledger.back_up(tmp_path / "ledger.db" / "no")
    ledger.database.path = tmp_path  # no file that SQLite could open
    with pytest.raises(HostError, match="backup to"):
        ledger.back_up(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
