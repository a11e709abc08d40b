"""What a person meets first: an empty list says where to look, a missing file that it is missing, JSON is lines."""

import json
from zlib import crc32

import pytest
import typer.testing
from sqlalchemy import update

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.cli import app
from dormouse_host.errors import HostError
from dormouse_host.ledger import schema
from dormouse_host.ledger.store import Incoming
from dormouse_host.release import Release

PHASES = dict.fromkeys(("boot", "join", "connect", "drain", "confirm"), 500)
LAST = {"ended": "finished", "ms": 2500, "up": 500, "phases": PHASES}


def run(*words):
    return typer.testing.CliRunner().invoke(app.app, list(words), standalone_mode=False)


def connected(fleet, firmware):
    """`dev` has had a wake, as a board with this firmware reports it."""
    report = {"wake": 1, "state": "s1", "next": 900, "limit": 2048, "fw": firmware, "last": LAST}
    assert fleet.ledger.take([Incoming("dev", protocol.WAKE, json.dumps(report).encode())], None) == []


def test_a_fleet_without_devices_says_how_one_appears(tmp_path, monkeypatch):
    monkeypatch.setenv("DORMOUSE_DB", str(tmp_path / "ledger.db"))
    Fleet(str(tmp_path / "ledger.db")).close()
    told = run("status")
    assert "a device appears at its first wake while a relay runs" in told.stderr


def test_an_empty_list_of_updates_points_at_those_that_have_ended(fleet):
    assert "no updates yet" in run("update", "list").stderr
    assert "no updates yet" in run("update", "history").stderr
    assert "device nobody is not known" in str(run("update", "history", "nobody").exception)
    connected(fleet, "cpython 3.11.7")
    (name,) = fleet.update(["dev"], Release({"app.py": b"x = 1\n"}))
    assert name in run("update", "list").stdout
    fleet.cancel_update(name)
    told = run("update", "list")
    assert (told.stdout, told.stderr) == (
        "",
        "dormouse: no update is under way: dormouse update history lists all\n",
    )
    assert name in run("update", "history").stdout
    assert run("update", "list", "--json").output == ""


def test_a_relay_that_never_was_is_told_from_one_that_is_dead(fleet):
    fleet.ledger.register("main")
    told = run("relay", "check", "main")
    assert (told.return_value, told.stdout, told.stderr) == (None, "main alive\n", "")
    told = run("relay", "check", "mian")
    why = "dormouse: no relay mian has started here, or it has ended in order: did you mean main?\n"
    assert (told.return_value, told.stdout, told.stderr) == (1, "mian unknown\n", why)
    with fleet.ledger.database.writing() as connection:
        connection.execute(update(schema.relays).values(until=0))
    told = run("relay", "check", "main")
    assert (told.return_value, told.stdout, told.stderr) == (1, "main dead\n", "")


def test_who_cancels_what_has_ended_is_told_that_nothing_was_cancelled(fleet):
    """A command, and a batch of which none waits any more."""
    for name in (fleet.send("dev", "ping").name, fleet.send_many(["dev"], "ping")[0].batch):
        assert run("cancel", name).stderr == ""
        told = run("cancel", name)
        assert (told.exit_code, told.stderr) == (0, f"dormouse: {name} has ended: there is nothing to cancel\n")
        assert "cancelled" in told.stdout


def test_energy_takes_the_board_that_the_device_has_reported(fleet):
    told = run("energy", "--device", "dev")
    assert "dev has never connected" in str(told.exception)
    connected(fleet, "ESP32_GENERIC_C3 1.26.1")
    told = run("energy", "--device", "dev", "--ma", "asleep=0.066")
    assert told.exception is None
    assert "ESP32-C3, a wake every 15m" in told.stdout
    (line,) = run("energy", "--device", "dev", "--json").stdout.splitlines()
    assert json.loads(line)["days"] > 0


