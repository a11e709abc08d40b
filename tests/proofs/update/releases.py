"""Releases that are no good, on virtual boards: each is left, the old program runs again, and the host knows why.

Must stay true: a row is green only if the update is `failed` as rolled back, by a device that booted the release at
most three times, and if the command that waited meanwhile was done once, by the old program. Orders that cross each
other are rows, too. The programs are those of `make unruly`.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from dormouse_host import Fleet
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds, project, releases
from dormouse_host.release import Release
from dormouse_host.virtual.device import VirtualDevice
from dormouse_host.virtual.images import Images
from proofs.unruly.program import BOARDS, PLACES, Program
from proofs.unruly.rows import KINDS
from support.relays import Running, published

OLD = """from dormouse import command

@command("mark")
def mark(wake):
    with open("/marks", "a") as file:
        file.write("x")
    return "old"
"""
NEW = OLD.replace('"old"', '"new"') + "TABLE = (\n" + "".join(f'    "row {n:040}",\n' for n in range(200)) + ")\n"
NEXT = NEW.replace('"new"', '"next"')
SETTINGS = {"watchdog": 10, "budget": 5, "total": 12}
WAKES = 9  # after which a row is red
BOOTS = 3  # of a release on trial
_SETTLES = 10.0  # s for what a wake said to be in the ledger
LEFT = (
    "import waits",
    "import, interrupts off",
    "import resets",
    "import crashes",
    "import exits",
    "import of nothing",
    "import recurses",
    "safe_state waits",
    "reading waits",
    "reading resets",
    "heap exhausted and kept",
    "heap exhausted, MemoryError",
    "it leaves the Wi-Fi",
    "no socket module",
    "socket() raises",
    "all sockets",
    "modules forgotten",
    "timer resets later",
)
_PROGRAMS = {program.name: program for programs in KINDS.values() for program in programs}
_NO_WIFI = """
import network
from machine import Timer

wlan = network.WLAN(network.STA_IF)
KEEP.append(Timer(-1, mode=Timer.PERIODIC, period=20, callback=lambda t: wlan.disconnect()))
"""
_PROGRAMS["it leaves the Wi-Fi"] = Program("it leaves the Wi-Fi", "import", _NO_WIFI)
assert all(_PROGRAMS[name].place in PLACES for name in LEFT)


@dataclass
class Row:
    """What became of one release, or one story, on a kind of board."""

    name: str
    kind: str
    faults: list[str] = field(default_factory=list)
    told: str = ""
    console: str = ""


class Bench:
    """A device of a kind with OLD on it."""

    def __init__(self, device: VirtualDevice, folder: Path) -> None:
        self.device, self.folder = device, folder

    def release(self, text: str) -> Release:
        """A release of this program."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "app.py").write_text(text)
        return releases.build(project.read(self.folder), kinds.load(self.device.board.kind.name), agent=False)

    def order(self, release: Release) -> str:
        """Order it, and wait until its first step is at the broker. Returns its name."""
        (name,) = self.device.fleet.update([self.device.id], release)
        self.settled()
        return name

    def settled(self) -> None:
        """Wait until the relay has published what there is."""
        end = time.monotonic() + _SETTLES
        while time.monotonic() < end:
            time.sleep(0.3)
            if published(self.device.fleet):
                return

    def wake(self) -> None:
        """One wake, and what follows from it."""
        self.device.wake()
        self.settled()

    def status(self, name: str) -> tuple[str, str]:
        """The status of an update, and why."""
        view = self.device.fleet.update_result(name)
        return view.status, view.why or ""

    def until(self, name: str, *statuses: str, wakes: int = WAKES) -> tuple[str, str]:
        """Wake until the update has one of these statuses. Returns it, and why."""
        for _ in range(wakes):
            if self.status(name)[0] in statuses:
                break
            self.wake()
        return self.status(name)

    def mark(self) -> str:
        """The program that does a command now."""
        return str(self.device.run("mark").value)


def _left(bench: Bench, name: str) -> tuple[list[str], str]:
    """A release with the unruly program of that name: (faults, why it was left)."""
    device = bench.device
    update = bench.order(bench.release(_PROGRAMS[name].text(device.board.kind.name)))
    bench.until(update, "sending")
    waits = ""
    before = 0
    for _ in range(WAKES):
        bench.wake()  # a Pico may boot more than once in this one: into the release, and out of it
        if not waits and any(status == "on trial" for _, status, _ in device.fleet.update_result(update).events):
            before = device.board.console.rfind('"do":"update"')
            waits = device.send("mark")
        if bench.status(update)[0] in ("failed", "succeeded"):
            break
    status, why = bench.status(update)
    if not waits:
        return [f"never on trial: {status} {why}"], why
    boots = device.board.console[before:].count(" boot {")
    faults = [] if status == "failed" and why.startswith("rolled back: ") else [f"{status}: {why}"]
    if boots > BOOTS + 1:  # that of the old program
        faults.append(f"{boots} boots")
    done = device.settle(waits)
    if (done.status, done.value) != ("succeeded", "old"):
        faults.append(f"what waited is {done.status} {done.value} {done.why or ''}")
    if device.board.read_file("marks") != b"x":
        faults.append(f"done {len(device.board.read_file('marks'))} times")
    return faults, why


