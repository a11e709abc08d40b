"""Rollouts by a real relay to devices that are processes: waves, a stop, and going on."""

import subprocess
import sys

import pytest

from dormouse_host import Fleet
from dormouse_host.cli.rollouts import counts, part
from dormouse_host.errors import HostError
from support.device_folder import Device, DeviceInterpreter
from support.relays import Running, published
from support.updating import install, program
from support.waiting import WITHIN, until

OLD = """
from dormouse import command

@command("say", text=str)
def say(wake, text):
    wake.log("say", text="old " + text)
"""
NEW = OLD.replace("old ", "new ")
BAD = program("import nosuchmodule\n")
ROUNDS_WITHIN = 3 * WITHIN  # seconds for some ten rounds of four processes


class World:
    """A ledger, a relay, and devices `d0`, `d1`, …"""

    def __init__(self, tmp_path, mosquitto, count: int) -> None:
        self.db = str(tmp_path / "ledger.db")
        self.fleet = Fleet(self.db)
        self.devices = {}
        for number in range(count):
            name = f"d{number}"
            device = Device(tmp_path / name, DeviceInterpreter("cpython"), mosquitto.address.url, id=name)
            (device.folder / "app.py").unlink()
            install(device.folder, program(OLD))
            self.devices[name] = device
        self.fleet.add(*self.devices)

    def round(self) -> None:
        """Every device wakes once, after the relay has had its turn and before it has another."""
        until(self.settled)
        for device in self.devices.values():
            device.wake()
        until(self.settled)

    def settled(self) -> bool:
        return published(self.fleet)

    def slots(self) -> str:
        """Of each device the slot that runs."""
        found = ""
        for device in self.devices.values():
            mark = device.folder / "state" / "slot"
            found += mark.read_text()[0] if mark.exists() else "a"
        return found

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "dormouse_host.cli", *words, "--db", self.db]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def world(tmp_path, mosquitto):
    made = World(tmp_path, mosquitto, 4)
    with made.fleet, Running(made.db, mosquitto):
        made.round()
        until(lambda: all(view.state for view in made.fleet.status()))
        yield made


def until_begun(world: World, name: str, count: int) -> None:
    until(lambda: sum(member.item is not None for member in world.fleet.rollouts(name)[0].members) == count)


def rounds_until(world: World, name: str, status: str) -> None:
    """Wakes until a rollout stands so. A relay looks at rollouts once a second: in between devices may wake in vain."""

    def stands() -> bool:
        world.round()
        return world.fleet.rollouts(name)[0].status == status

    until(stands, ROUNDS_WITHIN)


def test_a_bad_release_stops_after_the_first_wave_and_a_good_one_reaches_all(world):
    """The devices of later waves never hear of the bad one."""
    releases = dict.fromkeys(world.devices, BAD)
    bad = world.fleet.rollout(list(world.devices), [1, 2, 4], releases=releases)
    rounds_until(world, bad, "stopped")
    for _ in range(2):
        world.round()
    view = world.fleet.rollouts(bad)[0]
    assert view.counts == {"failed": 1, "to come": 3}
    assert "nosuchmodule" in (view.why or "")
    assert world.slots() == "aaaa"
    good = world.fleet.rollout(list(world.devices), [1, 4], releases=dict.fromkeys(world.devices, program(NEW)))
    rounds_until(world, good, "done")
    assert world.slots() == "bbbb"
    shown = world.cli("rollout", "status", bad).stdout
    assert "stopped: 1 failed, the last on d0: rolled back:" in shown
    assert "wave 1" in shown


def test_a_rollout_of_a_command_waits_for_approval_and_can_be_aborted(world):
    started = world.cli("rollout", "start", "say", "text=hi", "--all", "--waves", "1,2,100%", "--approve")
    assert started.returncode == 0, started.stderr
    name = started.stdout.strip()
    until_begun(world, name, 1)
    world.round()
    until(lambda: world.fleet.rollouts(name)[0].status == "waiting for approval")
    assert world.cli("rollout", "approve", name).returncode == 0
    until_begun(world, name, 2)
    assert world.cli("rollout", "abort", name).returncode == 0
    world.round()
    view = world.fleet.rollouts(name)[0]
    assert view.status == "aborted"
    assert [member.status for member in view.members] == ["succeeded", "cancelled", None, None]
    for order in ("retry", "resume"):
        refused = world.cli("rollout", order, name)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    shown = world.cli("result", name).stdout
    assert shown == world.cli("rollout", "status", name).stdout
    assert "d1: cancelled" in shown
    assert world.cli("cancel", name).returncode == 2
    assert world.cli("rollout", "status", "nosuch").returncode == 2


@pytest.mark.parametrize(
    ("text", "total", "found"),
    [("1,10%,100%", 200, [1, 20, 200]), ("5,50%", 4, [4]), ("1,1%,100%", 10, [1, 10]), ("3", 10, [3, 10])],
)
def test_waves_are_numbers_of_devices(text, total, found):
    assert counts(text, total) == found


@pytest.mark.parametrize("text", ["", "0", "x", "-1", "110%", "1,,2", "50%,10%", "100%,1"])
def test_what_is_no_wave_is_refused(text):
    with pytest.raises(HostError):
        counts(text, 10)


def test_a_part_is_a_percentage():
    assert part("20%") == 0.2
    with pytest.raises(HostError):
        part("0.2")
