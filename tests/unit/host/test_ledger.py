"""The ledger keeps its books: numbers, formats, copies, and what the world may send."""

import json
import multiprocessing
import os
import sqlite3
import stat
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, text

from dormouse import protocol
from dormouse_host.errors import HostError
from dormouse_host.ledger import database, entry, outbound, rows, schema
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.outbound import Ack
from dormouse_host.ledger.store import Incoming, Ledger
from dormouse_host.ledger.telemetry import follow
from support.ledgers import sqlite_only
from support.reports import NOW, Clock, answer, awake, end, end_message, enter, records, report


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(where, clock):
    with Ledger(where, clock) as opened:
        opened.add_devices(["dev"])
        yield opened


# ---- numbers

PROCESSES = multiprocessing.get_context("spawn")  # a fork beside threads may inherit a lock for ever


def _send_many(where: str, device: str, times: int) -> None:
    with Ledger(where) as mine:
        for _ in range(times):
            mine.enter([Order(device, "ping"), Order("shared", "ping")])


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


# ---- a command's life, as the database tells it


def test_a_command_waits_until_its_device_has_told_its_state(ledger):
    enter(ledger, "a")
    assert ledger.claim("r", "c1", 10) == []
    awake(ledger)
    assert len(ledger.claim("r", "c1", 10)) == 1


def test_each_status_is_an_event_with_its_time(ledger, clock):
    awake(ledger)
    (name,) = enter(ledger, "a")
    times = []
    for step in ("claim", "ack", "answer"):
        clock.now += 10
        times.append(clock.now)
        if step == "claim":
            (sent,) = ledger.claim("r", "c1", 10)
        elif step == "ack":
            ledger.acknowledged([Ack(sent.key, sent.times, True)])
        else:
            ledger.take([answer(sent, value={"x": 1})], "c1")
    view = ledger.command(name)
    assert [status for _, status, _ in view.events] == ["queued", "publishing", "sent", "succeeded"]
    assert [at for at, _, _ in view.events] == [NOW, *times]
    assert (view.value, view.settled, view.final) == ({"x": 1}, times[-1], True)


def test_a_tombstone_in_flight_is_published_once_and_again_when_it_was_lost(ledger):
    """A wake drained between it and its PUBACK, which comes in one batch with that of a publish before it."""
    awake(ledger)
    (name,) = enter(ledger, "a")
    (first,) = ledger.claim("r", "c1", 10)
    ledger.cancel(name)
    (tombstone,) = ledger.claim("r", "c1", 10)
    ledger.acknowledged([Ack(first.key, first.times, True)])
    ledger.take([report(2), end_message(end(2))], "c1")
    assert ledger.claim("r", "c1", 10) == []
    ledger.acknowledged([Ack(tombstone.key, tombstone.times, True), Ack(first.key, first.times, False)])
    ledger.take([report(3), end_message(end(3))], "c1")
    (again,) = ledger.claim("r", "c1", 10)
    assert again.payload == tombstone.payload
    assert [one.times for one in (first, tombstone, again)] == [1, 2, 3]


def test_an_answer_stored_twice_changes_nothing(ledger):
    awake(ledger)
    (name,) = enter(ledger, "a")
    (sent,) = ledger.claim("r", "c1", 10)
    ledger.take([answer(sent)], "c1")
    before = ledger.command(name)
    ledger.take([answer(sent), answer(sent)], "c1")
    assert ledger.command(name) == before
    assert len(list(ledger.export("results", 0))) == 1


def test_no_number_is_published_256_above_an_unsettled_one(ledger):
    """Below the device's window it would be stale."""
    awake(ledger)
    enter(ledger, *["a"] * 300)
    first = ledger.claim("r", "c1", 1000)
    assert len(first) == protocol.WINDOW
    ledger.take([answer(one) for one in first[1:]], "c1")
    assert ledger.claim("r", "c1", 1000) == []
    ledger.take([answer(first[0])], "c1")
    assert len(ledger.claim("r", "c1", 1000)) == 300 - protocol.WINDOW


def test_after_keeps_a_command_back_until_the_other_is_settled(ledger):
    awake(ledger)
    (first,) = enter(ledger, "a")
    enter(ledger, "b", after=first)
    (sent,) = ledger.claim("r", "c1", 10)
    assert b'"do":"a"' in sent.payload
    assert ledger.claim("r", "c1", 10) == []
    ledger.take([answer(sent, "failed")], "c1")
    (sent,) = ledger.claim("r", "c1", 10)
    assert b'"do":"b"' in sent.payload


