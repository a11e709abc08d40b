"""The command line and the library: what a person types, what comes back, and what is refused before it is stored."""

import csv
import io
import json
import re
import subprocess
import sys
from binascii import crc32
from pathlib import Path

import pytest
import typer.testing

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.broker.client import Publisher
from dormouse_host.cli import app
from dormouse_host.errors import HostError
from dormouse_host.fleet import COLUMNS
from dormouse_host.ledger import schema
from dormouse_host.ledger.store import Incoming
from support.command_line import refused, run

CATALOGUE = {"commands": [["water", [["s", "int"], ["note", ["str", ""]]], 60, False]], "standard": ["ping"]}


def counts() -> dict[str, int]:
    with Fleet("ledger.db") as fleet:
        return fleet.ledger.counts()


def take(*messages: tuple[str, object]) -> None:
    """The device has said this."""
    with Fleet("ledger.db") as fleet:
        wrong = fleet.ledger.take([Incoming("dev", leaf, json.dumps(m).encode()) for leaf, m in messages], None)
        assert wrong == []


def describe() -> None:
    """The catalogue of the device is known."""
    take((protocol.WAKE, {"wake": 1, "state": "s1", "catalogue": "abcd", "limit": 300, "next": 900}))
    with Fleet("ledger.db") as fleet:
        sent = fleet.ledger.claim("r", "c", 10)[-1]  # `describe`, which the report has asked for
    entry = {"id": json.loads(sent.payload)["id"], "status": "succeeded", "crc": crc32(sent.payload)}
    take((protocol.RESULT, [{**entry, "value": CATALOGUE}]))


@pytest.mark.parametrize("do, args", [("set_password", ["password=x"]), ("set_certificate", ["cert=x", "key=y"])])
def test_credentials_are_sent_by_rotate_alone(folder, do, args):
    """By hand the broker would not know of the new one, or of the old one no more."""
    run("devices", "group", "all-of-them", "dev")
    wanted = (f"{do} alone may lock a device out: dormouse rotate DEVICE does it safely", 2)
    for words in (["dev"], ["--all"], ["--group", "all-of-them"]):
        assert refused("send", *words, do, *args) == wanted
    with Fleet("ledger.db") as fleet:
        for send in (fleet.send, lambda device, *how: fleet.send_many([device], *how)):
            with pytest.raises(HostError, match="dormouse rotate"):
                send("dev", do, dict(arg.split("=") for arg in args))
        assert do not in fleet.understood("dev")
    assert counts() == {}


def test_nothing_is_sent_unsigned_to_a_device_that_wants_signatures(folder):
    """It would drop it without an answer, at every wake anew."""
    run("devices", "add", "other")
    take((protocol.WAKE, {"wake": 1, "state": "s1", "next": 900, "signed": True}))
    why = "dev takes signed commands only, and this ledger has no key for it: dormouse sign dev, then flash it"
    for words in (["dev"], ["--all"]):
        assert refused("send", *words, "ping") == (why, 2)
    assert refused("resend", "dev", "1..2") == (why, 2)
    assert counts() == {}
    run("sign", "dev")
    run("send", "--all", "ping")
    assert counts() == {"queued": 2}
    run("sign", "dev", "--off")
    assert refused("send", "dev", "ping") == (why, 2)
    take((protocol.WAKE, {"wake": 2, "state": "s1", "next": 900}))
    run("send", "dev", "ping")


def test_send_prints_an_id_that_result_and_cancel_take(folder):
    name = run("send", "dev", "water", "s=30", "--expires", "2h").strip()
    told = json.loads(run("result", name, "--json"))
    assert (told["device"], told["do"], told["args"], told["status"]) == ("dev", "water", {"s": 30}, "queued")
    assert told["expires"] > told["entered"] + 7000
    assert run("cancel", name).startswith(f"{name} cancelled: dev water")


