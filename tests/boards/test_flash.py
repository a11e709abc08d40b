"""Flashing virtual boards with the real mpremote, from blank to the first wake, and every way in which it may not go.

`make test-flash` runs all of it; `make test` takes a sample of what takes long.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dormouse_host.agent import mpy, toolchain
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds, project, wire
from dormouse_host.flash.files import in_slot, umqtt
from dormouse_host.flash.first_wake import monitor
from dormouse_host.flash.flash import Flashed, Request, flash
from dormouse_host.flash.ports import Place, PortInfo
from dormouse_host.virtual.board import VirtualBoard, Wifi
from support.needs import need_micropython
from support.sampling import each_board, some
from support.virtual_boards import KINDS
from support.waiting import comes

STAGES = [
    ("ap", "RPI_PICO_W", {"present": False}, None),
    ("password", "ESP32_GENERIC", {"password": "another"}, None),
    ("dns", "ESP32_GENERIC", {"dns": "fails"}, "mqtt://broker.lan"),
    ("ap", "ESP32_GENERIC", {"present": False}, None),
    ("password", "RPI_PICO_W", {"password": "another"}, None),
    ("connect", "RPI_PICO_W", {}, "mqtt://127.0.0.1:9"),
    ("address", "RPI_PICO_W", {"dhcp_ms": None}, None),
    ("address", "ESP32_GENERIC", {"dhcp_ms": None}, None),
]
APP = "from dormouse import command\n\n@command('say', text=str)\ndef say(wake, text):\n    return text\n"

pytestmark = pytest.mark.timeout(400)  # two cores, and other tests beside: a flash takes 5 s alone


@dataclass
class Bench:
    """A project with one device, a virtual board, and what flashing has said."""

    folder: Path
    board: VirtualBoard
    broker: str
    said: list[str] = field(default_factory=list)
    heard: Callable[[str], None] = lambda line: None  # what a test does at a line that is said
    more: dict = field(default_factory=dict)
    device: str = "pine"
    environment: dict[str, str] = field(default_factory=lambda: {"WIFI_PASSWORD": "virtual-password"})

    def flash(self, *, kind=None, port=None, wait: float = 60, watch=True, **over) -> Flashed:
        """Flash it as `make flash` does."""
        here = project.read(self.folder)
        board = kinds.load(kind or self.board.kind.name)
        settings = {"broker": self.broker, "ssid": "virtual", "clock": "none", **over}
        files = project.device_files(here, board, self.device, settings, self.environment)
        self.said = []

        def say(line: str) -> None:
            self.said.append(line)
            self.heard(line)

        return flash(Request(here, board, Place(port or self.board.port), files, None, wait, watch, **self.more), say)

    def text(self) -> str:
        """All that was said."""
        return "\n".join(self.said)


@pytest.fixture
def bench(tmp_path, mosquitto):
    """Makes benches; their boards end with the test."""
    need_micropython()
    made = []

    def _bench(kind: str, **options) -> Bench:
        (tmp_path / "project").mkdir()
        (tmp_path / "project" / "app.py").write_text(APP)
        options.setdefault("speed", 1000)
        board = VirtualBoard(kind, tmp_path / "board", **options)
        made.append(board)
        board.start().wait_boot()
        return Bench(tmp_path / "project", board, f"mqtt://{mosquitto.address.host}:{mosquitto.address.port}")

    yield _bench
    for board in made:
        board.close()


# ---- from blank to the first wake, and again


@pytest.mark.parametrize("kind", some(KINDS, 2, "blank board"))
def test_a_blank_board_is_flashed_and_reports_its_first_wake(bench, kind):
    """What lies on it afterwards is read out of its flash by another implementation of littlefs."""
    here = bench(kind)
    done = here.flash(connect_every=3600)
    assert done.wake is not None
    assert done.wake.succeeded, here.text()
    assert done.state, "a new device has a new state"
    assert {"main.py", "app.py", "config.json", "secrets.json", "state/cmd"} <= set(done.written)
    assert here.board.read_file("a/app.py") == APP.encode()
    config = json.loads(here.board.read_file("config.json"))
    assert (config["id"], config.get("battery_pin")) == ("pine", kinds.load(kind).defaults.get("battery_pin"))
    for name, data in in_slot(kinds.load(kind).port).items():
        assert here.board.read_file(f"a/{name}") == data
    assert here.board.read_file("guard.mpy") == mpy.guard()
    assert not [name for name in here.board.files() if name.endswith("~")]
    assert "virtual-password" not in here.text()


@each_board
def test_a_second_flash_of_the_same_sends_nothing_and_keeps_the_state(bench, kind):
    """Caught in its sleep or in a wake, whichever it is in; a changed key alone is one small file."""
    here = bench(kind)
    assert here.flash(connect_every=900).wake.succeeded
    again = here.flash(connect_every=900)
    assert (again.written, again.state) == ([], None)
    assert "nothing changed" in here.said
    assert again.wake.succeeded, here.text()
    changed = here.flash(connect_every=901)
    assert changed.written == ["config.json"]
    assert changed.wake.succeeded, here.text()


def test_what_is_not_ours_stays_and_hides_nothing_that_was_flashed(bench, tmp_path):
    """A slot is searched before the root, so that an agent once installed by mip runs no more."""
    here = bench("ESP32_GENERIC")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "old.py").write_text("raise SystemExit\n")
    note, old = str(tmp_path / "notes.txt"), str(tmp_path / "old.py")
    here.board.mpremote("mkdir", ":lib", "+", "mkdir", ":lib/dormouse", "+", "cp", note, ":notes.txt")
    here.board.mpremote("cp", note, ":lib/dormouse/mine.py", "+", "cp", old, ":lib/dormouse/__init__.py")
    assert here.flash().wake.succeeded, here.text()
    assert here.board.read_file("notes.txt") == here.board.read_file("lib/dormouse/mine.py") == b"mine"
    assert here.board.read_file("lib/dormouse/__init__.py") == b"raise SystemExit\n"


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "with a file of another version"])
def test_an_agent_that_lies_in_rom_is_not_sent_unless_it_is_another(bench, whole, tmp_path):
    """A folder stands for the ROM partition, boot.py for MicroPython, which searches it; half an agent would hide."""
    here = bench("ESP32_GENERIC")
    agent = mpy.agent_files("esp32")
    rom = tmp_path / "rom"
    for name, data in agent.items():
        (rom / name).parent.mkdir(parents=True, exist_ok=True)
        (rom / name).write_bytes(data if whole or "connection" not in name else b"M\x06 of another version")
    (tmp_path / "boot.py").write_text("import sys\nsys.path.append('/rom/lib')\n")
    here.board.mpremote("cp", "-r", str(rom), ":", "+", "cp", str(tmp_path / "boot.py"), ":boot.py")
    done = here.flash(connect_every=3600)
    assert done.wake.succeeded, here.text()
    assert ("the agent is in the board's ROM" in here.said) == whole
    assert set(agent) & set(done.written) == (set() if whole else set(in_slot("esp32")))


def test_an_agent_in_rom_that_a_folder_hides_is_sent(bench, tmp_path):
    """MicroPython takes the first folder of the name that it comes to, be it empty."""
    here = bench("ESP32_GENERIC")
    agent = mpy.agent_files("esp32")
    for name, data in agent.items():
        (tmp_path / "rom" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "rom" / name).write_bytes(data)
    here.board.mpremote("cp", "-r", str(tmp_path / "rom"), ":", "+", "mkdir", ":lib", "+", "mkdir", ":lib/dormouse")
    done = here.flash(connect_every=3600)
    assert set(in_slot("esp32")) <= set(done.written)
    assert done.wake.succeeded, here.text()


# ---- what is refused, before a byte is sent


@pytest.mark.parametrize("real, wanted", [("RPI_PICO_W", "ESP32_GENERIC"), ("ESP32_GENERIC", "RPI_PICO2_W")])
def test_the_wrong_kind_of_board_is_refused(bench, real, wanted):
    here = bench(real)
    before = here.board.files()
    with pytest.raises(HostError, match=f"wrong board: expected {wanted}, found {real}") as caught:
        here.flash(kind=wanted)
    assert caught.value.code == 3
    assert here.board.files() == before


def test_too_old_a_micropython_is_refused(bench, tmp_path):
    """The board of this test asks for a MicroPython that is not there yet."""
    here = bench("RPI_PICO_W")
    newer = shutil.copytree(kinds.load("RPI_PICO_W").folder, tmp_path / "RPI_PICO_W")
    text = (newer / kinds.FILE).read_text()
    (newer / kinds.FILE).write_text(text.replace('micropython = "1.25"', 'micropython = "9.1"'))
    with pytest.raises(HostError, match=r"expected 9\.1 or newer: dormouse firmware") as caught:
        here.flash(kind=str(newer))
    assert caught.value.code == 3


# ---- asleep, busy, gone


@pytest.mark.proof
@each_board
def test_a_sleeping_board_is_caught_at_its_next_wake_and_what_is_waited_for_is_said(bench, kind):
    """At 5 times the speed an interval of 100 s passes in 20: the Pico's port is gone for that time."""
    here = bench(kind, speed=5)
    before = len(here.board.events)
    assert here.flash(connect_every=100).wake.succeeded, here.text()
    here.board.wait_event("asleep", after=before, where=lambda event: event.fields["ms"] > 20000)
    assert (Path(here.board.port).exists()) is (kind == "ESP32_GENERIC")
    done = here.flash(connect_every=101)
    assert done.written == ["config.json"]
    assert done.wake.succeeded, here.text()
    waiting = [line for line in here.said if line.startswith(f"waiting for {here.board.port}")]
    assert len(waiting) >= 1
    assert "s left, or press its reset button now" in waiting[0]