def test_a_device_with_more_than_is_looked_at_keeps_no_other_back(ledger):
    """Neither one before it that has nothing open, as after every wake, nor one behind it."""
    ledger.add_devices(["aaa", "zzz"])
    for name in ("aaa", "dev", "zzz"):
        ledger.take([replace(report(1), device=name)], "c0")
    ledger.enter([Order(name, "ping") for name in ["dev"] * 2100 + ["zzz"]])
    claimed = [one.device for _ in range(4) for one in ledger.claim("r", "c1", 500)]
    assert (claimed.count("dev"), claimed.count("zzz")) == (protocol.WINDOW, 1)


def test_a_device_belongs_to_one_relay_until_its_lease_runs_out(ledger, clock):
    awake(ledger)
    enter(ledger, "a", "b")
    assert len(ledger.claim("one", "c1", 1)) == 1
    assert ledger.claim("two", "c2", 10) == []
    clock.now += 31
    assert len(ledger.claim("two", "c2", 10)) == 1


def test_a_relay_that_is_alive_keeps_its_name_and_a_dead_one_loses_it(ledger, clock):
    mine = ledger.register("r")
    with pytest.raises(HostError, match="is alive"):
        ledger.register("r")
    clock.now += 31
    other = ledger.register("r")
    assert not ledger.keep_alive("r", mine)
    awake(ledger)
    enter(ledger, "a")
    assert len(ledger.claim("r", "c1", 10)) == 1
    ledger.release("r", mine)  # it ends before it has noticed
    assert ledger.keep_alive("r", other)
    enter(ledger, "b")
    assert ledger.claim("another", "c2", 10) == []
    ledger.release("r", other)
    assert not ledger.keep_alive("r", other)
    assert len(ledger.claim("another", "c2", 10)) == 1


def test_a_killed_relay_comes_back_at_once_even_with_its_old_process_number(ledger, monkeypatch):
    """In a container that is started again every relay is process 1 of the same host."""
    ledger.register("r")
    monkeypatch.setattr(outbound, "_ours", set())
    ledger.register("r")


def test_a_command_that_is_pruned_while_it_is_cancelled_is_not_there(ledger, monkeypatch):
    """On PostgreSQL nothing is locked before its device is known."""
    (name,) = enter(ledger, "a")
    monkeypatch.setattr(rows, "load", lambda *_: [])
    with ledger.database.writing() as connection:
        assert entry.cancel(connection, name, NOW) is None


def test_cancelled_before_it_left_is_final_and_after_it_a_tombstone_follows(ledger):
    awake(ledger)
    early, late = *enter(ledger, "a"), *enter(ledger, "b")
    assert ledger.cancel(early).status == "cancelled"
    ledger.claim("r", "c1", 10)
    assert ledger.cancel(late).status == "publishing"
    (tombstone,) = ledger.claim("r", "c1", 10)
    assert json.loads(tombstone.payload) == {"id": f"s1-{ledger.name('dev')}.2", "u": late, "void": "cancelled"}
    assert tombstone.lifetime is None
    ledger.take([answer(tombstone, "cancelled")], "c1")
    assert ledger.command(late).status == "cancelled"


def test_overdue_commands_expire_alone_or_by_tombstone(ledger, clock):
    awake(ledger)
    (sent_name,) = enter(ledger, "a", expires=int(NOW) + 60)
    (sent,) = ledger.claim("r", "c1", 10)
    assert sent.lifetime == 60
    (kept_name,) = enter(ledger, "b", expires=int(NOW) + 60)
    clock.now += 61
    (tombstone,) = ledger.claim("r", "c1", 10)
    assert b'"void":"expired"' in tombstone.payload
    assert ledger.command(kept_name).status == "expired"
    ledger.take([answer(sent)], "c1")
    assert ledger.command(sent_name).status == "succeeded", "the device had done it: its answer is the truth"


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
def test_what_is_made_is_its_owners_alone(tmp_path, umask):
    """Keys and passwords lie in it; SQLite gives its two helpers the mode of the file."""
    before = os.umask(umask)
    try:
        with Ledger(str(tmp_path / "new" / "ledger.db")) as ledger:
            ledger.add_devices(["dev"])
            ledger.back_up(tmp_path / "new" / "copy.db")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["ledger.db", "ledger.db-wal", "ledger.db-shm", "copy.db"], 0o600)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@sqlite_only
