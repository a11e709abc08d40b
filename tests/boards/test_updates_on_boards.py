"""Updates over the air on virtual boards: real flash, real resets, the guard that no update changes."""

import time
from pathlib import Path

import pytest

from dormouse_host.flash import kinds, project, releases
from dormouse_host.flash.files import MAIN_TEXT
from dormouse_host.flash.flash import Request, flash
from dormouse_host.flash.ports import Place
from dormouse_host.virtual.board import VirtualBoard
from dormouse_host.virtual.device import VirtualDevice
from support.board_device import install
from support.needs import need_micropython, need_mosquitto

pytestmark = pytest.mark.timeout(500)
KINDS = ["RPI_PICO_W", "ESP32_GENERIC"]
OLD = """from dormouse import command

@command("which")
def which(wake):
    return "old"
"""
NEW = OLD.replace("old", "new") + "TABLE = (\n" + "".join(f'    "row {n:040}",\n' for n in range(200)) + ")\n"


def order(device: VirtualDevice, folder: Path, text: str, *, agent: bool = False) -> str:
    """Order an update to a program. Returns its name, once its first step is at the broker."""
    folder.mkdir(exist_ok=True)
    (folder / "app.py").write_text(text)
    release = releases.build(project.read(folder), kinds.load(device.board.kind.name), agent=agent)
    (name,) = device.fleet.update([device.id], release)
    time.sleep(1)
    return name


def follow(device: VirtualDevice, name: str, wakes: int = 8) -> list[str]:
    """Wake the device until the update is final. Returns its statuses, and after `failed` why."""
    for _ in range(wakes):
        device.wake()
        time.sleep(1)
        if device.fleet.update_result(name).final:
            break
    view = device.fleet.update_result(name)
    return [status for _, status, _ in view.events] + ([view.why] if view.why else [])


@pytest.fixture
def started(virtual_device, tmp_path):
    """Starts a board of a kind with OLD on it."""
    need_micropython()
    need_mosquitto()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "app.py").write_text(OLD)
    return lambda kind: virtual_device(kind, tmp_path / "old" / "app.py")


@pytest.mark.parametrize("kind", KINDS)
def test_program_and_agent_are_updated_and_a_bad_release_is_rolled_back(started, tmp_path, kind):
    """Then the release that was left is ordered once more, mended."""
    device = started(kind)
    guard = device.board.read_file("guard.mpy")
    name = order(device, tmp_path / "new", NEW)
    assert follow(device, name) == ["queued", "sending", "on trial", "succeeded"], device.board.console[-3000:]
    assert device.run("which").value == "new"
    assert device.board.read_file("b/lib/dormouse/__init__.mpy") == device.board.read_file(
        "a/lib/dormouse/__init__.mpy"
    )
    bad = order(device, tmp_path / "new", "import machine\nmachine.no_such_thing\n")
    why = follow(device, bad)[-1]
    assert why.startswith("rolled back: "), why
    assert "no_such_thing" in why
    assert "app.py:2" in why
    assert device.run("which").value == "new"
    both = order(device, tmp_path / "new", NEW.replace('"new"', '"newer"'), agent=True)
    assert follow(device, both)[-1] == "succeeded"
    assert device.run("which").value == "newer"
    assert device.board.read_file("guard.mpy") == guard


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_that_hangs_at_import_is_left_after_the_watchdog(started, tmp_path, kind):
    device = started(kind)
    name = order(device, tmp_path / "new", "while True:\n    pass\n")
    assert follow(device, name)[-2:] == ["failed", "rolled back: cut off in import"], device.board.console[-3000:]
    assert device.run("which").value == "old"


SPOIL = """from dormouse import command

@command("which")
def which(wake):
    return "spoiler"

@command("spoil", path=str)
def spoil(wake, path):
    with open(__file__[:3] + path, "w") as file:
        file.write("gone")
"""


def test_a_slot_that_the_program_has_damaged_is_left_for_the_other(started, tmp_path):
    """A file of the program is missed at its import, one of the agent by the boot code."""
    device = started("RPI_PICO_W")
    assert follow(device, order(device, tmp_path / "new", NEW))[-1] == "succeeded"
    assert follow(device, order(device, tmp_path / "new", SPOIL))[-1] == "succeeded"
    done = device.run("spoil", path="app.mpy")
    assert done.status == "succeeded", done.why
    device.wake()
    assert device.run("which").value == "new", device.board.console[-3000:]
    assert follow(device, order(device, tmp_path / "new", SPOIL))[-1] == "succeeded"
    assert device.run("spoil", path="lib/dormouse/connection.mpy").status == "succeeded"
    for _ in range(2):
        device.wake()
    assert device.run("which").value == "new", device.board.console[-3000:]


def test_a_board_of_the_layout_before_slots_becomes_one_with_slots_and_keeps_its_state(tmp_path, mosquitto):
    """Journal and telemetry stay; the program in the root runs no more."""
    need_micropython()
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "app.py").write_text(OLD)
    with VirtualBoard("ESP32_GENERIC", tmp_path / "board", speed=1000) as board:
        board.wait_boot()
        install(board, tmp_path / "before", mosquitto.address.url, app=OLD, connect_every=3600)
        board.wait_console(" asleep ", 90)
        state = board.read_file("state/cmd")
        here = project.read(folder)
        over = {"broker": mosquitto.address.url, "ssid": "virtual", "clock": "none"}
        kind = kinds.load("ESP32_GENERIC")
        files = project.device_files(here, kind, "dev", over, {"WIFI_PASSWORD": "virtual-password"})
        said: list[str] = []
        done = flash(Request(here, kind, Place(board.port), files, agree=lambda names: True), said.append)
        assert done.wake
        assert done.wake.succeeded, said
        assert done.state is None
        assert board.read_file("state/cmd")[:40] == state[:40]
        assert board.read_file("state/slot") == b"a00"
        assert board.read_file("main.py") == MAIN_TEXT
