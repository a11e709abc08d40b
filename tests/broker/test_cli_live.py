"""What an operator sees: a live line, a bar and a table on a terminal, plain lines anywhere else."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.testing

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.broker.client import Publisher
from dormouse_host.broker.local import LocalBroker
from dormouse_host.cli import app, live
from dormouse_host.errors import HostError
from dormouse_host.ledger.store import Incoming
from support.relays import Running, make_device

PROGRAM = str(Path(sys.executable).with_name("dormouse"))
WITHIN = 40  # seconds for what takes two on an idle machine
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DORMOUSE_DB", "DORMOUSE_BROKER", "DORMOUSE_ROOT", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    (tmp_path / "dormouse.toml").write_text('db = "ledger.db"\n')
    with Fleet("ledger.db") as fleet:
        fleet.add("dev")
    return tmp_path


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *words: str, columns: int = 80, rows: int = 24) -> None:
        self.text = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = dict(os.environ)  # without the LINES that readline, once loaded, sets where os.environ has none
        self.child = subprocess.Popen(
            [PROGRAM, *words], stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=environment
        )
        os.close(slave)

    def read_until(self, pattern: str) -> str:
        """Everything shown since the start, once the pattern is in it."""
        deadline = time.monotonic() + WITHIN
        while not re.search(pattern, self.plain):
            assert time.monotonic() < deadline, f"no {pattern} in {self.plain!r}"
            if select.select([self._master], [], [], 0.2)[0]:
                self._read()
            elif self.child.poll() is not None:
                assert re.search(pattern, self.plain), f"it ended without {pattern}: {self.plain!r}"
        return self.plain

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed: the program is over
            self.text += os.read(self._master, 65536).decode(errors="replace")

    @property
    def plain(self) -> str:
        return _CONTROL.sub("", self.text)

    def end(self, number: int | None = None) -> int:
        """The exit code, after a signal where one is given."""
        if number is not None:
            self.child.send_signal(number)
        deadline = time.monotonic() + WITHIN
        while self.child.poll() is None and time.monotonic() < deadline:
            if select.select([self._master], [], [], 0.1)[0]:
                self._read()
        return self.child.wait(1)


@contextlib.contextmanager
def terminal(*words: str, **size: int) -> Iterator[Terminal]:
    shown = Terminal(*words, **size)
    try:
        yield shown
    finally:
        shown.child.kill()
        shown.child.wait()
        os.close(shown._master)


def report(device: str, wake: int = 1, next_due: int = 900) -> Incoming:
    said = {"wake": wake, "state": "s1", "next": next_due, "battery": 3.7}
    return Incoming(device, protocol.WAKE, json.dumps(said).encode())


def test_a_live_line_follows_a_command_from_queued_to_succeeded(folder, mosquitto):
    """With a real relay and a real device: what is promised is what an operator sees."""
    device = make_device(folder, mosquitto, "cpython")
    with Running("ledger.db", mosquitto):
        device.wake()
        with terminal("send", "dev", "say", "text=hello", "--wait") as shown:
            shown.read_until(r"queued → sent +next wake expected in 1\d min")
            device.wake()
            assert shown.end() == 0
            told = shown.plain
    assert re.search(r"\w{10} succeeded: dev say \{\"text\":\"hello\"\}", told)
    assert '{"said":"hello"}' in told
    longest = max(len(line) for line in re.split(r"[\r\n]", told))
    assert longest <= 80


def test_who_stops_waiting_stops_nothing_else(folder):
    with terminal("send", "dev", "ping", "--wait") as shown:
        shown.read_until("no relay runs on this ledger")
        assert shown.end(signal.SIGINT) == 130
        assert "stopped waiting; the command is still pending: dormouse result" in shown.plain
    with Fleet("ledger.db") as fleet:
        assert fleet.ledger.counts() == {"queued": 1}


def test_a_device_that_is_removed_meanwhile_ends_the_wait_in_order(folder):
    """The line is drawn by a thread of its own, which asks for a device that is gone."""
    with terminal("send", "dev", "ping", "--wait") as shown:
        shown.read_until("no relay runs on this ledger")
        with Fleet("ledger.db") as fleet:
            fleet.remove("dev", None)
        assert shown.end() == 1
        assert re.search(r"unknown: dev ping\s+why +its device was removed", shown.plain)
        assert not re.search("Exception|Traceback|HostError", shown.plain)


def test_a_wait_has_an_end_and_the_exit_code_says_that_it_was_not_done(folder):
    argv = [PROGRAM, "send", "dev", "ping", "--wait", "--within", "1s", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=WITHIN)
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "queued"
    assert re.fullmatch(r"dormouse: \w+ queued; no relay runs on this ledger: dormouse relay\n", done.stderr)


def test_many_commands_have_a_bar_and_a_line_each_at_the_end(folder):
    with Fleet("ledger.db") as fleet:
        fleet.add(*(f"d{n}" for n in range(30)))
        with terminal("send", "--all", "ping", "--wait", columns=120) as shown:
            shown.read_until(r"0/31 .*31 queued")
            for view in [row["id"] for row in _queued()]:
                fleet.cancel(view)
            assert shown.end() == 1
            assert len(re.findall(r"\w+ +\w{10}  cancelled", shown.plain)) == 31


def _queued() -> list[dict]:
    with Fleet("ledger.db") as fleet, fleet.ledger.database.reading() as connection:
        return [{"id": name} for (name,) in connection.exec_driver_sql("SELECT name FROM commands")]


@pytest.mark.parametrize("columns, rows", [(80, 24), (120, 40)])
def test_watch_fits_the_terminal_and_shows_the_overdue_first(folder, columns, rows):
    with Fleet("ledger.db") as fleet:
        devices = [f"greenhouse-{n:02}" for n in range(60)]
        assert fleet.ledger.take([report(device) for device in devices], None) == []
        with Fleet("ledger.db", clock=lambda: time.time() - 9000) as before:
            before.add("zz-late")
            before.ledger.take([report("zz-late")], None)
        with terminal("watch", "--every", "0.5", columns=columns, rows=rows) as shown:
            shown.read_until("q ends")
            lines = [line.rstrip() for line in re.split(r"\r?\n", shown.plain)][:rows]
            assert re.search(r"62 devices, 1 overdue, 0 commands pending; no relay runs", lines[0])
            assert re.search(r"^zz-late .*overdue 2 h", lines[3])
            assert max(map(len, lines)) <= columns
            assert re.search(rf"1 to {rows - 6} of 62; ", shown.plain)
            fleet.send("greenhouse-59", "ping")
            shown.read_until("62 devices, 1 overdue, 1 commands pending")
            assert shown.end(signal.SIGINT) == 0
            assert "\x1b[?1049l" in shown.text, "the screen is given back"


def test_watch_scrolls_through_the_fleet_and_ends_with_q(folder):
    with Fleet("ledger.db") as fleet:
        fleet.add(*(f"d{n:02}" for n in range(60)))
    with terminal("watch", "--every", "60", rows=24) as shown:
        shown.read_until("1 to 18 of 61")
        for key, place in (
            ("\x1b[B", "2 to 19"),
            ("\x1b[6~", "20 to 37"),
            ("G", "44 to 61"),
            ("j", "44 to 61"),
            ("k", "43 to 60"),
            ("\x1b[5~", "25 to 42"),
            ("\x1b[H", "1 to 18"),
            ("x", "1 to 18"),
        ):
            shown.text = ""
            os.write(shown._master, key.encode())
            shown.read_until(f"{place} of 61")
        os.write(shown._master, b"q")
        assert shown.end() == 0
        assert termios.tcgetattr(shown._master)[3] & termios.ECHO, "the terminal is as before"


def test_watch_writes_a_line_for_each_change_where_there_is_no_terminal(folder):
    argv = [PROGRAM, "watch", "--every", "0.2", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child, Fleet("ledger.db") as fleet:
        assert child.stdout
        try:
            assert json.loads(child.stdout.readline())["pending"] == 0
            fleet.send("dev", "ping")
            assert json.loads(child.stdout.readline())["pending"] == 1
            fleet.ledger.take([report("dev")], None)
            assert json.loads(child.stdout.readline())["report"]["battery"] == 3.7
            child.send_signal(signal.SIGINT)
            assert child.wait(WITHIN) == 0
        finally:
            child.kill()


def test_the_path_of_a_command_names_each_status_once():
    class View:
        status = "succeeded"
        events = ((1, "queued", None), (2, "publishing", None), (3, "sent", None), (4, "publishing", None))

    assert live.path(View()) == ["queued", "sent", "succeeded"]  # type: ignore[arg-type]


# ---- relays


def dormouse(*words: str) -> str:
    """What a command writes to stdout; what goes wrong raises as in `main`."""
    result = typer.testing.CliRunner().invoke(app.app, list(words), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


def queued_at(broker: LocalBroker, client_id: str) -> bool:
    """Has the broker a session for this client?"""
    argv = ["mosquitto_sub", "-p", str(broker.address.port), "-i", client_id, "-c", "-d", "-t", "x", "-W", "1"]
    said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=WITHIN).stdout
    return "dormouse/dev/up/result" in said


def test_a_relay_that_is_forgotten_leaves_nothing_at_the_broker(folder, mosquitto):
    """What is published to a relay that never comes back would fill the broker for ever."""
    url = mosquitto.address.url
    with Running("ledger.db", mosquitto, "old"):
        with pytest.raises(HostError, match="relay old is alive: stop it first"):
            dormouse("relay", "forget", "old", "--broker", url)
        argv = [PROGRAM, "relay", "--name", "old", "--broker", url]
        second = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=WITHIN)
        assert second.returncode == 2
        assert "dormouse: a relay named old is alive" in second.stderr
        assert json.loads(dormouse("relay", "list", "--json"))["alive"] is True
    for forget in (False, True):
        if forget:
            assert dormouse("relay", "forget", "old", "--broker", url) == "relay old is forgotten\n"
        with Publisher(mosquitto.address) as publisher:
            publisher.publish("dormouse/dev/up/result", [b"[]"])
        assert queued_at(mosquitto, "dormouse-relay-old") is not forget
        if not forget:
            with Running("ledger.db", mosquitto, "old"):
                pass
    assert dormouse("relay", "list") == ""


def test_a_relay_that_neither_the_ledger_nor_the_broker_knows_is_not_told_as_forgotten(folder, mosquitto):
    """One that has ended in order left its session at the broker, and only that."""
    url = mosquitto.address.url
    with Running("ledger.db", mosquitto, "old"):
        pass
    for name in ("nosuch", "old", "nosuch"):  # nor has the question left a session behind
        if name == "old":
            assert dormouse("relay", "forget", "old", "--broker", url) == "relay old is forgotten\n"
        with pytest.raises(HostError, match=f"no relay {name} here, and none at the broker"):
            dormouse("relay", "forget", name, "--broker", url)


def test_forgetting_a_relay_where_no_broker_is_changes_nothing(folder):
    with pytest.raises(HostError, match=r"broker 127.0.0.1:1: Connection refused"):
        dormouse("relay", "forget", "old", "--broker", "mqtt://127.0.0.1:1")


# ---- completion


def complete(*words: str) -> list[str]:
    asked = {"COMP_WORDS": " ".join(["dormouse", *words]), "COMP_CWORD": str(len(words))}
    env = {**asked, "_DORMOUSE_COMPLETE": "complete_bash"}
    done = typer.testing.CliRunner().invoke(app.app, [], env=env, prog_name="dormouse")
    assert done.stderr == ""
    return done.stdout.split()


def test_a_shell_completes_commands_devices_and_what_a_device_understands(folder):
    catalogue = {"commands": [["water", [["s", "int"], ["note", ["str", ""]]], 60, False]], "standard": []}
    with Fleet("ledger.db") as fleet:
        fleet.ledger.take([Incoming("dev", protocol.WAKE, b'{"wake": 1, "state": "s1", "catalogue": "ab"}')], None)
        with fleet.ledger.database.writing() as connection:
            text = json.dumps(catalogue)
            connection.exec_driver_sql("UPDATE devices SET catalogue = ?, catalogue_hash = 'ab'", (text,))
    asked = {"COMP_WORDS": "dormouse stat", "COMP_CWORD": "1", "_DORMOUSE_COMPLETE": "complete_bash"}
    done = subprocess.run([PROGRAM], capture_output=True, text=True, timeout=WITHIN, env={**os.environ, **asked})
    assert done.stdout.split() == ["status"], "the program itself"
    assert complete("status", "d") == ["dev"]
    assert complete("send", "d") == ["dev"]
    assert complete("send", "dev", "wa") == ["water"]
    assert complete("send", "dev", "water", "n") == ["note="]
    assert complete("send", "--all", "wa") == ["water"]


def test_completing_without_a_ledger_is_silent_and_makes_none(folder):
    (folder / "dormouse.toml").write_text('db = "none.db"\n')
    assert complete("status", "d") == []
    assert not (folder / "none.db").exists()
    (folder / "dormouse.toml").write_text("nonsense")
    assert complete("status", "d") == []
