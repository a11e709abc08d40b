"""The connection cut at every byte of a full dialogue, up and down, by FIN and by RST.

Must stay true: a byte counts as cut when the connection really ended before it; the dialogue has two commands, their
results, a telemetry record and all acknowledgements in it, over a real broker; nothing of it is lost or done twice.
"""

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dormouse_host.agent.process import Kind
from proofs.hostile.forks import Forks
from proofs.hostile.meddler import CutPipe
from proofs.hostile.stage import APP, HEAP, World, awake
from support.device_folder import COMES, Device, DeviceInterpreter, Host, Ran, command
from support.on_device import MEMORY

BUDGET = 4  # s
QUICK: dict[str, Any] = {"budget": BUDGET, "patience": 1000}  # of the wake that is cut
PATIENT: dict[str, Any] = {"budget": 20, "patience": 5000}  # of the others, also on a busy machine
PROMISES = ("lost", "twice", "stuck")
KINDS: tuple[Kind, ...] = ("cpython", "micropython")
MARGIN = 60  # bytes by which a dialogue may be longer than the one that was measured


class Point(NamedTuple):
    """The connection ends before byte `at` of what goes up (or down)."""

    kind: Kind
    tls: bool
    up: bool
    reset: bool
    at: int

    def __str__(self) -> str:
        over = "TLS" if self.tls else "plain"
        return f"{self.kind} {over} {'up' if self.up else 'down'} {'RST' if self.reset else 'FIN'} {self.at}"


@dataclass
class Outcome:
    """What a point came to; `cut` says whether the dialogue was that long at all."""

    point: Point
    cut: bool
    faults: list[str] = field(default_factory=list)
    output: str = ""


class Cutter:
    """One device, cut again and again. A context manager."""

    def __init__(self, world: World, kind: Kind, tls: bool) -> None:
        self._world, self._kind, self._tls = world, kind, tls
        self._stack = ExitStack()
        self._number = 0
        self._records = 0
        self._heard: set[int] = set()
        self._batches = 0

    def __enter__(self) -> "Cutter":
        enter = self._stack.enter_context
        broker = self._world.broker
        home = self._world.secure_port if self._tls else broker.address.port
        name = self._world.name()
        self._pipe = enter(CutPipe(home))
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="dormouse-sweep-", dir=MEMORY))) / "device"
        url = f"{'mqtts' if self._tls else 'mqtt'}://127.0.0.1:{self._pipe.port}"
        config: dict[str, str] = {"ca": "ca.der"} if self._tls else {}
        self._device = Device(folder, DeviceInterpreter(self._kind), url, APP, id=name, **PATIENT, **config)
        (folder / "ca.der").write_bytes(self._world.ca.der)
        self._forks = enter(Forks()) if self._kind == "cpython" else None
        self._host = enter(Host(broker.address, name, keep=True))
        first = self._wake()
        assert first.code == 0, first.output
        self._state = self._host.wait("up/wake")["state"]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _wake(self) -> Ran:
        self._records += 1
        if self._forks:
            return self._forks.wake(self._device.folder)
        with self._world.lock:
            process = self._device.start(heap=HEAP, rom=True)
        with process:
            return process.end()

    def length(self) -> dict[bool, int]:
        """Bytes that the whole dialogue takes, up and down."""
        self._dialogue(None)
        time.sleep(0.1)  # the proxy may not have counted the last of them yet
        return dict(self._pipe.gone)

    def attempt(self, point: Point) -> Outcome:
        """Cut there, wake once more if need be, and judge. What was only too slow has a second chance."""
        outcome = self._dialogue(point)
        if outcome.faults and all(fault.startswith("stuck") for fault in outcome.faults):
            outcome = self._dialogue(point)
        return outcome

    def _dialogue(self, point: Point | None) -> Outcome:
        numbers = [self._number + 1, self._number + 2]
        self._number += 2
        self._host.send(*(command(self._state, n, "say", text=f"text {n}") for n in numbers))
        self._pipe.aim(point)
        if point:
            self._device.configure(**QUICK)
        wakes = [self._wake()]
        hit = bool(point) and self._pipe.hit
        self._pipe.aim(None)
        self._device.configure(**PATIENT)
        if wakes[0].code:
            wakes.append(self._wake())
        self._wait_for(numbers)
        output = "\n".join(ran.output for ran in wakes)
        faults = [] if not point else list(self._judge(numbers, wakes))
        return Outcome(point or Point(self._kind, self._tls, True, False, -1), hit, faults, output)

    def _missing(self, numbers: list[int]) -> list[str]:
        batches = self._host.heard("up/telemetry")
        for batch in batches[self._batches :]:
            self._heard.update(record[0] for record in batch["records"])
        self._batches = len(batches)
        told = {entry["id"] for batch in self._host.heard("up/result")[-8:] for entry in batch if "value" in entry}
        missing = [f"the result of {n}" for n in numbers if f"{self._state}-test.{n}" not in told]
        return missing + [f"record {n}" for n in range(1, self._records + 1) if n not in self._heard]

    def _wait_for(self, numbers: list[int]) -> None:
        deadline = time.monotonic() + COMES
        while self._missing(numbers) and time.monotonic() < deadline:
            time.sleep(0.002)

    def _judge(self, numbers: list[int], wakes: list[Ran]) -> Iterator[str]:
        said = Counter(text for ran in wakes for text in ran.said)
        for n in numbers:
            if said[f"text {n}"] != 1:
                promise = "twice" if said[f"text {n}"] else "lost"
                yield f"{promise}: command {n} was done {said[f'text {n}']} times"
        for each in self._missing(numbers):
            yield f"lost: {each}"
        for ran in wakes:
            if awake(ran) > 1100 * BUDGET:
                yield f"stuck: awake for {awake(ran)} ms"
        if wakes[-1].code:
            yield f"stuck: the next wake ended with exit code {wakes[-1].code}"


