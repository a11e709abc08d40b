"""The device of a row: a flashed Pico W, its broker and its ledger, and what the row cost.

Must stay true: a row begins with a copy of the same flash and ledger, so rows do not depend on each other; every figure
is the emulated board's own, and none is estimated.
"""

import shutil
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dormouse_host import processes
from dormouse_host.emulated.device import EmulatedDevice
from dormouse_host.virtual.device import WakeLog
from dormouse_host.virtual.hardware import Event
from dormouse_host.virtual.wifi import Wifi

KIND = "RPI_PICO_W"
BROKER = "mqtt://10.0.0.1"  # the row's own broker, wherever it listens
WAIT = 900.0  # seconds of this machine for a wake: a watchdog's eight seconds of computing take three minutes
MODES = ("before", "half", "torn", "after")  # of a power cut
_PRINTED, _SHOWN = 20000, 200  # characters and events of a row that breaks, in its log
PINS = 23  # GPIO 0 to 22, which a Pico W leaves to the program

APP = """
from dormouse import command, telemetry


@command("pulse", n=int)
def pulse(wake, n):
    from machine import Pin

    pin = Pin(n % 23, Pin.OUT, value=0)
    pin.value(1)
    pin.value(0)
    return {"n": n}


@command("work", limit=12, s=float)
def work(wake, s):
    wake.log("working")
    wake.hold(s)


@command("fails")
def fails(wake):
    raise ValueError("on purpose")


@command("nested")
def nested(wake):
    value = [1]
    for _ in range(7):
        value = [value]
    return value


@command("hang", limit=1)
def hang(wake):
    import time

    wake.log("hanging")
    while True:
        time.sleep_ms(100)


@command("stop", limit=1)
def stop(wake):
    import machine, time

    wake.log("stopping")
    machine.disable_irq()
    while True:
        time.sleep_us(1000)


@telemetry(every=60)
def climate(wake):
    return {"vbat": wake.battery()}
"""
PHASES = ("boot", "imports", "start", "join", "tls", "wake", "sleep")


@dataclass
class Figures:
    """What a row cost. `phases` in milliseconds, medians of its wakes; `heap` in bytes, the least of its wakes."""

    stack: int = 0
    heap: int = 0
    erases: int = 0
    programs: int = 0
    wakes: int = 0
    seconds: float = 0
    phases: dict[str, float] = field(default_factory=dict)


