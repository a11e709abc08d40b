"""Attacks, each tried for real: on a mosquitto of `broker init`, a relay process, and devices with the real agent.

Must stay true: an attack has the attacker's part only (what he can send and present), and is judged by what then
happened: effects, what came through, what lies on disk. `let_in` is set by what was seen, never by default to False.
"""

from collections.abc import Callable
from typing import NamedTuple

from proofs.attack.testbed import Testbed


class Outcome(NamedTuple):
    """What came of it. `seen` in words, for the table."""

    let_in: bool
    seen: str


class Attack(NamedTuple):
    """One row of the table."""

    group: str
    what: str
    run: Callable[[Testbed], Outcome]

    @property
    def name(self) -> str:
        """As `make attack ARGS=…` takes it."""
        return self.run.__name__.removeprefix("try_")


ATTACKS: list[Attack] = []


def attack(group: str, what: str) -> Callable[[Callable[[Testbed], Outcome]], Callable[[Testbed], Outcome]]:
    """Put a function on the list."""

    def add(run: Callable[[Testbed], Outcome]) -> Callable[[Testbed], Outcome]:
        ATTACKS.append(Attack(group, what, run))
        return run

    return add