def points(world: World, tls: bool) -> list[Point]:
    """Every byte of the dialogue, each direction, FIN and RST, on both interpreters."""
    found = []
    for kind in KINDS:
        with Cutter(world, kind, tls) as cutter:
            long = cutter.length()
        for up in (True, False):
            ends = range(long[up] + MARGIN)
            found += [Point(kind, tls, up, reset, at) for at in ends for reset in (False, True)]
    return found


def sample(world: World, seed: str, count: int) -> list[Point]:
    """So many of them, chosen by the seed."""
    return random.Random(seed).sample(points(world, False) + points(world, True), count)


def sweep(world: World, chosen: list[Point], workers: int, say: Callable[[Outcome], None]) -> list[Outcome]:
    """All these points, on so many devices at a time. `say` is told of each outcome."""
    groups = [
        (kind, tls, chosen_ones[n::share])
        for kind in KINDS
        for tls in (False, True)
        if (chosen_ones := [p for p in chosen if p.kind == kind and p.tls == tls])
        for share in (max(1, workers * len(chosen_ones) // len(chosen)),)
        for n in range(share)
    ]
    found: list[Outcome] = []
    lock = threading.Lock()

    def work(group: tuple[Kind, bool, list[Point]]) -> None:
        kind, tls, its_points = group
        with Cutter(world, kind, tls) as cutter:
            for point in its_points:
                outcome = cutter.attempt(point)
                with lock:
                    found.append(outcome)
                    say(outcome)

    with ThreadPoolExecutor(len(groups)) as pool:
        for done in [pool.submit(work, group) for group in groups]:
            done.result()
    return found


def summary(outcomes: list[Outcome]) -> str:
    """`6400 cut bytes: 0 lost, 0 twice, 0 stuck`."""
    cut = sum(outcome.cut for outcome in outcomes)
    broken = Counter(promise for o in outcomes for promise in {fault.partition(":")[0] for fault in o.faults})
    return f"{cut} cut bytes: " + ", ".join(f"{broken[promise]} {promise}" for promise in PROMISES)
