"""One case from its beginning to the line that says what it came to.

Must stay true: what a case left behind is judged whatever happened in it; a case that could not be run is broken, not
passed.
"""

import time
from contextlib import nullcontext
from dataclasses import dataclass

from endtoend.cases import CASES
from endtoend.oracle import LOST, TWICE, UNTRUE, Verdict, judge
from endtoend.world import Build, World
from postgresql import PostgreSQL, need_postgresql


@dataclass
class Outcome:
    """A case that was run."""

    case: str
    seed: int
    verdict: Verdict
    faults: dict[str, int]
    wakes: int
    seconds: float

    @property
    def line(self) -> str:
        """All of it."""
        v = self.verdict
        statuses = ", ".join(f"{count} {status}" for status, count in v.statuses.most_common()) or "none"
        told = ", ".join(f"{count} {what}" for what, count in self.faults.items()) or "no faults"
        records = f"{v.records} records: {v.stored} stored, {v.dropped} dropped"
        records += f", {v.wiped} wiped with their flash" if v.wiped else ""
        return (
            f"{self.case}: {told}; {v.statuses.total()} commands: {statuses}; {v.effects} effects; "
            f"{v.again} published again; {records}; {self.wakes} wakes; {self.seconds:.0f} s: {v.summary}"
        )


def run(case: str, seed: int, size: float = 1.0, build: Build | None = None) -> Outcome:
    """One case, in full size or smaller."""
    began = time.monotonic()
    how = CASES[case]
    with PostgreSQL(need_postgresql()) if how.postgresql else nullcontext() as server:
        db = server.url if server else None
        with World(case, seed, size, build or Build(), db=db, **how.how) as world:
            how.run(world)
            world.settle()
            verdict = judge(world)
            wakes = sum(device.wakes for device in world.devices)
            return Outcome(case, seed, verdict, dict(world.faults), wakes, time.monotonic() - began)


def summary(outcomes: list[Outcome]) -> str:
    """`0 lost, 0 twice, 0 untrue`."""
    return ", ".join(f"{sum(one.verdict.count(kind) for one in outcomes)} {kind}" for kind in (LOST, TWICE, UNTRUE))
