"""What an owner asks of a fleet: who is overdue, why wakes failed, how a batch went, tables of what was measured."""

import csv
import io
import json
import time
from binascii import crc32
from typing import Any

import pytest
import typer.testing
from sqlalchemy import event, text, update

from dormouse import protocol
from dormouse.state import CAP, connect_in
from dormouse_host import Fleet
from dormouse_host.cli import app
from dormouse_host.errors import HostError
from dormouse_host.ledger import schema
from dormouse_host.ledger.queries import DeviceView
from dormouse_host.ledger.store import Incoming
from support.reports import NOW, Clock

EVERY = 900


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def fleet(where, clock):
    with Fleet(where, clock=clock) as opened:
        yield opened


def say(fleet: Fleet, device: str, leaf: str, value: object) -> None:
    assert fleet.ledger.take([Incoming(device, leaf, json.dumps(value).encode())], None) == []


def wake(fleet: Fleet, device: str, number: int = 1, **more) -> None:
    say(fleet, device, protocol.WAKE, {"wake": number, "state": "s1", "next": EVERY, **more})


def run(*words: str) -> str:
    result = typer.testing.CliRunner().invoke(app.app, list(words), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


def told(*words: str) -> tuple[str, str, int]:
    """Stdout, stderr and exit code."""
    result = typer.testing.CliRunner().invoke(app.app, list(words))
    return result.stdout, result.stderr, result.exit_code


# ---- overdue


@pytest.mark.parametrize("every", [60, EVERY, 3600, CAP, 86400])
@pytest.mark.parametrize("byte", [0, 255])
def test_a_missed_wake_is_one_that_the_device_itself_would_have_tried(every, byte):
    """With the device's own backoff, at either end of its jitter: never more than those, and the third soon after."""
    config = {"connect_every": every, "battery_floor": 0}
    tries = [NOW + every]
    for failures in range(1, 12):
        tries.append(tries[-1] + connect_in(config, failures, None, byte))
    view = DeviceView("dev", seen=NOW, next_due=NOW + every)
    for count, at in enumerate(tries, 1):
        assert 0.9 * count - 1 <= view.missed(at + 31) <= count
    third = tries[2] - NOW
    assert view.missed(NOW + third * 1.1 + 31) == 3


def test_two_missed_wakes_are_forgiven_and_the_third_is_not(fleet, clock):
    fleet.add("never")
    wake(fleet, "dev")
    for after, wanted in ((EVERY + 60, []), (3 * EVERY + 200, []), (7.5 * EVERY, ["dev"])):
        clock.now = NOW + after
        assert [view.id for view in fleet.overdue()] == wanted, after
    assert fleet.overdue(grace=3) == []
    assert fleet.uncounted() == ([], ["never"])
    wake(fleet, "dev", 2)
    assert fleet.overdue() == []


def test_a_revoked_device_is_named_apart_until_it_has_a_new_credential(fleet, clock):
    for device in ("a", "b"):
        wake(fleet, device)
    fleet.set_revoked("a", "nobody")
    clock.now = NOW + 10 * EVERY
    assert [view.id for view in fleet.overdue()] == ["b"]
    assert fleet.uncounted() == (["a"], [])
    assert fleet.status("a")[0].late(clock.now) == 0
    fleet.set_revoked("a", revoked=False)
    assert [view.id for view in fleet.overdue()] == ["a", "b"]


def test_overdue_on_the_command_line_is_a_table_with_the_longest_missing_first(where):
    now = [time.time() - 40 * EVERY]
    with Fleet(where, clock=lambda: now[0]) as fleet:
        wake(fleet, "long")
        now[0] = time.time() - 8 * EVERY
        for device in ("short", "gone"):
            wake(fleet, device)
        fleet.add("new")
        fleet.group("north", ["short"])
        fleet.set_revoked("gone")
    out, err, code = told("status", "--overdue", "--db", where)
    assert [line.split()[:2] for line in out.splitlines()[2:]] == [["long", "5"], ["short", "3"]]
    assert "1 revoked, so never overdue: gone" in err
    assert "1 never connected, so not known to be overdue: new" in err
    assert code == 3
    (row,) = map(json.loads, told("status", "--overdue", "--group", "north", "--json", "--db", where)[0].splitlines())
    assert (row["id"], row["missed"]) == ("short", 3)
    assert told("status", "--overdue", "--grace", "9", "--db", where)[::2] == ("no device is overdue\n", 0)


@pytest.mark.parametrize(("ago", "word"), [(0.5, "in"), (2, "late"), (8, "overdue")])
def test_late_becomes_overdue_with_the_third_missed_wake_wherever_it_is_said(where, ago, word):
    """15 minutes after the due time one wake is missed, which `--overdue` allows."""
    with Fleet(where, clock=lambda: time.time() - ago * EVERY) as fleet:
        wake(fleet, "dev")
    overdue = word == "overdue"
    assert f"ago  {word} " in told("status", "--db", where)[0]
    assert f"next wake  {word} " in told("status", "dev", "--db", where)[0]
    (row,) = map(json.loads, told("status", "--json", "--db", where)[0].splitlines())
    assert (row["overdue"], row["late"] > 0, row["missed"] > 2) == (overdue, ago > 1, overdue)
    assert ("dev" in told("status", "--overdue", "--db", where)[0].split()) == overdue


def test_a_question_about_one_device_or_the_overdue_reads_nothing_of_the_others(fleet, clock):
    """However many there are: a row of the others is touched by an index or not at all."""
    fleet.add(*(f"d{n}" for n in range(300)))
    fleet.group("north", [f"d{n}" for n in range(10)])
    fleet.send_many([f"d{n}" for n in range(300)], "ping")
    wake(fleet, "d7")
    clock.now = NOW + 20 * EVERY
    said: list[tuple[str, object]] = []
    engine = fleet.ledger.database.engine
    if not fleet.ledger.database.is_file:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))
    event.listen(engine, "before_cursor_execute", lambda _c, _u, what, how, *_: said.append((what, how)))
    fleet.status("d7")
    fleet.log("d7", 5, since=1)
    batch = fleet.send_many(["d7"], "ping")[0].batch
    assert len(fleet.batch(batch or "")) == 1
    assert [view.id for view in fleet.overdue()] == ["d7"]
    questions = [(what, how) for what, how in said if what.lstrip().startswith("SELECT")]
    with engine.connect() as connection:
        if not fleet.ledger.database.is_file:
            connection.execute(text("SET enable_seqscan = off"))  # it is left where there is no other way
        explain = "EXPLAIN QUERY PLAN " if fleet.ledger.database.is_file else "EXPLAIN "
        walked = []
        for what, how in questions:
            steps = [str(row[-1]) for row in connection.exec_driver_sql(explain + what, how)]
            for name in ("commands", "command_events", "results", "telemetry", "reports", "telemetry_streams"):
                walked += [
                    (step, what)
                    for step in steps
                    if step.strip(" ->").startswith((f"SCAN {name}", f"Seq Scan on {name} ")) and " USING " not in step
                ]
    assert walked == []