def _in_a_row(second: str, runs: str) -> Callable[["Bench"], list[str]]:
    """NEW, and once the device has kept it, another program: it runs then."""

    def story(bench: Bench) -> list[str]:
        names = []
        for text in (NEW, second):
            names.append(bench.order(bench.release(text)))
            bench.until(names[-1], "succeeded", "failed")
        return _expect(bench, dict.fromkeys(names, "succeeded"), runs)

    return story


def _cancelled_half_way(bench: Bench) -> list[str]:
    first = bench.order(bench.release(NEW))
    bench.until(first, "sending")
    bench.device.fleet.cancel_update(first)
    bench.settled()
    bench.wake()
    bench.wake()
    faults = _expect(bench, {first: "cancelled"}, "old")
    if left := [name for name in bench.device.board.files() if name.strip("/").startswith("b/")]:
        faults.append(f"left behind: {left}")
    return faults


def _replaced_half_way(bench: Bench) -> list[str]:
    first = bench.order(bench.release(NEW))
    bench.until(first, "sending")
    second = bench.order(bench.release(NEXT))
    bench.until(second, "succeeded", "failed")
    return _expect(bench, {first: "cancelled", second: "succeeded"}, "next")


def _another_architecture(bench: Bench) -> list[str]:
    made = replace(bench.release(NEW), mpy=(6, 3))
    name = bench.order(made)
    bench.until(name, "failed", "succeeded")
    why = bench.status(name)[1]
    return _expect(bench, {name: "failed"}, "old") + ([] if "made for .mpy" in why else [why])


def _bad_then_good(bench: Bench) -> list[str]:
    first = bench.order(bench.release("import nowhere\n"))
    bench.until(first, "failed", "succeeded")
    second = bench.order(bench.release(NEW))
    bench.until(second, "succeeded", "failed")
    return _expect(bench, {first: "failed", second: "succeeded"}, "new")


def _from_another_ledger(bench: Bench) -> list[str]:
    """The second owner's release replaces that of the first, whose ledger learns it."""
    device = bench.device
    first = bench.order(bench.release(NEW))
    bench.until(first, "sending")
    with _SecondOwner(device, bench.folder.parent / "other.db") as other:
        (second,) = other.fleet.update([device.id], bench.release(NEXT))
        for _ in range(WAKES):
            time.sleep(1)
            device.wake()
            if other.fleet.update_result(second).final and device.fleet.update_result(first).final:
                break
        theirs = other.fleet.update_result(second)
        ours = device.fleet.update_result(first)
    runs = bench.mark()
    true = {"next": ("failed", "succeeded"), "new": ("succeeded", "failed")}
    if (ours.status, theirs.status) != true.get(runs):
        return [f"{runs} runs; ours {ours.status} {ours.why or ''}, theirs {theirs.status} {theirs.why or ''}"]
    return []


class _SecondOwner:
    """A ledger and a relay beside those of the device."""

    def __init__(self, device: VirtualDevice, path: Path) -> None:
        self._running = Running(str(path), device.broker, "other")
        self._path, self._device = path, device

    def __enter__(self) -> "_SecondOwner":
        self.fleet = Fleet(str(self._path))
        self.fleet.add(self._device.id)
        self._running.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.__exit__()
        self.fleet.close()


def _expect(bench: Bench, updates: dict[str, str], runs: str) -> list[str]:
    faults = [
        f"update {number} is {bench.status(name)}, not {wanted}"
        for number, (name, wanted) in enumerate(updates.items(), 1)
        if bench.status(name)[0] != wanted
    ]
    value = bench.mark()
    return faults + ([] if value == runs else [f"{value} runs, not {runs}"])


STORIES: dict[str, Callable[[Bench], list[str]]] = {
    "two releases in a row": _in_a_row(NEXT, "next"),
    "one older than the running": _in_a_row(OLD, "old"),
    "cancelled half-way": _cancelled_half_way,
    "replaced half-way": _replaced_half_way,
    "the same twice": _in_a_row(NEW, "new"),
    "for another architecture": _another_architecture,
    "a bad one, then a good one": _bad_then_good,
    "from another ledger": _from_another_ledger,
}
ROWS = [(name, kind) for name in (*LEFT, *STORIES) for kind in BOARDS]


@cache
def _images(folder: Path) -> Images:
    folder.mkdir(parents=True, exist_ok=True)
    return Images(folder)


def run(whole: Path, which: tuple[str, str]) -> Row:
    """That row of ROWS, in a folder of its own below `whole`; what goes wrong in the row itself is a fault, too.

    Several at a time are several processes: compiling is not for threads.
    """
    name, kind = which
    row = Row(name, kind)
    folder = Path(tempfile.mkdtemp(prefix="row-", dir=whole))
    app = folder / "old" / "app.py"
    app.parent.mkdir()
    app.write_text(OLD)
    try:
        images = _images(whole / f"images{os.getpid()}")
        with VirtualDevice(kind, folder / "device", app, images=images, settings=SETTINGS) as device:
            bench = Bench(device, folder / "new")
            try:
                if name in STORIES:
                    row.faults = STORIES[name](bench)
                else:
                    row.faults, row.told = _left(bench, name)
            finally:
                row.console = device.board.console
    except (HostError, OSError, AssertionError) as error:
        row.faults.append(f"{type(error).__name__}: {error}")
    shutil.rmtree(folder)
    return row