def test_a_board_that_does_not_wake_in_time_is_given_up_with_an_exit_code_of_its_own(bench):
    here = bench("RPI_PICO_W")
    here.board.power_cut()
    began = time.monotonic()
    with pytest.raises(HostError, match=r"not caught in 2 s") as caught:
        here.flash(wait=2)
    assert caught.value.code == 4
    assert time.monotonic() - began < 50, "and not in the 60 s that are the default"


@each_board
def test_a_board_in_the_middle_of_a_wake_is_interrupted(bench, kind, tmp_path):
    """An app that hangs on to the wake: Ctrl-C makes the agent write a mark and restart, and nothing bites then."""
    here = bench(kind)
    (here.folder / "app.py").write_text(
        "from dormouse import telemetry\n\n@telemetry()\ndef busy(wake):\n"
        "    for _ in range(600):\n        wake.log('busy')\n        wake.hold(0.2)\n"
    )
    here.flash(watch=False)
    here.board.wait_console("busy", 60, after=len(here.board.console))
    (here.folder / "app.py").write_text(APP)
    done = here.flash()
    assert done.written == ["app.py"]
    assert done.wake.succeeded, here.text()


def test_a_board_that_loses_power_in_the_middle_still_works_and_the_next_flash_finishes(bench):
    """Cut while the second of two files is sent: what ran before runs, and what has arrived is not sent again."""
    here = bench("ESP32_GENERIC")
    assert here.flash(connect_every=3600).wake.succeeded, here.text()
    (here.folder / "app.py").write_text(APP + "\n# longer\n" * 1000)
    (here.folder / "big.py").write_text("x = 1  # a line\n" * 8000)
    (here.folder / "dormouse.toml").write_text("[app]\nfiles = ['big.py']\n")
    found: list[bool] = []

    def power() -> None:
        found.append(comes(lambda: any(name.endswith("big.py~") for name in here.board.files()), 60, 0.05))
        here.board.power_cut()

    cut = threading.Thread(target=power)

    def heard(line: str) -> None:
        if "files differ" in line:
            cut.start()
        if line.startswith("the board was lost"):
            raise KeyboardInterrupt  # as a person ends it, who sees that the power is gone

    here.heard = heard
    with pytest.raises(KeyboardInterrupt):
        here.flash(connect_every=3600)
    cut.join()
    assert found == [True], here.text()
    assert not [line for line in here.said if line.startswith("sent ")]
    assert here.board.read_file("a/app.py") == APP.encode(), "untouched"
    here.heard = lambda line: None
    after = len(here.board.console)
    here.board.power_on()
    here.board.wait_console(" asleep ", 60, after=after)
    assert '"drained":true' in here.board.console[after:]
    done = here.flash(connect_every=3600)
    assert done.wake.succeeded, here.text()
    assert len(here.board.read_file("b/app.py")) > 10000


