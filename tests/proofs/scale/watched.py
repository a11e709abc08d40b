"""What a relay's CPU pays for one command when alerts, Home Assistant and onlookers are on: with and without, in turn.

Must stay true: both kinds are measured on one ledger, broker and set of devices, each in several turns that alternate
(off, on, on, off, …), so that what drifts falls on both; a turn is measured from a relay that has nothing left to do
until so long after the last answer that all that follows from it was told; what is compared is CPU of the relay's own
process, which other work on the machine takes least from.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proofs.scale import run
from proofs.scale.plant import Plant, cpu, user_cpu

TURNS = 6  # of each kind
ALL_ON = "[alerts]\n[homeassistant]\n"
_AFTER = 12.0  # seconds: Home Assistant is told every five
_CALM, _IDLE = 2.0, 0.15  # seconds in which a relay that has nothing to do uses at most this part of a core
_STARTED = 90.0  # seconds until it has nothing to do


@dataclass(frozen=True)
class Turn:
    """Of one command: seconds of the relay's CPU, `user`: those outside the kernel, and statements."""

    on: bool
    user: float
    cpu: float
    statements: float

    def __str__(self) -> str:
        name = "all of it" if self.on else "nothing of it"
        times = f"{self.user * 1e3:.3f} ms, with the kernel {self.cpu * 1e3:.3f} ms"
        return f"{name:14} {times}, {self.statements:.2f} statements"


def measure(count: int, each: int, say: Callable[[Turn], object]) -> list[Turn]:
    """`each` commands for each of `count` devices in every turn; `say` gets each turn."""
    found: list[Turn] = []
    with Plant(count) as plant:
        plant.start_relay()
        plant.start_devices()
        run.greet(plant)
        plant.stop_relay()
        for at in range(2 * TURNS):
            found.append(_turn(plant, range(at * each, (at + 1) * each), on=at % 4 in (1, 2)))
            say(found[-1])
        run.check(plant, 2 * TURNS * count * each)
    return found


def ratio(found: Sequence[Turn], what: str) -> float:
    """How many times as much it is with all of it, by the medians."""
    on, off = (statistics.median(getattr(turn, what) for turn in found if turn.on is kind) for kind in (True, False))
    return float(on / off)


def _turn(plant: Plant, numbers: range, *, on: bool) -> Turn:
    plant.start_relay(ALL_ON if on else "")
    if on:
        plant.start_watchers()
    assert plant.relay
    pid = plant.relay.pid
    _calm(pid)
    before, user = plant.used(), user_cpu(pid)
    run.there_and_back(plant, numbers)
    time.sleep(_AFTER)
    used, user = plant.used() - before, user_cpu(pid) - user
    plant.stop_watchers()
    plant.stop_relay()
    commands = len(numbers) * plant.count
    return Turn(on, user / commands, used.relay / commands, used.statements / commands)


def _calm(pid: int) -> None:
    """Wait until a relay has nothing to do."""
    deadline = time.monotonic() + _STARTED
    while time.monotonic() < deadline:
        before = cpu(pid)
        time.sleep(_CALM)
        if cpu(pid) - before < _IDLE * _CALM:
            return
    raise run.Broken("the relay does not come to rest")
