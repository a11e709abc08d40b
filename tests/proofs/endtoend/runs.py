"""One case from its beginning to the line that says what it came to.

Must stay true: what a case left behind is judged whatever happened in it; a case that could not be run is broken, not
passed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from proofs.endtoend.cases import CASES
from proofs.endtoend.oracle import LOST, TWICE, UNTRUE, Verdict, judge
from proofs.endtoend.world import Build, World

SQLITE, POSTGRESQL = "sqlite", "postgresql"
DATABASES = (SQLITE, POSTGRESQL)


@dataclass
class Outcome:
    """A case that was run."""

    case: str
    seed: int
    database: str
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
            f"{self.case}, {self.database}, seed {self.seed}: {told}; {v.statuses.total()} commands: {statuses}; "
            f"{v.effects} effects; {v.again} published again; {records}; {self.wakes} wakes; {self.seconds:.0f} s: "
            f"{v.summary}"
        )


def databases(case: str) -> tuple[str, ...]:
    """Those that this case can be run on."""
    return (POSTGRESQL,) if CASES[case].postgresql else DATABASES


def run(case: str, seed: int, size: float = 1.0, build: Build | None = None, url: str | None = None) -> Outcome:
    """One case, in full size or smaller. `url`: an empty ledger on PostgreSQL; without it a file of the run's own."""
    began = time.monotonic()
    how = CASES[case]
    database = POSTGRESQL if url else SQLITE
    if database not in databases(case):
        raise LookupError(f"{case} needs PostgreSQL")
    with World(case, seed, size, build or Build(), db=url, **how.how) as world:
        how.run(world)
        world.settle()
        verdict = judge(world)
        wakes = sum(device.wakes for device in world.devices)
        return Outcome(case, seed, database, verdict, dict(world.faults), wakes, time.monotonic() - began)


def summary(verdicts: Sequence[Verdict]) -> str:
    """`0 lost, 0 twice, 0 untrue`, and how many of how many records are missing."""
    records, missing = sum(one.records for one in verdicts), sum(one.missing for one in verdicts)
    kinds = ", ".join(f"{sum(one.count(kind) for one in verdicts)} {kind}" for kind in (LOST, TWICE, UNTRUE))
    return f"{missing} of {records} records lost; {kinds}"