# ---- a first wake that fails, by its stage


@pytest.mark.parametrize("stage, kind, wifi, broker", some(STAGES, 2, "stages"))
def test_a_first_wake_that_fails_is_named_by_its_stage(bench, stage, kind, wifi, broker):
    """Those of Wi-Fi on both ports, whose radios tell them in different ways."""
    here = bench(kind, wifi=Wifi(**wifi))
    done = here.flash(budget=8, **({"broker": broker} if broker else {}))
    assert not done.wake.succeeded
    assert done.wake.stage == stage, here.text()
    line = done.wake.explain({"ssid": "virtual", "host": "broker", "port": 1883})
    assert line.startswith(f"first wake: {stage}: ")


def test_a_broker_that_refuses_is_named_with_its_reason(bench, tmp_path):
    """CONNACK code 5: mosquitto knows no such user."""
    from dormouse_host.broker.local import Mosquitto
    from support.needs import need_mosquitto

    here = bench("ESP32_GENERIC")
    with Mosquitto(need_mosquitto(), ["allow_anonymous false"]) as strict:
        done = here.flash(broker=f"mqtt://{strict.address.host}:{strict.address.port}")
    assert done.wake.stage == "connack", here.text()
    assert "not authorised" in (done.wake.why or "")


def test_an_app_that_does_not_import_is_named(bench):
    here = bench("RPI_PICO_W")
    (here.folder / "app.py").write_text("import nosuchmodule\n")
    done = here.flash()
    assert done.wake.stage == "app"
    assert "nosuchmodule" in (done.wake.why or "")


