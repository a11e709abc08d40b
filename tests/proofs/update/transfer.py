"""The transfer of a release, cut at every byte, up and down, by FIN and by RST: real agent, broker, relay and ledger.

Must stay true: a byte counts as cut when the connection really ended before it. After each cut the device has the old
program or the new one, whole, and in the end the one that the ledger names; the command that waited was done once, and
each record of telemetry is stored once.
"""

import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from dormouse_host import Fleet
from dormouse_host.agent.process import Kind
from dormouse_host.broker.local import Mosquitto
from dormouse_host.release import Release
from proofs.hostile.forks import Forks
from proofs.hostile.meddler import CutPipe
from proofs.hostile.sweep import KINDS, MARGIN, PATIENT, QUICK, Outcome, Point
from support.device_folder import Device, DeviceInterpreter, Ran
from support.needs import need_mosquitto
from support.on_device import MEMORY
from support.relays import Running, published
from support.updating import install, marked
from support.waiting import comes

WAKES = 8  # after a cut; an update that is not final by then is stuck
_SETTLES = 20.0  # s
_ID = "dev"
_PROGRAM = """
from dormouse import command, telemetry

@command("mark")
def mark(wake):
    note("marks")
    return {version}

@telemetry()
def climate(wake):
    note("readings")
    return {{"n": {version}}}

def note(name):
    with open({folder!r} + name, "a") as file:
        file.write("x")
"""
_TABLE = bytes(range(256)) * 17  # five chunks: a file that reaches the flash in two parts


class Transfer:
    """One device that is updated again and again, each time to the next version. A context manager."""

    def __init__(self, broker: Mosquitto, kind: Kind, agent: Path | None = None) -> None:
        """`agent`: under CPython, not that of the project."""
        self._broker, self._kind, self._agent = broker, kind, agent
        self._stack = ExitStack()
        self._version = self._marks = 0

    def __enter__(self) -> "Transfer":
        enter = self._stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="dormouse-transfer-", dir=MEMORY)))
        self._pipe = enter(CutPipe(self._broker.address.port))
        self._name = f"{_ID}-{self._pipe.port}"
        url = f"mqtt://127.0.0.1:{self._pipe.port}"
        self._device = Device(folder / "device", DeviceInterpreter(self._kind), url, id=self._name, **PATIENT)
        (self._device.folder / "app.py").unlink()
        install(self._device.folder, self._release())
        self._fleet = enter(Fleet(str(folder / "ledger.db")))
        self._fleet.add(self._name)
        enter(Running(str(folder / "ledger.db"), self._broker, self._name))
        self._forks = enter(Forks(self._agent)) if self._kind == "cpython" else None
        self._wake()
        assert comes(lambda: self._fleet.status(self._name)[0].state), "the device was not heard"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _release(self) -> Release:
        text = _PROGRAM.format(version=100000 + self._version, folder=f"{self._device.folder}/")
        return Release({"app.py": text.encode(), "table.bin": b"%d" % self._version + _TABLE})

    def _wake(self, *, cut: bool = False) -> Ran:
        """One wake, after the relay has had its turn; then it is heard, if it came to its end and no `cut` took that
        away: the end is the last that a device says, and nobody confirms it.
        """
        self._settle()
        ran = self._forks.wake(self._device.folder) if self._forks else self._device.wake()
        if ran.code == 0 and not (cut and self._pipe.hit):
            heard = f"SELECT count(*) FROM ends WHERE device = '{self._name}' AND wake = {ran.one('boot')['wake']}"
            assert comes(lambda: self._asked(heard), _SETTLES), "the relay has not heard the end of a wake"
        return ran

    def _settle(self) -> None:
        assert comes(lambda: published(self._fleet), _SETTLES), "the relay has not published what there is"

    def _asked(self, sql: str) -> int:
        with self._fleet.ledger.database.reading() as connection:
            return connection.exec_driver_sql(sql).scalar() or 0

    def length(self) -> dict[bool, int]:
        """Bytes that the whole transfer takes, up and down."""
        outcome = self.attempt(None)
        assert not outcome.faults, f"without a cut: {outcome.faults}\n{outcome.output}"
        return dict(self._long)

    def attempt(self, point: Point | None) -> Outcome:
        """Update to the next version; the wake that takes its chunks is cut there."""
        self._version += 1
        new = self._release()
        (update,) = self._fleet.update([self._name], new)
        wakes = [self._wake()]
        waits = self._fleet.send(self._name, "mark").name
        self._settle()
        self._pipe.aim(point)
        if point:
            self._device.configure(**QUICK)
        wakes.append(self._wake(cut=bool(point)))
        hit, self._long = bool(point) and self._pipe.hit, dict(self._pipe.gone)
        self._pipe.aim(None)
        self._device.configure(**PATIENT)
        for _ in range(WAKES):
            self._settle()
            if self._fleet.update_result(update).final and self._fleet.result(waits).final:
                break
            wakes.append(self._wake())
        output = "\n".join(ran.output for ran in wakes)
        faults = list(self._judge(new, update, waits))
        return Outcome(point or Point(self._kind, False, True, False, -1), hit, faults, output)

    def _judge(self, new: Release, update: str, waits: str) -> Iterator[str]:
        view, done = self._fleet.update_result(update), self._fleet.result(waits)
        slot = marked(self._device)[0]
        files = {name: (self._device.folder / slot / name).read_bytes() for name in new.files}
        if view.status != "succeeded":
            yield f"stuck: the update is {view.status} {view.why or ''}"
        if (files == new.files) != (view.status == "succeeded"):
            yield f"lies: the update is {view.status}, and slot {slot} {'has' if files == new.files else 'has not'} it"
        if done.status != "succeeded" or done.value not in (100000 + self._version, 99999 + self._version):
            yield f"lost: the command is {done.status} {done.value} {done.why or ''}"
        self._marks += 1
        if (found := self._length_of("marks")) != self._marks:
            yield f"twice: {found} commands done of {self._marks}"
            self._marks = found
        taken = self._length_of("readings")
        its = f"FROM telemetry WHERE device = '{self._name}'"  # the relay hears the other devices, too
        comes(lambda: self._asked(f"SELECT count(*) {its}") >= taken, _SETTLES)
        stored, numbers = self._asked(f"SELECT count(*) {its}"), self._asked(f"SELECT max(number) {its}")
        if not (stored == numbers == taken):
            yield f"lost: {taken} records taken, {stored} stored, the last has number {numbers}"

    def _length_of(self, name: str) -> int:
        path = self._device.folder / name
        return path.stat().st_size if path.exists() else 0