class Bench(processes.Started):
    """`flashed`: the folder of a device that another row left; without it the board is blank."""

    def __init__(
        self, firmware: Path, folder: Path, flashed: Path | None = None, tls: tuple[str, ...] = (), **settings: Any
    ) -> None:
        """`tls`: lines of mosquitto.conf for a second listener, on the port that `settings` name."""
        project = folder / "project"
        if flashed:
            shutil.copytree(flashed, folder, dirs_exist_ok=True)
        project.mkdir(parents=True, exist_ok=True)
        (project / "app.py").write_text(APP)
        self.device = EmulatedDevice(
            KIND,
            folder,
            project / "app.py",
            wifi=Wifi(),
            settings={"broker": BROKER, **settings},
            broker_settings=tls,
            flashed=flashed is not None,
            firmware=firmware,
        )
        self.board = self.device.board
        self.board.wifi.names["10.0.0.1:1883"] = ("127.0.0.1", self.device.broker.address.port)
        self._numbers: dict[int, str] = {}
        self._began = time.monotonic()

    def start(self) -> "Bench":
        """Flash it, or let it boot and finish a wake; then it sleeps."""
        self.device.start()
        self.wait("asleep", after=0)
        self.device.told()
        self.mark()
        return self

    def __exit__(self, *failure: object) -> None:
        if any(failure):
            events = "\n".join(map(str, self.board.events[-_SHOWN:]))
            print(f"{self.board.console[-_PRINTED:]}\n{events}", file=sys.stderr, flush=True)
        self.close()

    def close(self) -> None:
        """End it."""
        self.device.close()

    # ---- what rows do

    def wait(self, *names: str, after: int, timeout: float = WAIT) -> Event:
        """The first event of one of these names from number `after` on."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for event in self.board.events[after:]:
                if event.name in names:
                    return event
            if self.board.failure:
                raise self.board.failure
            time.sleep(0.02)
        raise AssertionError(f"no {' or '.join(names)} in {timeout:.0f} s; last: {self.board.console[-300:]!r}")

    def pulse(self) -> str:
        """Send the next command that has an effect outside. Returns its id."""
        number = len(self._numbers) + 1
        self._numbers[number] = self.device.send("pulse", n=number)
        return self._numbers[number]

    def wake(self) -> WakeLog:
        """The next wake."""
        return self.device.wake(WAIT / self.board.patience)

    def settle(self, wakes: int = 4) -> None:
        """Wake until every command is final, then judge what became of them."""
        for _ in range(wakes):
            drained = self.wake().asleep.get("drained")
            views = [self.device.fleet.wait(name, 20 if drained else 2) for name in self._numbers.values()]
            if all(view.final for view in views):
                break
        self.judge()

    def judge(self) -> None:
        """Each command had its effect once, one that was interrupted at most once; no reading is missing."""
        least, most = [0] * PINS, [0] * PINS
        for number, name in self._numbers.items():
            status = self.device.fleet.result(name).status
            assert status in ("succeeded", "interrupted"), f"pulse {number} is {status}"
            least[number % PINS] += status == "succeeded"
            most[number % PINS] += 1
        seen = [sum(1 for driven in self.board.driven if driven == (pin, 1)) for pin in range(PINS)]
        for pin in range(PINS):
            assert least[pin] <= seen[pin] <= most[pin], f"pin {pin}: {seen[pin]} pulses, {least[pin]} to {most[pin]}"
        numbers = sorted(record["number"] for record in self.device.telemetry())
        assert numbers == list(range(1, len(numbers) + 1)), f"telemetry has gaps or repeats: {numbers}"

    @property
    def interrupted(self) -> int:
        """Commands that were interrupted."""
        return sum(self.device.fleet.result(name).status == "interrupted" for name in self._numbers.values())

    # ---- figures

    def mark(self, event: int | None = None) -> None:
        """The row begins here, or at event `event`, the first after an end of a run."""
        if event is None:
            self._began = time.monotonic()
        self._events = len(self.board.events) if event is None else event
        ends = [e.fields for e in self.board.events[: self._events] if "stack" in e.fields]
        self._erases, self._programs = self.board.nor.erases, self.board.nor.programs
        if event is not None:
            self._erases, self._programs = (ends[-1]["erases"], ends[-1]["programs"]) if ends else (0, 0)
        self._wakes = len(list(self.device.fleet.export("wakes"))) if event is None else 0

    def operations(self) -> int:
        """The operations of the flash in the last run that has ended."""
        last, before = [e.fields for e in reversed(self.board.events) if "stack" in e.fields][:2]
        return int(last["erases"] + last["programs"] - before["erases"] - before["programs"])

    def figures(self, until: int | None = None) -> Figures:
        """What happened since `mark`, or up to event `until`."""
        events = self.board.events[self._events : until]
        ends = [event.fields for event in events if "stack" in event.fields]
        counted = ends[-1] if until is not None and ends else {}
        depths = [end["stack"] for end in ends] + ([self.board.stack()] if until is None else [])
        heaps = [wake["free"] for wake in list(self.device.fleet.export("wakes"))[self._wakes :] if wake.get("free")]
        runs = list(self._runs(until))
        return Figures(
            stack=max(depths, default=0),
            heap=min(heaps, default=0) if until is None else 0,
            erases=counted.get("erases", self.board.nor.erases) - self._erases,
            programs=counted.get("programs", self.board.nor.programs) - self._programs,
            wakes=sum(1 for run in runs if "join" in run),
            seconds=time.monotonic() - self._began,
            phases={
                phase: statistics.median(found)
                for phase in PHASES
                if (found := [run[phase] for run in runs if phase in run])
            },
        )

    def _runs(self, until: int | None) -> Iterable[dict[str, float]]:
        """The phases of each run of the firmware that ended since `mark`, from its boot on, in milliseconds."""
        run: list[Event] = []
        for event in self.board.events[:until]:
            if event.name == "boot":
                run = [event]
            elif run:
                run.append(event)
                if "stack" in event.fields:
                    if event.number >= self._events:
                        yield self._phases(run)
                    run = []

    def _phases(self, run: list[Event]) -> dict[str, float]:
        at = {event.name: event.at * 1000 for event in reversed(run)}  # the first of each name
        begin, end = run[0].at * 1000, run[-1].at * 1000
        found: dict[str, float] = {}
        awake = at.get("awake", begin)
        if "asleep" in at:
            found["boot"] = at["asleep"] - begin
        if "asleep" in at and "awake" in at:
            found["sleep"] = awake - at["asleep"]
        if "radio on" in at and "awake" in at:
            found["imports"] = at["radio on"] - awake  # and what is read from flash before the network is needed
        joins = min((at[name] for name in ("scan", "join") if name in at), default=None)
        if joins is not None and "radio on" in at:
            found["start"] = joins - at["radio on"]
        if joins is not None and "connect" in at:
            found["join"] = at["connect"] - joins
        if "handshake done" in at and "connected" in at:
            found["tls"] = at["handshake done"] - at["connected"]
        if "awake" in at and run[-1].name == "reset":
            found["wake"] = end - awake
        return found


class Context(NamedTuple):
    """`firmware`: the file; `folder`: the row's own; `flashed`: the folder of a device that is flashed."""

    firmware: Path
    folder: Path
    flashed: Path

    def bench(self) -> Bench:
        """A flashed device, at its first boot."""
        return Bench(self.firmware, self.folder, self.flashed)


class Result(NamedTuple):
    """A row of the table."""

    name: str
    note: str
    figures: Figures