def test_a_backup_that_fails_leaves_nothing_behind(ledger, tmp_path):
    with pytest.raises(HostError, match=r"backup to .*no: Not a directory"):
        ledger.back_up(tmp_path / "ledger.db" / "no")
    ledger.database.path = tmp_path  # no file that SQLite could open
    with pytest.raises(HostError, match="backup to"):
        ledger.back_up(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_wiped_device_leaves_what_was_open_unknown_and_never_published_again(ledger):
    awake(ledger)
    (name,) = enter(ledger, "a")
    ledger.claim("r", "c1", 10)
    ledger.take([report(1, state="s2")], "c1")
    assert ledger.command(name).status == "unknown"
    for wake in range(2, 6):
        ledger.take([report(wake, state="s2", end=end(wake - 1, state="s2", present=False))], "c1")
        assert ledger.claim("r", "c1", 10) == []


# ---- what devices say of themselves


def test_a_report_says_nothing_of_who_it_came_from_and_when(ledger):
    ledger.take([report(1, device="another", at=1, kind="x")], "c0")
    (row,) = ledger.export("wakes", 0)
    assert (row["device"], row["at"], list(row)[:2]) == ("dev", NOW, ["device", "at"])


def test_an_entry_that_is_not_legible_costs_the_others_of_its_message_nothing(ledger):
    awake(ledger)
    (name,) = enter(ledger, "a")
    (sent,) = ledger.claim("r", "c1", 10)
    good = json.loads(answer(sent).payload)
    (wrong,) = ledger.take([Incoming("dev", protocol.RESULT, json.dumps([5, *good, {"status": "x"}]).encode())], "c1")
    assert wrong == "dev/up/result: 2 of 3 left out: not an object"
    assert ledger.command(name).status == "succeeded"
    batch = {"state": "s1", "records": [[1, 0, {}], ["x", 0, {}], [3, 0, {}]]}
    (wrong,) = ledger.take([Incoming("dev", protocol.TELEMETRY, json.dumps(batch).encode())], "c1")
    assert wrong == "dev/up/telemetry: 1 of 3 left out: not a whole number in range"
    assert [row["number"] for row in ledger.export("telemetry", 0)] == [1, 3]
    assert len(ledger.take([Incoming("dev", protocol.RESULT, b"[5]")], "c1")) == 1


def test_the_log_of_a_wiped_device_shows_its_newest_records(ledger, clock):
    """Their numbers begin again at 1."""
    awake(ledger)
    ledger.take([records(*range(1, 101))], "c1")
    clock.now += 60
    ledger.take([report(1, state="s2"), records(1, 2, state="s2")], "c1")
    lines = [line for line in ledger.timeline("dev", 10) if line.kind == "telemetry"]
    assert [line.fields["number"] for line in lines if line.at == clock.now] == [1, 2]


def test_the_log_is_as_long_as_it_is_asked_to_be(ledger):
    """SQLite takes 32,766 values in one statement, PostgreSQL 65,535."""
    with ledger.database.writing() as connection:
        stored = [
            {"device": "dev", "at": NOW, "id": f"s1-l.{n}", "status": "succeeded", "digest": str(n)}
            for n in range(1, 12_001)
        ]
        connection.execute(schema.results.insert(), stored)
    assert len(ledger.timeline("dev", 100_000)) == len(stored)


# ---- telemetry


def test_telemetry_is_stored_once_and_a_missing_tail_is_asked_for_once(ledger):
    awake(ledger)
    ledger.take([records(1, 2), records(2, 4, age=30)], "c1")
    assert [row["number"] for row in ledger.export("telemetry", 0)] == [1, 2, 4]
    assert [row["time"] for row in ledger.export("telemetry", 0)] == [NOW, NOW, NOW - 30]
    last = end(1, acked=6)
    ledger.take([end_message(last)], "c1")
    assert ledger.counts() == {}, "judged from the repetition at QoS 1"
    ledger.take([report(2, end=last)], "c1")
    (asked,) = ledger.claim("r", "c1", 10)
    assert json.loads(asked.payload)["args"] == {"from": 3, "to": 6}
    ledger.take([report(3, end=end(2, acked=6))], "c1")
    assert ledger.counts() == {"publishing": 1}, "one question at a time"
    ledger.take([records(5, 6), answer(asked, value={"dropped": 1})], "c1")
    ledger.take([report(4, end=end(3, acked=6))], "c1")
    assert ledger.counts() == {"succeeded": 1}
    assert ledger.devices("dev")[0].dropped == 1


def test_what_a_wiped_flash_was_known_to_hold_and_never_came_is_counted(ledger):
    """The broker had acknowledged 9 records to the device, and 2 of them are stored; nobody can ask for the others."""
    awake(ledger)
    ledger.take([records(1, 7), end_message(end(1, acked=9)), report(1, state="s2")], "c1")
    assert ledger.devices("dev")[0].dropped == 7
    assert ledger.counts() == {}, "and nobody asks"
    ledger.take([report(2, state="s2", end=end(1, acked=0, state="s2"))], "c1")
    assert ledger.devices("dev")[0].dropped == 7


@pytest.mark.parametrize(
    "spans, expected",
    [
        ([], (0, 0, [(1, 9)])),
        ([(1, 1, False), (2, 2, False)], (2, 0, [(3, 9)])),
        ([(n, n, False) for n in range(1, 10)], (9, 0, [])),
        ([(1, 4, True), (5, 9, True)], (9, 9, [])),
        ([(1, 4, True), (2, 2, False), (5, 5, False)], (5, 3, [(6, 9)])),
        ([(2, 2, False), (4, 4, False), (9, 9, False)], (0, 0, [(1, 1), (3, 3), (5, 8)])),
        ([(n, n, False) for n in range(1, 15)], (14, 0, [])),
    ],
)
def test_gaps_are_what_is_neither_there_nor_gone(spans, expected):
    assert follow(0, 9, spans) == expected


# ---- what strangers send

NASTY = [
    b"",
    b"\xff\xfe",
    b"[" * 5000,
    b"null",
    b"[null]",
    b"{}",
    b'{"wake":1e400,"state":"s1"}',
    b'{"wake":99999999999999999999,"state":"s1"}',
    b'{"wake":true,"state":"s1"}',
    b'{"wake":1,"state":"S/+"}',
    b'{"wake":1,"state":"s1","end":{}}',
    b'{"wake":1,"state":"s1","present":true,"drained":true,"acked":1,"windows":{"a":[5,"z"]}}',
    b'{"wake":1,"state":"s1","windows":{"a":[99999999999999999999999,"s"]}}',
    b'{"state":"s1","records":[[1,2]]}',
    b'{"state":"s1","records":[[99999999999999999999,1,{}]]}',
    b'{"state":"s1","records":[[0,1,{}]]}',
    b'{"state":"s1","records":[[1,NaN,{}]]}',
    b'{"state":"s1","records":[[1,1,{"v":NaN}]]}',
    b'[{"id":"s1-x.1","status":"done","crc":1}]',
    b'[{"id":"s1-x.01","status":"failed","crc":1}]',
    b'[{"id":5,"status":"failed","crc":1}]',
    b'[{"id":"s1-x.1","status":"failed","crc":"1"}]',
    b"x" * 70000,
]


@pytest.mark.parametrize("leaf", [protocol.WAKE, protocol.RESULT, protocol.TELEMETRY, protocol.END, "up/other", ""])
def test_nonsense_is_named_and_keeps_nothing_else_from_being_stored(ledger, leaf):
    wrong = ledger.take([*(Incoming("dev", leaf, payload) for payload in NASTY), records(1)], "c1")
    assert len(wrong) >= len(NASTY) - 2
    assert len(list(ledger.export("telemetry", 0))) == 1


@pytest.mark.parametrize("device", ["", "a b", "x" * 65, "\x1b[2J", "é"])
def test_a_topic_that_is_no_device_s_makes_no_device(ledger, device):
    (wrong,) = ledger.take([Incoming(device, protocol.WAKE, b'{"wake":1,"state":"s1"}')], "c1")
    assert "1 to 64 characters" in wrong
    assert [view.id for view in ledger.devices()] == ["dev"]


def test_text_that_no_database_takes_is_stored_legibly(ledger):
    why = '[{"do":"a\\u0000b","status":"rejected","crc":1,"why":"\\ud800 \\u0000","value":"\\ud800\\u0000"}]'
    assert ledger.take([Incoming("dev", protocol.RESULT, why.encode())], "c1") == []
    (row,) = ledger.export("results", 0)
    assert (row["do"], row["status"]) == ("a�b", "rejected")


def test_a_command_without_an_id_is_kept_as_a_result_of_its_own(ledger):
    payload = b'[{"status":"succeeded","crc":5,"do":"water","value":{"ran":30}}]'
    ledger.take([Incoming("dev", protocol.RESULT, payload)], "c1")
    (row,) = ledger.export("results", 0)
    assert (row["id"], row["do"], row["value"]) == (None, "water", {"ran": 30})