def test_send_to_all_and_to_a_group(folder):
    run("devices", "add", "b", "c")
    run("devices", "group", "north", "b", "c")
    assert len(run("send", "--all", "ping", "--json").splitlines()) == 3
    sent = [json.loads(line) for line in run("send", "--group", "north", "ping", "--json").splitlines()]
    assert [one["device"] for one in sent] == ["b", "c"]
    assert len({one["batch"] for one in sent}) == 1
    assert run("devices", "list", "--group", "north").split() == ["b", "c"]


@pytest.mark.parametrize(
    "words, why, code",  # 1: not done, 2: usage error
    [
        (["send", "nobody", "ping"], "device nobody is not known", 2),
        (["send", "no/body", "ping", "--create"], "device id", 2),
        (["send", "dev"], "expected DEVICE COMMAND", 2),
        (["send", "dev", "water", "s"], "written key=value", 2),
        (["send", "dev", "water", "s=1", "s=2"], "given twice", 2),
        (["send", "dev", "water", "s=NaN"], "not expressible as JSON", 2),
        (["send", "dev", "water", "s=" + "[" * 9 + "]" * 9], "not expressible as JSON", 2),
        (["send", "dev", "water", "s=" + "x" * 3000], "and device dev takes 2048", 2),
        (["send", "dev", "water", "--expires", "-5s"], "expected 30s", 2),
        (["send", "dev", "water", "--expires", "0s"], "in the past", 2),
        (["send", "dev", "water", "--expires", "2020-01-01T00:00"], "in the past", 2),
        (["send", "dev", "water", "--expires", "tomorrow"], "expected 30s", 2),
        (["send", "dev", "water", "--expires", "9" * 20], "more than 10 years away", 2),
        (["send", "dev", "water", "--expires", "9" * 400], "more than 10 years away", 2),
        (["send", "dev", "ping", "--db", "sqlite://"], "is a file: write its path", 2),
        (["devices", "add", "dev", "--db", "sqlite:///:memory:"], "is a file: write its path", 2),
        (["devices", "add", "dev", "--db", ":memory:"], "is a file: write its path", 2),
        (["devices", "add", "dev", "--db", "sqlite:///x.db?mode=ro"], "is a file: write its path", 2),
        (["devices", "add", "dev", "--db", "~nobody-of-that-name/x"], "no such user", 2),
        (["send", "dev", "water", "--after", "nothing"], "no command nothing", 2),
        (["send", "dev", "resend", "from=a", "to=2"], "argument from is not of type int", 2),
        (["send", "dev", "ping", "x=1"], "unknown argument x", 2),
        (["send", "--group", "nowhere", "ping"], "no group nowhere", 2),
        (["send", "dev", "ping", "--db", "postgres://x/y"], "hold a ledger: .* or postgresql://user@host", 2),
        (["send", "dev", "ping", "--db", "/proc/no/ledger.db"], "no ledger at /proc/no/ledger.db", 1),
        (["devices", "add", "dev", "--db", "/proc/no/ledger.db"], "database /proc/no/ledger.db", 1),
        (["status", "--db", "postgresql://u:secret@127.0.0.1:1/x"], "database postgresql://u:[*]+@127.0.0.1:1", 1),
        (["result", "nothing"], "no command nothing", 2),
        (["cancel", "nothing"], "no command nothing", 2),
        (["status", "nobody"], "device nobody is not known", 2),
        (["log", "nobody"], "device nobody is not known", 2),
        (["resend", "dev", "5"], "counted from 1", 2),
        (["resend", "dev", "5..3"], "counted from 1", 2),
        (["export", "everything"], "export telemetry, results, wakes, commands", 2),
        (["export", "wakes", "--csv", "--jsonl"], "use one of --csv, --jsonl and --influx", 2),
        (["relay"], "no broker", 2),
        (["relay", "--broker", "localhost"], "malformed broker URL", 2),
        (["devices", "add", "a b"], "device id", 2),
        (["devices", "group", "north", "nobody"], "device nobody is not known", 2),
        (["devices", "remove", "nobody", "--offline"], "device nobody is not known", 2),
        (["ledger", "backup", "ledger.db"], "exists already", 2),
        (["send", "--all", "--group", "north", "ping"], "not both", 2),
        (["send", "dev", "ping", "--within", "5s"], "--wait", 2),
        (["send", "--all", "ping", "--create"], "give its id", 2),
        (["status", "dev", "--group", "north"], "not both", 2),
        (["status", "--group", "nowhere"], "no group nowhere", 2),
        (["devices", "list", "--group", "nowhere"], "no group nowhere", 2),
        (["devices", "group", "north"], "no group north", 2),
        (["devices", "group", "--dissolve"], "takes a group", 2),
        (["devices", "group", "north", "--dissolve"], "no group north", 2),
        (["devices", "group", "north", "dev", "--dissolve"], "and no devices", 2),
        (["status", "dev", "--overdue"], "use DEVICE or --overdue, not both", 2),
        (["status", "--grace", "1"], "--grace needs --overdue", 2),
        (["status", "--overdue", "--group", "nowhere"], "no group nowhere", 2),
        (["export", "wakes", "--group", "nowhere"], "no group nowhere", 2),
        (["export", "wakes", "--device", "nobody"], "device nobody is not known", 2),
        (["export", "everything", "--csv"], "export telemetry, results, wakes, commands", 2),
        (["export", "wakes", "--device", "dev", "--group", "north"], "not both", 2),
        (["log", "dev", "--since", "soon"], "expected 30s", 2),
        (["log", "dev", "--since", "1h", "--until", "2h"], "--since 1h is not before --until 2h", 2),
        (["log", "dev", "--since", "2020-01-01", "--until", "2020-01-01"], "is not before --until", 2),
        (
            ["log", "b1' OR 1=1"],
            r"^\"b1' OR 1=1\" is no device's name: 1 to 64 characters of A-Z a-z 0-9 _ - \. are",
            2,
        ),
        (
            ["export", "wakes", "--device", "dev "],
            r"'dev ' is no device's name: .* are allowed; did you mean dev\?$",
            2,
        ),
        (["status", "--group", "a/b"], "'a/b' is no group's name: 1 to 64 characters of [^;]* are allowed$", 2),
        (["relay", "--broker", "mqtt://127.0.0.1:1", "--name", "a b"], "relay id", 2),
        (["relay", "--name", "x", "forget", "y"], "after the subcommand forget", 2),
        (["relay", "forget", "y"], "no broker", 2),
        (["rollout", "start", "ping", "--all", "--min-battery", "3"], "--min-battery needs --app", 2),
        (["rollout", "start", "ping", "--all", "--agent"], "--agent needs --app", 2),
        (["prune", "--before", "2099-01-01"], "in the future", 2),
        (["prune", "--before", "soon"], "expected 30s", 2),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_stored(folder, words, why, code):
    text, found = refused(*words)
    assert re.search(why, text)
    assert "\n" not in text
    assert "secret" not in text
    assert found == code
    assert counts() == {}
    assert run("devices", "list").split() == ["dev"]


def test_what_the_catalogue_refuses_is_refused_and_what_nobody_knows_is_said(folder):
    with Fleet("ledger.db") as fleet:
        assert "not known yet" in (fleet.send("dev", "water", {"s": "x"}).warning or "")
        describe()
        for do, args in [("water", ["s=x"]), ("water", []), ("water", ["s=1", "t=2"]), ("wtaer", ["s=1"])]:
            with pytest.raises(HostError):
                fleet.send("dev", do, args)
        assert fleet.send("dev", "water", {"s": 1}).warning is None
        with pytest.raises(HostError, match="takes 300"):
            fleet.send("dev", "water", {"s": 1, "note": "x" * 300})


def test_what_a_device_says_reaches_the_terminal_without_control_characters(folder):
    evil = "\x1b]0;owned\x07\x1b[2J\r\n"
    take((protocol.RESULT, [{"do": evil, "status": "rejected", "crc": 1, "why": evil, "value": evil}]))
    take((protocol.WAKE, {"wake": 1, "state": "s1", "cause": evil, "battery": evil, "agent": evil}))
    take((protocol.TELEMETRY, {"state": "s1", "records": [[1, 1, {evil: evil}]]}))
    for words in (["log", "dev"], ["status"]):
        assert not set(run(*words)) & {"\x1b", "\x07", "\r"}
    for words in (["log", "dev", "--json"], ["status", "--json"], ["export", "results"]):
        assert all(json.loads(line) for line in run(*words).splitlines())


def test_a_spreadsheet_gets_no_formula(folder):
    take((protocol.RESULT, [{"do": "=HYPERLINK()", "status": "failed", "crc": 1, "why": "@SUM(1)", "value": -5}]))
    (row,) = csv.DictReader(io.StringIO(run("export", "results", "--csv")))
    assert (row["do"], row["why"], row["value"]) == ("'=HYPERLINK()", "'@SUM(1)", "-5")


def test_a_table_of_wakes_has_the_same_columns_whatever_the_first_one_says(folder):
    """A first wake has no end of another to tell."""
    take((protocol.WAKE, {"wake": 1, "state": "s1"}))
    end = {"wake": 1, "state": "s1", "windows": {}}
    take((protocol.WAKE, {"wake": 2, "state": "s1", "end": end, "soil": 5, "more": "="}))
    first, second = csv.DictReader(io.StringIO(run("export", "wakes", "--csv")))
    assert (first["wake"], first["end"], first["more"]) == ("1", "", "")
    assert (second["wake"], json.loads(second["end"])) == ("2", end)
    assert json.loads(second["more"]) == {"soil": 5, "more": "="}


@pytest.mark.parametrize("what", sorted(COLUMNS))
def test_a_table_has_a_column_for_each_field(folder, what):
    """One that an export gains and no column has would be lost."""
    take((protocol.WAKE, {"wake": 1, "state": "s1"}))
    take((protocol.RESULT, [{"do": "x", "status": "failed", "crc": 1}]))
    take((protocol.TELEMETRY, {"state": "s1", "records": [[1, 1, {}]]}))
    with Fleet("ledger.db") as fleet:
        for row in fleet.export(what):
            assert not set(row) - set(COLUMNS[what])


def test_an_export_begins_where_it_is_told_to(folder):
    take((protocol.TELEMETRY, {"state": "s1", "records": [[1, 1_700_000_000, {"v": 1.5}]]}))
    (row,) = map(json.loads, run("export", "telemetry", "--since", "1h").splitlines())
    assert (row["number"], row["time"], row["values"]) == (1, 1_700_000_000, {"v": 1.5})
    assert run("export", "telemetry", "--since", "2099-01-01") == ""


def test_status_says_what_is_overdue(folder):
    now = [1_790_000_000.0]
    with Fleet("ledger.db", clock=lambda: now[0]) as fleet:
        report = json.dumps({"wake": 1, "state": "s1", "next": 900, "battery": 3.7}).encode()
        fleet.ledger.take([Incoming("dev", protocol.WAKE, report)], None)
        (view,) = fleet.status("dev")
        assert (view.late(now[0] + 800), view.late(now[0] + 1000)) == (0, 100)


def test_a_retained_report_of_nobody_knows_when_makes_nothing_overdue(folder):
    with Fleet("ledger.db") as fleet:
        report = json.dumps({"wake": 1, "state": "s1", "next": 1}).encode()
        fleet.ledger.take([Incoming("dev", protocol.WAKE, report, retained=True)], None)
        (view,) = fleet.status("dev")
        assert (view.state, view.seen, view.next_due) == ("s1", None, None)


def test_a_copy_put_back_is_said_outright(folder):
    run("send", "dev", "ping")
    run("ledger", "backup", "copy.db")
    told = json.loads(run("ledger", "restored", "--json", "--db", "copy.db"))
    assert told == {"devices": 1, "unknown": 1}
    with Fleet("copy.db") as copy, Fleet("ledger.db") as original:
        assert copy.ledger.name("dev") != original.ledger.name("dev")


def test_a_removed_device_leaves_no_session_and_no_retained_report_behind(folder, mosquitto):
    topic = protocol.topic("dormouse", "dev", protocol.WAKE)
    with Publisher(mosquitto.address) as publisher:
        publisher.publish(topic, [b"{}"], retain=True)
    run("devices", "remove", "dev", "--broker", mosquitto.address.url)
    assert run("devices", "list") == ""
    argv = ["mosquitto_sub", "-p", str(mosquitto.address.port), "-t", topic, "-W", "1", "-C", "1"]
    assert subprocess.run(argv, capture_output=True, check=False, timeout=60).stdout == b""


def test_a_group_is_dissolved_on_purpose_only(folder):
    assert json.loads(run("devices", "group", "north", "dev", "--json")) == {"group": "north", "devices": 1}
    assert json.loads(run("status", "--group", "north", "--json"))["id"] == "dev"
    run("devices", "group", "north", "--dissolve")
    assert refused("devices", "list", "--group", "north")[1] == 2


def test_one_device_is_shown_with_all_that_is_known_of_it(folder):
    describe()
    told = run("status", "dev")
    assert re.search(r"commands +water\(s:int, note:str=\"\"\) config\(set:dict=\{\}\)", told)
    assert re.search(r"payload +at most 300 bytes", told)
    assert re.search(r"pending +0", told)


def test_results_and_the_log_name_the_command_that_was_sent(folder):
    describe()
    (row,) = map(json.loads, run("export", "results").splitlines())
    assert (row["do"], row["status"]) == ("describe", "succeeded")
    assert json.loads(run("result", row["command"], "--json"))["id"] == row["id"]
    lines = list(map(json.loads, run("log", "dev", "--all", "--json").splitlines()))
    assert [line["kind"] for line in lines] == ["wake", "command", "command", "command", "result"]
    assert {line["command"] for line in lines if line["kind"] != "wake"} == {row["command"]}
    assert f"result     {row['command']} describe succeeded" in run("log", "dev", "--all")


def test_two_devices_may_have_given_the_same_id_to_the_same_number(folder):
    """An id says nothing of the device; each result is named after its own device's command."""
    names = {}
    with Fleet("ledger.db") as fleet:
        with fleet.ledger.database.writing() as connection:  # as in a ledger from before it had a name for each device
            same = [{"device": device, "name": "same", "since": 1.0, "why": "new"} for device in ("dev", "other")]
            connection.execute(schema.ledger_names.insert(), same)
        for device in ("dev", "other"):
            wake = json.dumps({"wake": 1, "state": "s1"}).encode()
            fleet.ledger.take([Incoming(device, protocol.WAKE, wake)], None)
            names[device] = fleet.send(device, "ping").name
        for sent in fleet.ledger.claim("r", "c", 10):
            entry = {"id": json.loads(sent.payload)["id"], "status": "succeeded", "crc": crc32(sent.payload)}
            fleet.ledger.take([Incoming(sent.device, protocol.RESULT, json.dumps([entry]).encode())], None)
        assert {row["device"]: row["command"] for row in fleet.export("results")} == names
        assert len({row["id"] for row in fleet.export("results")}) == 1


def test_what_was_done_is_said_as_json_too(folder):
    assert json.loads(run("devices", "add", "b", "c", "--json")) == {"added": 2}
    assert json.loads(run("devices", "remove", "b", "--offline", "--json")) == {"removed": "b"}
    assert json.loads(run("ledger", "backup", "copy.db", "--json")) == {"backup": "copy.db"}
    told = json.loads(run("prune", "--before", "1d", "--dry-run", "--json"))
    assert told == {"commands": 0, "results": 0, "telemetry": 0, "wakes": 0, "deleted": False}
    assert run("relay", "list", "--json") == ""


def test_many_warnings_are_one_line(folder):
    run("devices", "add", *(f"d{n}" for n in range(9)))
    result = typer.testing.CliRunner().invoke(app.app, ["send", "--all", "water"], standalone_mode=False)
    said = "what d0 understands is not known yet: water is sent unchecked, and 9 more like this"
    assert result.stderr == f"dormouse: {said}\n"


def test_the_program_says_errors_on_stderr_with_an_exit_code(folder):
    program = Path(sys.executable).with_name("dormouse")
    done = subprocess.run([program, "send", "nobody", "ping"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dormouse: device nobody is not known: dormouse devices add nobody\n"