def test_the_newest_wakes_of_a_device_are_read_in_their_order_and_no_others(fleet, clock):
    """Of a device that has had a hundred thousand, and among as many of the others."""
    for number in range(1, 4):
        clock.now += 60
        for name in ("d1", "d2", "d3"):
            wake(fleet, name, number)
    said: list[tuple[str, object]] = []
    engine = fleet.ledger.database.engine
    event.listen(engine, "before_cursor_execute", lambda _c, _u, what, how, *_: said.append((what, how)))
    assert [line.text for line in fleet.log("d2", 2)] == ["2", "3"]
    ((what, how),) = [(what, how) for what, how in said if "FROM reports" in what]
    with engine.connect() as connection:
        if fleet.ledger.database.is_file:
            explain = "EXPLAIN QUERY PLAN "
        else:
            explain = "EXPLAIN "
            for other in ("seqscan", "bitmapscan", "sort"):  # which are as good for nine rows
                connection.execute(text(f"SET enable_{other} = off"))
        steps = " ".join(str(row[-1]) for row in connection.exec_driver_sql(explain + what, how))
    assert "reports_device" in steps
    assert "B-TREE" not in steps


# ---- log


def failed(ended: str, why: str | None = None, **more) -> dict:
    return {"last": {"ended": ended, "ms": 20_000, **({"why": why} if why else {})}, **more}


def test_the_log_tells_of_wakes_that_failed_and_why(fleet, clock):
    wake(fleet, "dev", 1, **failed("finished"))
    clock.now += 60
    wake(fleet, "dev", 4, **failed("LinkError", "no access point greenhouse", failures=3))
    clock.now += 60
    wake(fleet, "dev", 5, **failed("cut off"))
    lines = [(line.kind, line.text) for line in fleet.log("dev")]
    assert lines == [
        ("wake", "1"),
        ("failed", "before 4: LinkError (3 wakes in a row): no access point greenhouse"),
        ("wake", "4"),
        ("failed", "before 5: cut off"),
        ("wake", "5"),
    ]


@pytest.mark.parametrize("last", [None, 5, {}, {"ended": 7}, {"ended": "LinkError", "why": ["x"]}, {"why": "x"}])
def test_whatever_a_device_says_of_its_last_wake_the_log_is_shown(fleet, last):
    wake(fleet, "dev", 2, last=last, failures="many")
    assert [line.kind for line in fleet.log("dev")][-1] == "wake"


