"""Many wakes of a virtual board at 1000 times the speed of sleep, a command and a reading in each.

Must stay true: every command is counted where it took effect, on the board's own log, and every reading in the host's
database; the free heap is what the device itself measured at the same point of each wake, after a collection.

    python -m proofs.board_wakes [--wakes 1000] [BOARD …]        `make wakes`; exit code 1 where anything is wrong
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from dormouse_host.virtual.board import Wifi
from dormouse_host.virtual.device import VirtualDevice
from dormouse_host.virtual.kind import names as kinds

APP = """
from dormouse import command, telemetry


@command("say", n=int)
def say(wake, n):
    wake.log("said", n=n)
    return {"n": n}


@telemetry()
def tick(wake):
    return {"vbat": wake.battery()}
"""
_EVERY = 10  # seconds between two wakes: a hundredth of one here
_SETTLED = 300  # wakes, a command in each, after which the window of 256 numbers is full and grows no more
_LEAST = 600  # wakes from which a leak can be told from the heap's ups and downs of a few hundred bytes
_LEAK = 0.5  # bytes for each wake: half of one
_STUCK = 30  # seconds without a wake, and the board is stuck
_FINISH = 60  # seconds in which what is under way at the end must arrive


@dataclass(frozen=True)
class Outcome:
    """What a run showed. `heap`: free bytes of each wake, in order; `numbers`: of the telemetry that came in."""

    kind: str
    wakes: int
    seconds: float
    sent: int
    said: tuple[int, ...]
    succeeded: int
    numbers: tuple[int, ...]
    heap: tuple[int, ...]
    strange: tuple[str, ...]

    @property
    def faults(self) -> list[str]:
        """What should not be; empty for a good run."""
        wanted = list(range(1, self.sent + 1))
        found = list(self.strange)
        if sorted(set(self.said)) != wanted:
            found.append(f"{self.sent - len(set(self.said))} of {self.sent} commands lost")
        if len(set(self.said)) != len(self.said):
            found.append(f"{len(self.said) - len(set(self.said))} commands done twice")
        if list(self.said) != sorted(self.said):
            found.append("commands out of order")
        if self.succeeded != self.sent:
            found.append(f"{self.sent - self.succeeded} results lost")
        if list(self.numbers) != list(range(self.numbers[0] if self.numbers else 0, len(self.numbers) + 1)):
            found.append(
                f"telemetry has gaps or repeats: {len(self.numbers)} records up to {max(self.numbers, default=0)}"
            )
        if self.leak >= _LEAK:
            found.append(f"{self.leak:.1f} bytes of heap leaked with each wake")
        return found

    @property
    def leak(self) -> float:
        """Bytes of free heap lost with each wake, by the medians of the two halves of the settled part."""
        settled = self.heap[_SETTLED:]
        if len(self.heap) < _LEAST:
            return 0.0
        half = len(settled) // 2
        return (median(settled[:half]) - median(settled[-half:])) / half

    def __str__(self) -> str:
        heap = self.heap[_SETTLED:] or self.heap
        return (
            f"{self.kind}: {self.wakes} wakes in {self.seconds:.0f} s, {len(self.said)} of {self.sent} commands done, "
            f"{len(self.numbers)} readings, free heap {min(heap)} to {max(heap)} bytes, "
            f"{self.leak:+.2f} lost with each wake; "
            f"{', '.join(self.faults) or 'nothing wrong'}"
        )


def run(kind: str, wakes: int, say: Callable[[str], object] = lambda line: None) -> Outcome:
    """So many wakes of that board."""
    with tempfile.TemporaryDirectory(prefix="dormouse-wakes-") as folder:
        app = Path(folder, "app.py")
        app.write_text(APP)
        wifi = Wifi(scan_ms=2, join_ms=2, dhcp_ms=2)
        settings = {"connect_every": _EVERY}
        with VirtualDevice(kind, Path(folder, "device"), app, wifi=wifi, settings=settings) as device:
            return _drive(device, kind, wakes, say)


def _drive(device: VirtualDevice, kind: str, wakes: int, say: Callable[[str], object]) -> Outcome:
    names: list[str] = []
    said: list[int] = []
    strange: list[str] = []
    done, began, last = 0, time.monotonic(), time.monotonic()
    device.board.speed = 1000
    while done < wakes:
        for event in device.told():
            if event.name == "said":
                said.append(event.fields["n"])
            elif event.name == "error":
                strange.append(f"error in wake {done + 1}: {event.fields}")
            elif event.name == "asleep":
                done, last = done + 1, time.monotonic()
                if not event.fields["drained"]:
                    strange.append(f"wake {done} was not drained")
                names.append(device.fleet.send(device.id, "say", {"n": len(names) + 1}).name)
                if done % 100 == 0:
                    say(f"{kind}: {done} wakes")
        if time.monotonic() - last > _STUCK:
            strange.append(f"no wake for {_STUCK} s after {done}; the board is {device.board.state}")
            break
        time.sleep(0.005)
    seconds = time.monotonic() - began
    end = time.monotonic() + _FINISH
    while len(said) < len(names) and time.monotonic() < end:
        said += [event.fields["n"] for event in device.told() if event.name == "said"]
        time.sleep(0.05)
    views = [device.fleet.wait(name, max(0.0, end - time.monotonic())) for name in names]
    device.board.speed = 1
    return Outcome(
        kind,
        done,
        seconds,
        len(names),
        tuple(said),
        sum(view.status == "succeeded" for view in views),
        tuple(sorted(record["number"] for record in device.telemetry())),
        tuple(wake["free"] for wake in device.fleet.export("wakes")),
        tuple(strange),
    )


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="board_wakes")
    parser.add_argument("--wakes", type=int, default=1000)
    parser.add_argument("boards", nargs="*", default=kinds())
    asked = parser.parse_args(arguments)
    wrong = 0
    for kind in asked.boards:
        outcome = run(kind, asked.wakes, lambda line: print(line, file=sys.stderr, flush=True))
        print(outcome, flush=True)
        wrong += bool(outcome.faults)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
