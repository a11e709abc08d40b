"""What a relay's CPU pays for one command when alerts, Home Assistant and onlookers are on: two relays side by side,
one with and one without all that.

Must stay true: both do the same at the same time on the same machine, each with a broker, a ledger and devices of its
own, and change places in each turn, so that other work falls on both alike and no difference between the two counts; a
turn is measured from a relay that has nothing left to do until so long after the last answer that all that follows from
it was told; what is compared is the CPU of the relay's own process.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from proofs.scale import run
from proofs.scale.plant import Plant, Settings, cpu, user_cpu

TURNS = 6
ALL_ON = "[alerts]\n[homeassistant]\n"
_AFTER = 25.0  # seconds: Home Assistant is looked after every ten, and told what has changed at the next but one
_CALM, _IDLE = 2.0, 0.15  # seconds in which a relay that has nothing to do uses at most this part of a core
_STARTED = 90.0  # seconds until it has nothing to do


@dataclass(frozen=True)
class Cost:
    """Of one command: seconds of the relay's CPU, `user`: those outside the kernel, and statements."""

    user: float
    cpu: float
    statements: float

    def __str__(self) -> str:
        return f"{self.user * 1e3:.3f} ms, with the kernel {self.cpu * 1e3:.3f} ms, {self.statements:.2f} statements"


@dataclass(frozen=True)
class Turn:
    """The two relays at the same time."""

    off: Cost
    on: Cost

    def times(self, what: str) -> float:
        """How many times as much it is with all of it."""
        return float(getattr(self.on, what) / getattr(self.off, what))

    def __str__(self) -> str:
        return f"× {self.times('user'):.3f}: nothing of it {self.off}; all of it {self.on}"


def measure(count: int, each: int, say: Callable[[Turn], object]) -> list[Turn]:
    """`each` commands for each of `count` devices of either relay in every turn; `say` gets each turn."""
    found: list[Turn] = []
    with Plant(count, Settings(processes=1)) as one, Plant(count, Settings(processes=1)) as other:
        for plant in (one, other):
            plant.start_relay()
            plant.start_devices()
            run.greet(plant)
            plant.stop_relay()
        for at in range(TURNS):
            off, on = (one, other) if at % 2 else (other, one)
            found.append(_turn(off, on, range(at * each, (at + 1) * each)))
            say(found[-1])
        for plant in (one, other):
            run.check(plant, TURNS * count * each)
    return found


def ratio(found: Sequence[Turn], what: str) -> float:
    """The median of all turns."""
    return statistics.median(turn.times(what) for turn in found)


def _turn(off: Plant, on: Plant, numbers: range) -> Turn:
    off.start_relay()
    on.start_relay(ALL_ON)
    on.start_watchers()
    for plant in (off, on):
        _calm(plant)
    with ThreadPoolExecutor(2) as pool:
        costs = list(pool.map(lambda plant: _cost(plant, numbers), (off, on)))
    on.stop_watchers()
    for plant in (off, on):
        plant.stop_relay()
    return Turn(*costs)


def _cost(plant: Plant, numbers: range) -> Cost:
    assert plant.relay
    pid, commands = plant.relay.pid, len(numbers) * plant.count
    before, user = plant.used(), user_cpu(pid)
    run.there_and_back(plant, numbers)
    time.sleep(_AFTER)
    used, user = plant.used() - before, user_cpu(pid) - user
    return Cost(user / commands, used.relay / commands, used.statements / commands)


def _calm(plant: Plant) -> None:
    """Wait until its relay has nothing to do."""
    assert plant.relay
    deadline = time.monotonic() + _STARTED
    while time.monotonic() < deadline:
        before = cpu(plant.relay.pid)
        time.sleep(_CALM)
        if cpu(plant.relay.pid) - before < _IDLE * _CALM:
            return
    raise run.Broken("the relay does not come to rest")