def test_the_log_of_a_span_has_what_happened_in_it_and_no_more(fleet, clock):
    for number in range(1, 6):
        wake(fleet, "dev", number)
        say(fleet, "dev", protocol.TELEMETRY, {"state": "s1", "records": [[number, clock.now, {"v": number}]]})
        fleet.send("dev", "ping")
        clock.now += 100
    found = fleet.log("dev", 1000, since=NOW + 100, until=NOW + 300)
    assert {line.at for line in found} == {NOW + 100, NOW + 200}
    assert [line.kind for line in found] == ["wake", "command", "telemetry"] * 2
    assert [line.at for line in fleet.log("dev", 2, since=NOW)] == [NOW + 400] * 2, "the newest of them"
    assert fleet.log("dev", since=NOW + 9999) == []


def test_what_the_ledger_asks_by_itself_is_in_the_log_where_it_is_asked_for(fleet):
    wake(fleet, "dev", 1, catalogue="abcd")
    fleet.send("dev", "ping")
    for sent in fleet.ledger.claim("r", "c", 10):
        entry = {"id": json.loads(sent.payload)["id"], "status": "succeeded", "crc": crc32(sent.payload), "value": {}}
        say(fleet, "dev", protocol.RESULT, [entry])
    say(fleet, "dev", protocol.RESULT, [{"do": "by hand", "status": "succeeded", "crc": 1}])
    assert not [line for line in fleet.log("dev") if "describe" in line.text]
    assert [line for line in fleet.log("dev") if "by hand" in line.text]
    assert len([line for line in fleet.log("dev", automatic=True) if "describe" in line.text]) == 4
    few = [line.kind for line in fleet.log("dev", 4)]
    assert few == ["command", "command", "result", "result"], "they take none of the lines that are asked for"


def test_times_are_of_the_readers_time_zone(where, monkeypatch):
    with Fleet(where, clock=lambda: 1_790_000_000.0) as fleet:
        wake(fleet, "dev")
    for zone, hour in (("UTC", "14:13:20"), ("Asia/Kolkata", "19:43:20")):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            assert run("log", "dev", "--db", where).startswith(f"2026-09-21 {hour}  wake")
            (row,) = csv.DictReader(io.StringIO(run("export", "wakes", "--csv", "--db", where)))
            assert row["at"] == f"2026-09-21T{hour}.000{'+00:00' if zone == 'UTC' else '+05:30'}"
            since = f"2026-09-21T{hour}"
            assert len(run("log", "dev", "--since", since, "--db", where).splitlines()) == 1
            assert run("log", "dev", "--until", since, "--db", where) == ""
        finally:
            monkeypatch.undo()
            time.tzset()


# ---- batches


def test_a_batch_says_who_succeeded_who_failed_and_who_waits(where):
    with Fleet(where) as fleet:
        for device in ("a", "b", "c", "d"):
            wake(fleet, device)
        fleet.group("north", ["a", "b", "c"])
    batch = run("send", "--group", "north", "ping", "--db", where).strip()
    with Fleet(where) as fleet:
        answers: dict[str, dict[str, Any]] = {
            "a": {"status": "succeeded", "value": 7},
            "b": {"status": "failed", "why": "ValueError"},
        }
        for sent in fleet.ledger.claim("r", "c", 10):
            if sent.device in answers:
                entry = {"id": json.loads(sent.payload)["id"], "crc": crc32(sent.payload), **answers[sent.device]}
                say(fleet, sent.device, protocol.RESULT, [entry])
        assert {view.device: view.status for view in fleet.batch(batch)}["a"] == "succeeded"
    head, _, _, *lines = run("result", batch, "--db", where).splitlines()
    assert head == f"{batch}: ping for 3 devices: 1 succeeded, 1 failed, 1 waiting"
    shown = [line.split() for line in lines]
    assert [(words[0], *words[2:]) for words in shown] == [
        ("b", "failed", "ValueError"),
        ("c", "publishing"),
        ("a", "succeeded", "7"),
    ]
    rows = list(map(json.loads, run("result", batch, "--json", "--db", where).splitlines()))
    assert [row["batch"] for row in rows] == [batch] * 3
    assert run("result", shown[0][1], "--db", where).startswith(f"{shown[0][1]} failed: b ping")


def test_a_batch_is_cancelled_as_one(where):
    with Fleet(where) as fleet:
        fleet.add("a", "b")
    batch = run("send", "--all", "ping", "--db", where).strip()
    single = run("send", "a", "ping", "--db", where).strip()
    assert run("cancel", batch, "--db", where).startswith(f"{batch}: ping for 2 devices: 2 cancelled")
    assert json.loads(run("result", single, "--json", "--db", where))["batch"] is None
    assert json.loads(run("result", single, "--json", "--db", where))["status"] == "queued"


