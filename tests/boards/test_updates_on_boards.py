"""Updates over the air on virtual boards: real flash, real resets, the guard that no update changes."""

import time
from pathlib import Path

import pytest

from dormouse_host.flash import kinds, project, releases
from dormouse_host.virtual.device import VirtualDevice
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
    """Wake the device until the update is final. Returns its statuses."""
    for _ in range(wakes):
        device.wake()
        time.sleep(1)
        if device.fleet.update_result(name).final:
            break
    return [status for _, status, _ in device.fleet.update_result(name).events]


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
    assert follow(device, bad)[-1] == "failed", device.board.console[-3000:]
    why = device.fleet.update_result(bad).why or ""
    assert why.startswith("rolled back: "), why
    assert "no_such_thing" in why
    assert "app.py:2" in why
    assert device.run("which").value == "new"
    both = order(device, tmp_path / "new", NEW.replace('"new"', '"newer"'), agent=True)
    assert follow(device, both)[-1] == "succeeded", device.fleet.update_result(both).why
    assert device.run("which").value == "newer"
    assert device.board.read_file("guard.mpy") == guard


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_that_hangs_at_import_is_left_after_the_watchdog(started, tmp_path, kind):
    device = started(kind)
    name = order(device, tmp_path / "new", "while True:\n    pass\n")
    assert follow(device, name)[-1] == "failed", device.board.console[-3000:]
    assert device.fleet.update_result(name).why == "rolled back: cut off in import"
    assert device.run("which").value == "old"