@pytest.mark.parametrize(
    "firmware, why",
    [
        ("cpython 3.11.7", "a process of a machine has no battery"),
        ("TEENSY40 1.26", "no board is known whose firmware"),
    ],
)
def test_energy_of_what_is_no_board_is_refused(fleet, firmware, why):
    connected(fleet, firmware)
    told = run("energy", "--device", "dev")
    assert why in str(told.exception)
    assert told.exception.code == 2


def test_energy_of_nothing_is_a_usage_error():
    told = run("energy")
    assert (str(told.exception), told.exception.code) == ("expected --board, or --device with one that has reported", 2)


@pytest.mark.parametrize(
    "name, why",
    [
        ("nope.py", "nope.py: no such program: dormouse init makes one, app.py"),
        ("app.txt", "app.txt: expected a Python file whose name is a valid module name"),
        ("my-app.py", "my-app.py: expected a Python file whose name is a valid module name"),
    ],
)
def test_a_program_that_is_missing_is_told_from_one_that_is_none(tmp_path, monkeypatch, name, why):
    monkeypatch.chdir(tmp_path)
    told = run("agent", "run", name, "--device", "dev", "--broker", "mqtt://127.0.0.1:1", "--state", "state")
    assert (str(told.exception), told.exception.code) == (why, 2)


@pytest.mark.parametrize("name, why", [("nosuch.jsonl", "No such file or directory"), ("folder", "Is a directory")])
def test_a_file_that_cannot_be_imported_leaves_no_ledger_behind(tmp_path, monkeypatch, name, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    told = run("ledger", "import", name, "--db", "new.db")
    assert (str(told.exception), told.exception.code) == (f"import from {name}: {why}", 2)
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(
    "spoil, why",
    [
        (lambda lines: [b"a letter\n"], "not a file of dormouse ledger export"),
        (lambda lines: [], "not a file of dormouse ledger export"),
        (lambda lines: lines[:-3], "is cut off or damaged: export it again; nothing was imported"),
        (lambda lines: whole([lines[0], b'{"table":"nosuch","columns":[]}\n']), "not a file of dormouse ledger export"),
        (lambda lines: whole([*lines[:2], b'["too short"]\n']), "not a file of dormouse ledger export"),
        (lambda lines: whole([*lines[:-1], b"[[[]]]\n"]), "not a file of dormouse ledger export"),
        (lambda lines: whole([lines[0], b'{"table":"devices","columns":["x"]}\n']), "columns of devices are not those"),
    ],
)
def test_a_file_that_is_no_export_leaves_no_ledger_behind(fleet, tmp_path, monkeypatch, spoil, why):
    """One that is not of our making, or that has lost its end on the way."""
    monkeypatch.chdir(tmp_path)
    fleet.add("dev")
    fleet.export_ledger(tmp_path / "all.jsonl")
    lines = (tmp_path / "all.jsonl").read_bytes().splitlines(keepends=True)
    before = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / "all.jsonl").write_bytes(b"".join(spoil(lines)))
    told = run("ledger", "import", "all.jsonl", "--db", "new.db")
    assert isinstance(told.exception, HostError)
    assert (why in str(told.exception), told.exception.code) == (True, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    (tmp_path / "all.jsonl").write_bytes(b"".join(lines))
    assert run("ledger", "import", "all.jsonl", "--db", "new.db").stdout.startswith("1 devices, 0 commands")


def whole(lines):
    """These lines with a foot that says so."""
    return [*lines, b'{"rows":1,"crc":%d}\n' % crc32(b"".join(lines))]


def test_who_names_a_device_and_all_is_told_which_is_too_much(fleet):
    """But not where a command has the name of a device."""
    fleet.group("north", ["dev"])
    for whom in (["--all"], ["--group", "north"]):
        told = run("send", "dev", "blink", "x=1", *whom)
        why = "--all and --group take no device: leave out dev"
        assert (str(told.exception), told.exception.code) == (why, 2)
    fleet.add("ping")
    assert "arguments are written key=value" in str(run("send", "ping", "blink", "--all").exception)
    assert run("send", "dev", "x=1", "--all").exception is None
