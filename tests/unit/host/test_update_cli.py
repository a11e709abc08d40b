"""What `dormouse update` and `dormouse rollout` say to a person: no device is left out silently."""

import json

import pytest
import typer.testing

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.cli import app
from dormouse_host.errors import HostError
from dormouse_host.ledger.store import Incoming

BOARD, PROCESS = "ESP32_GENERIC 1.28.0", "cpython 3.11.7"


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """A project with a program, and a ledger: two boards, a process, and a device that has never connected."""
    monkeypatch.setenv("DORMOUSE_DB", str(tmp_path / "ledger.db"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text("x = 1\n")
    (tmp_path / "dormouse.toml").write_text("")
    with Fleet(str(tmp_path / "ledger.db")) as made:
        made.add("b1", "b2", "process", "silent")
        for device, firmware in (("b1", BOARD), ("b2", BOARD), ("process", PROCESS)):
            report = {"wake": 1, "state": "s1", "next": 900, "limit": 2048, "fw": firmware}
            if device == "b1":
                report["battery"] = 3.9
            assert made.ledger.take([Incoming(device, protocol.WAKE, json.dumps(report).encode())], None) == []
        yield made


def run(*words):
    result = typer.testing.CliRunner().invoke(app.app, list(words), standalone_mode=False)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(*words):
    """The error that a person reads."""
    with pytest.raises(HostError) as caught:
        run(*words)
    return caught.value


def test_of_several_devices_those_that_never_connected_are_left_out_and_named(fleet):
    told = run("update", "--all", "--app", ".")
    assert "left out: silent: it has never connected: flash it first\n" in told.stderr
    assert {view.device for view in fleet.updates()} == {"b1", "b2", "process"}
    assert str(refused("update", "silent", "--app", ".")) == "silent: it has never connected: flash it first"
    run("devices", "group", "new", "silent")
    assert "flash it first" in str(refused("rollout", "start", "--app", ".", "--group", "new"))
    assert "left out: process: --agent" in run("update", "--all", "--app", ".", "--agent", "--dry-run").stderr
    told = run("rollout", "start", "--app", ".", "--all", "--waves", "1")
    assert "2 waves: 1, 2 of 3 devices" in told.stderr
    assert len(fleet.rollouts(told.stdout.strip())[0].members) == 3


def test_what_will_not_hold_is_said_before(fleet):
    told = run("update", "--all", "--app", ".", "--dry-run", "--min-battery", "3.6").stderr
    for device in ("b2", "process"):
        assert f"--min-battery holds back nothing where no voltage is reported: {device}\n" in told
    assert "has no slots and refuses an update: process" in told
    assert fleet.updates() == []
    for volts in ("-1", "nan", "0", "1e99"):
        assert "volts" in str(refused("update", "b1", "--app", ".", "--min-battery", volts))


def test_one_release_for_boards_that_take_the_same_is_told_once(fleet):
    """Two kinds of board, whose .mpy are the same while the program has no native code."""
    report = b'{"wake":1,"state":"s1","next":900,"limit":2048,"fw":"RPI_PICO_W 1.28.0"}'
    assert fleet.ledger.take([Incoming("b2", protocol.WAKE, report)], None) == []
    for device in ("b1", "b2"):
        assert f" for {device}: " in run("update", device, "--app", ".", "--dry-run").stderr
    run("devices", "group", "boards", "b1", "b2")
    told = run("update", "--group", "boards", "--app", ".", "--dry-run").stderr
    assert [line for line in told.splitlines() if " for b1 and 1 more: " in line]
    assert told.count("dormouse: release ") == 1


@pytest.mark.parametrize("words", [("update", "b1"), ("rollout", "start", "--all")], ids=" ".join)
def test_a_date_that_is_past_is_refused_before_anything_is_told(fleet, words):
    line = [*words, "--app", ".", "--expires", "2020-01-01T00:00"]
    result = typer.testing.CliRunner().invoke(app.app, line, standalone_mode=False)
    assert str(result.exception) == "the expiry is in the past"
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.parametrize(
    "words, why",
    [
        (("--waves", "abc"), "--waves abc: expected numbers and parts"),
        (("--waves", "2,1"), "1 is less than the wave before"),
        (("--missing", "x"), "x: expected 0% to 100%"),
        (("--min-battery", "nan"), "expected volts above 0"),
    ],
)
def test_the_plan_of_an_update_is_not_told_where_its_rollout_is_refused(fleet, words, why):
    fleet.group("boards", ["b1", "b2"])
    start = ["rollout", "start", "--app", ".", "--group", "boards", *words]
    for line in (start, [*start, "--dry-run"]):
        result = typer.testing.CliRunner().invoke(app.app, line, standalone_mode=False)
        assert why in str(result.exception)
        assert (result.stdout, result.stderr) == ("", "")
    assert fleet.rollouts() == []


@pytest.mark.parametrize(
    "words, why",
    [
        (("resend", "from=a", "to=2"), "argument from is not of type int"),
        (("ping", "x=1"), "unknown argument x"),
        (("ping", "--missing", "900%"), "900%: expected 0% to 100%"),
    ],
)
def test_a_rollout_of_a_command_that_would_be_refused_is_refused_before_its_waves_are_told(fleet, words, why):
    start = ["rollout", "start", *words, "--all"]
    for line in (start, [*start, "--dry-run"]):
        result = typer.testing.CliRunner().invoke(app.app, line, standalone_mode=False)
        assert why in str(result.exception)
        assert (result.stdout, result.stderr) == ("", "")
    told = run("rollout", "start", "ping", "--all", "--dry-run")
    assert (told.stdout, told.stderr) == ("", "dormouse: 2 waves: 1, 3 of 4 devices\n")
    assert fleet.rollouts() == []


def test_the_same_release_once_more_says_that_it_is_on_its_way(fleet):
    first = run("update", "b1", "--app", ".").stdout
    again = run("update", "b1", "--app", ".")
    assert again.stdout == first
    assert "b1: this release is on its way already" in again.stderr


def test_the_id_of_an_update_is_one_like_that_of_a_command(fleet):
    name = run("update", "b1", "--app", ".").stdout.strip()
    assert run("result", name).stdout.startswith(f"{name} b1 queued\n")
    assert json.loads(run("result", name, "--json").stdout)["id"] == name
    assert json.loads(run("update", "list", "--json").stdout)["id"] == name
    assert f"{name} queued" in run("log", "b1").stdout
    assert run("cancel", name).stdout.startswith(f"{name} b1 cancelled\n")
    told = run("update", "cancel", name)
    assert f"update {name} has ended: there is nothing to cancel" in told.stderr
    assert f"{name} cancelled" in run("log", "b1").stdout
    assert str(refused("result", "nosuch")) == "no command nosuch"


def test_lists_take_no_options_of_an_order(fleet):
    for words in (("list", "--wait"), ("history", "--group", "g"), ("cancel", "x", "--all")):
        wrong = refused("update", *words)
        assert (wrong.code, str(wrong)) == (2, f"update {words[0]} takes no option but --db and --json")
    assert "no updates yet: dormouse update b1" in run("update", "list", "b1").stderr
    assert "is not known" in str(refused("update", "history", "nobody"))


def test_rollouts_are_shown_before_they_start_and_an_older_one_is_named(fleet):
    assert "no rollouts yet" in run("rollout", "status").stderr
    dry = run("rollout", "start", "--app", ".", "--all", "--dry-run")
    assert (dry.stdout, fleet.rollouts()) == ("", [])
    assert "release" in dry.stderr
    older = run("rollout", "start", "--app", ".", "--all").stdout.strip()
    told = run("rollout", "start", "--app", ".", "--all").stderr
    assert f"rollout {older} is running, and leaves 3 devices to this one" in told
    assert run("result", older).stdout == run("rollout", "status", older).stdout
    assert "dormouse rollout abort" in str(refused("cancel", older))
    assert "less than the wave before" in str(refused("rollout", "start", "--app", ".", "--all", "--waves", "50%,10%"))