# ---- the way


def test_over_a_socket_it_is_the_same(bench):
    here = bench("ESP32_GENERIC")
    assert here.flash(port=here.board.url).wake.succeeded, here.text()


def test_the_monitor_follows_over_a_sleep_in_which_the_port_is_gone(bench):
    here = bench("RPI_PICO_W", speed=1000)
    assert here.flash(connect_every=1000).wake.succeeded, here.text()
    ends = 0

    def show(line):
        nonlocal ends
        ends += " asleep " in line
        if ends == 3:
            raise KeyboardInterrupt  # as a person ends it

    with pytest.raises(KeyboardInterrupt):
        monitor(Place(here.board.port), 120, show)


@pytest.mark.proof
def test_mip_installs_the_agent_from_a_folder_and_from_an_address(bench, tmp_path):
    """The real mpremote, with device/package.json as it lies here; umqtt.simple from an index of the test's own."""
    here = bench("RPI_PICO_W")
    root = toolchain.agent_folder()
    index = tmp_path / "index" / "package" / "6" / "umqtt.simple"
    index.mkdir(parents=True)
    (index / "latest.json").write_text('{"urls": [["umqtt/simple.mpy", "http://127.0.0.1:PORT/simple.mpy"]]}')
    (tmp_path / "index" / "simple.mpy").write_bytes(umqtt()["lib/umqtt/simple.mpy"])
    handler = partial(_Quiet, directory=str(tmp_path / "index"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        text = (index / "latest.json").read_text().replace("http://127.0.0.1:PORT", address)
        (index / "latest.json").write_text(text)
        try:
            here.board.mpremote("mip", "install", "--index", address, f"{root}/package.json", timeout=120)
            small = {**json.loads((root / "package.json").read_text()), "deps": []}
            small["urls"] = [["second/errors.py", "dormouse/errors.py"]]
            (tmp_path / "index" / "package.json").write_text(json.dumps(small))
            shutil.copytree(root / "dormouse", tmp_path / "index" / "dormouse")
            here.board.mpremote("mip", "install", f"{address}/package.json", timeout=120)
        finally:
            server.shutdown()
    assert here.board.read_file("lib/second/errors.py") == (root / "dormouse" / "errors.py").read_bytes()
    for name in ("dormouse/agent.py", "dormouse/ports/rp2.py"):
        assert here.board.read_file(f"lib/{name}") == (root / name).read_bytes()
    print_it = "import dormouse, umqtt.simple; print(dormouse.__file__)"
    assert here.board.mpremote("exec", print_it).strip() == "/lib/dormouse/__init__.py"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Nothing on stderr."""


def test_a_port_that_another_program_holds_is_said(bench):
    """mpremote opens a port for itself alone."""
    here = bench("ESP32_GENERIC")
    device = Place(here.board.port).device()
    assert device
    with wire.Wire(device), pytest.raises(HostError, match="not caught"):
        here.flash(wait=1)


def test_no_answer_at_all_ends_at_its_deadline(tmp_path):
    """A pseudo-terminal with nobody behind it, as a port of something that is no MicroPython."""
    master, slave = os.openpty()
    try:
        place = Place(os.ttyname(slave), list[PortInfo])
        began = time.monotonic()
        with pytest.raises(wire.LostBoard, match="no prompt"):
            wire.catch(place, 2, lambda left: None)
        assert time.monotonic() - began < 60
    finally:
        os.close(master)
        os.close(slave)
