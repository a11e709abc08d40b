"""A rollout to many devices that are processes: first a release that can't be imported, then a good one.

Must stay true: each wake is a process of real MicroPython, at a real broker, with the relay at work meanwhile. After
the bad release every device runs the old program, after the good one the new, which a command to all of them shows.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from threading import Lock

from dormouse_host import Fleet
from dormouse_host.broker.local import Mosquitto
from dormouse_host.ledger.rollouts import RolloutView
from dormouse_host.release import Release
from support.device_folder import Device, DeviceInterpreter
from support.needs import need_micropython, need_mosquitto
from support.on_device import MEMORY
from support.relays import Running
from support.updating import install, program

DEVICES = 200
ABORT = 2  # failures
WAKERS = 4
NAP = 3.0  # seconds between two wakes of a device, at least
WITHIN = 1200.0  # seconds for a rollout
OLD = """
from dormouse import command

@command("which")
def which(wake):
    return "old"
"""
NEW = OLD.replace("old", "new")
BAD = program(OLD + "import nosuchmodule\n")


class Farm:
    """The devices `d0`, `d1`, …, a relay and a ledger. A context manager."""

    def __init__(self, folder: Path, count: int, broker: Mosquitto) -> None:
        self.fleet = Fleet(str(folder / "ledger.db"))
        self._relay = Running(str(folder / "ledger.db"), broker, "farm")
        interpreter, url = self._micropython(), broker.address.url
        names = [f"d{n}" for n in range(count)]
        self.devices = {name: Device(folder / name, interpreter, url, id=name) for name in names}
        for device in self.devices.values():
            (device.folder / "app.py").unlink()
            install(device.folder, program(OLD))
        self.fleet.add(*self.devices)
        self._lock = Lock()
        self._next = cycle(self.devices)
        self._woken = dict.fromkeys(self.devices, 0.0)
        self.wakes = 0

    @staticmethod
    def _micropython() -> DeviceInterpreter:
        need_micropython()
        return DeviceInterpreter("micropython")

    def __enter__(self) -> "Farm":
        self._relay.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._relay.__exit__(*failure)
        self.fleet.close()

    def live(self, over: Callable[[], bool]) -> bool:
        """The devices wake one after the other, some at a time, until that is so. Whether it came to that."""
        end = time.monotonic() + WITHIN
        done = False

        def work() -> None:
            nonlocal done
            while time.monotonic() < end and not done:
                with self._lock:
                    name = next(self._next)
                    nap = self._woken[name] + NAP - time.monotonic()
                    time.sleep(max(0.0, nap))
                    self._woken[name] = time.monotonic()
                    self.wakes += 1
                    done = done or over()
                if not done:
                    self.devices[name].wake()

        with ThreadPoolExecutor(WAKERS) as pool:
            for job in [pool.submit(work) for _ in range(WAKERS)]:
                job.result()
        return done

    def rollout(self, release: Release, waves: list[int]) -> RolloutView:
        """Roll a release out, until that is over."""
        names = list(self.devices)
        name = self.fleet.rollout(names, waves, releases=dict.fromkeys(names, release), abort_after=ABORT)

        def view() -> RolloutView:
            return self.fleet.rollouts(name)[0]

        self.live(lambda: view().status != "running" and not set(view().counts) & {"queued", "sending", "on trial"})
        return view()

    def programs(self) -> Counter[str]:
        """What a command to all of them returns, and how often."""
        sent = [self.fleet.send(name, "which").name for name in self.devices]
        self.live(lambda: all(self.fleet.result(name).final for name in sent[-1:] + sent))
        return Counter(str(self.fleet.result(name).value) for name in sent)

    def slots(self) -> Counter[str]:
        """The slots that run, and how often."""
        marks = [device.folder / "state" / "slot" for device in self.devices.values()]
        return Counter(mark.read_text()[0] if mark.exists() else "a" for mark in marks)


def run(count: int, say: Callable[[str], object]) -> list[str]:
    """What was wrong. `say` gets a line of figures after each rollout."""
    faults = []
    waves = sorted({1, max(1, count // 10), count})
    with (
        tempfile.TemporaryDirectory(prefix="dormouse-farm-", dir=MEMORY) as folder,
        Mosquitto(need_mosquitto(), ["max_queued_messages 100000"]) as broker,
        Farm(Path(folder), count, broker) as farm,
    ):
        assert farm.live(lambda: all(view.state for view in farm.fleet.status())), "not all devices were heard"
        for name, release, status, runs, slot in (
            ("bad", BAD, "stopped", "old", "a"),
            ("good", program(NEW), "done", "new", "b"),
        ):
            began, woken = time.monotonic(), farm.wakes
            view = farm.rollout(release, waves)
            told = ", ".join(f"{number} {what}" for what, number in sorted(view.counts.items()))
            say(
                f"{name} release, {count} devices, waves {waves}: {view.status}; {told}; "
                f"{farm.wakes - woken} wakes, {time.monotonic() - began:.0f} s"
            )
            if view.status != status:
                faults.append(f"{name}: the rollout is {view.status}: {view.why}")
            if name == "bad" and not ABORT <= view.counts["failed"] <= waves[1]:
                faults.append(f"bad: {view.counts['failed']} failed, aborted after {ABORT}")
            if name == "bad" and view.counts["to come"] < count - waves[-2]:
                faults.append(f"bad: the last wave has begun on {count - view.counts['to come']} devices")
            for what, found, wanted in (("programs", farm.programs(), runs), ("slots", farm.slots(), slot)):
                if found != {wanted: count}:
                    faults.append(f"{name}: {what} {dict(found)}, not {wanted} everywhere")
    return faults