def test_groups_are_listed_with_their_devices(where):
    with Fleet(where) as fleet:
        fleet.add("a", "b")
        fleet.group("north", ["a", "b"])
        fleet.group("alone", ["b"])
    assert run("devices", "group", "--db", where) == "alone  1 device\nnorth  2 devices\n"
    assert run("devices", "group", "north", "--db", where).split() == ["a", "b"]
    listed = list(map(json.loads, run("devices", "group", "--json", "--db", where).splitlines()))
    assert listed == [{"group": "alone", "devices": 1}, {"group": "north", "devices": 2}]


def test_a_group_that_does_not_exist_is_not_dissolved(where):
    """Nor is a device that is not known put into one; what is refused changes nothing."""
    with Fleet(where) as fleet:
        fleet.add("a")
        for keep in (False, True):
            with pytest.raises(HostError, match=r"^no group north: dormouse devices group north DEVICE\.\.\.$"):
                fleet.group("north", [], keep=keep)
        with pytest.raises(HostError, match="device b is not known"):
            fleet.group("north", ["a", "b"])
        assert fleet.groups() == {}
        fleet.group("north", ["a"])
        fleet.group("north", [], keep=True)
        assert fleet.groups() == {"north": 1}
        fleet.group("north", [])
        assert fleet.groups() == {}


# ---- exports


def table(*words: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(run("export", *words, "--csv"))))


def test_a_table_of_telemetry_has_a_column_for_each_reading(where):
    with Fleet(where) as fleet:
        fleet.add("a", "b")
        records = [[1, NOW, {"soil": 41.5, "time": "x"}], [2, NOW + 0.25, {"temp": [1, 2], "=evil": "=1+1", "more": 1}]]
        say(fleet, "a", protocol.TELEMETRY, {"state": "s1", "records": records})
        say(fleet, "b", protocol.TELEMETRY, {"state": "s2", "records": [[1, NOW, {"soil": 7}]]})
    first, second, third = table("telemetry", "--db", where, "--times", "unix")
    head = ["device", "state", "number", "time", "at", "'=evil", "values.more", "soil", "temp", "values.time", "more"]
    assert sorted(first) == sorted(head)
    assert (first["soil"], first["values.time"], first["time"], first["temp"]) == ("41.5", "x", str(NOW), "")
    assert (second["temp"], second["'=evil"], second["values.more"]) == ("[1,2]", "'=1+1", "1")
    assert [row["more"] for row in (first, second, third)] == ["", "", ""]
    assert [row["device"] for row in table("telemetry", "--device", "b", "--db", where)] == ["b"]
    iso = table("telemetry", "--device", "a", "--db", where)[1]["time"]
    assert iso.startswith("20")
    assert "T" in iso


def test_an_export_of_a_group_is_of_its_devices(where):
    with Fleet(where) as fleet:
        for device in ("a", "b", "c"):
            wake(fleet, device)
            say(fleet, device, protocol.RESULT, [{"do": "x", "status": "failed", "crc": 1}])
            say(fleet, device, protocol.TELEMETRY, {"state": "s1", "records": [[1, NOW, {"v": 1}]]})
            fleet.send(device, "ping")
        fleet.group("north", ["a", "c"])
        for what in ("telemetry", "results", "wakes", "commands"):
            assert [row["device"] for row in fleet.export(what, group="north")] == ["a", "c"]
            assert [row["device"] for row in fleet.export(what, device="b")] == ["b"]


def test_commands_are_exported_with_what_became_of_them_and_without_secrets(where):
    with Fleet(where) as fleet:
        wake(fleet, "dev")
        done = fleet.send_many(["dev"], "water", {"s": 3}, expires=60)[0]
        (sent,) = fleet.ledger.claim("r", "c", 10)
        entry = {"id": json.loads(sent.payload)["id"], "status": "succeeded", "crc": crc32(sent.payload), "value": [1]}
        say(fleet, "dev", protocol.RESULT, [entry])
        with fleet.ledger.database.writing() as connection:
            secret = {"do": "set_password", "args": '{"password":"secret"}'}
            connection.execute(update(schema.commands).values(secret))
        fleet.send("dev", "ping")
    first, second = map(json.loads, run("export", "commands", "--db", where).splitlines())
    assert (first["command"], first["batch"], first["status"], first["value"]) == (
        done.name,
        done.batch,
        "succeeded",
        [1],
    )
    assert first["args"] == {"password": "(hidden)"}
    assert (second["do"], second["status"], second["final"], second["batch"]) == ("ping", "queued", False, None)
    iso, _ = map(json.loads, run("export", "commands", "--times", "iso", "--db", where).splitlines())
    assert all("T" in iso[key] for key in ("entered", "settled", "expires"))


def test_an_unknown_export_is_refused_before_anything_is_written(where):
    with Fleet(where) as fleet, pytest.raises(HostError, match="export telemetry, results, wakes, commands"):
        fleet.export("batches")