def points(broker: Mosquitto) -> list[Point]:
    """Every byte of the transfer, each direction; FIN and RST by turns. Under MicroPython each seventh byte."""
    found = []
    for kind in KINDS:
        with Transfer(broker, kind) as transfer:
            long = transfer.length()
        for up in (True, False):
            ends = range(0, long[up] + MARGIN, 1 if kind == "cpython" else 7)
            found += [Point(kind, False, up, bool(number % 2), at) for number, at in enumerate(ends)]
    return found


def sweep(chosen: Sequence[Point], workers: int, say: Callable[[Outcome], object], broker: Mosquitto) -> list[Outcome]:
    """All these points, on so many devices of each kind at a time."""

    def work(kind: Kind, some: Sequence[Point]) -> list[Outcome]:
        outcomes = []
        with Transfer(broker, kind) as transfer:
            for point in some:
                outcomes.append(transfer.attempt(point))
                say(outcomes[-1])
        return outcomes

    shares = [(kind, [p for p in chosen if p.kind == kind][n::workers]) for kind in KINDS for n in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(work, kind, some) for kind, some in shares if some]
        return [outcome for job in jobs for outcome in job.result()]


def run(
    workers: int, say: Callable[[str], object], sample: int | None = None, seed: str = "0"
) -> tuple[int, list[str]]:
    """How many bytes were cut, and what was wrong after them; a sample of so many where asked for."""

    def told(outcome: Outcome) -> None:
        if outcome.faults:
            say(json.dumps([str(outcome.point), *outcome.faults]) + "\n" + outcome.output)

    with Mosquitto(need_mosquitto(), ["max_queued_messages 100000"]) as broker:
        chosen = points(broker)
        if sample is not None:
            chosen = random.Random(seed).sample(chosen, sample)
        outcomes = sweep(chosen, workers, told, broker)
    faults = [f"{outcome.point}: {fault}" for outcome in outcomes for fault in outcome.faults]
    return sum(outcome.cut for outcome in outcomes), faults
