"""Bugs that break one rule of host or device each, and the case that must show them.

Must stay true: a bug is a change of the sources' own text, which fails loudly where that text is no longer there; the
same case finds nothing in the sources as they are.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import dormouse_host
from dormouse_host.agent import toolchain
from proofs.endtoend.oracle import LOST, TWICE, UNTRUE
from proofs.endtoend.runs import Outcome, run
from proofs.endtoend.world import Build

HOST, DEVICE = "host", "device"
TRIES = 3  # real processes do not fail on command


@dataclass(frozen=True)
class Bug:
    """`old` becomes `new` in the one file of that `side` that says it; `case` in that size then breaks `breaks`."""

    side: str
    old: str
    new: str
    case: str
    breaks: str
    size: float = 0.3


BUGS = {
    "acknowledged before it is stored": Bug(
        HOST,
        "            wrong = self._ledger.take(",
        "            connection.confirm(mid for mid, _ in work.came)\n            wrong = self._ledger.take(",
        "disk full",
        LOST,
    ),
    "published again by timer": Bug(
        HOST,
        "        return not self.final and (self.republish or not self.claimed)\n",
        "        return not self.final\n",
        "quiet",
        TWICE,
    ),
    "settled by the window": Bug(
        HOST,
        "        if row.claimed:\n            row.wake, row.republish = end.wake, True\n",
        "        if row.claimed and status in protocol.FINAL:\n            row.status = status\n",
        "ledger copied",
        UNTRUE,
        1,
    ),
    "settled by an answer to other bytes": Bug(
        HOST, "    elif rules.ours(row, answer.state, answer.crc):\n", "    elif True:\n", "ledger copied", UNTRUE, 1
    ),
    "what is missing is not published again": Bug(
        HOST,
        "status is None and row.claimed and not row.final and _missing(",
        "False and _missing(",
        "queue overflow down",
        LOST,
    ),
    "a missing tail is not asked for": Bug(
        HOST, "    if acked <= whole:\n", "    if True:\n", "queue overflow up", LOST, 0.1
    ),
    "what went with a flash is not counted": Bug(
        HOST, "    if device.state not in (None, said.state):\n", "    if False:\n", "device wiped", LOST, 0.5
    ),
    "`started` not written": Bug(
        DEVICE, "index, number, 1, attempt) + self.done", "UNNAMED, 0, 1, 1) + self.done", "device cut", TWICE, 1
    ),
    "a number that was done is done again": Bug(
        DEVICE,
        "        elif code:\n            w.owe",
        "        elif False:\n            w.owe",
        "broker with old data",
        TWICE,
        1,
    ),
}


def hunt(bug: Bug, seed: int, folder: Path) -> Outcome:
    """The outcome of the first of a few tries that shows the bug, or of the last."""
    build = plant(bug, folder)
    for turn in range(TRIES):
        outcome = run(bug.case, seed + turn, bug.size, build)
        if outcome.verdict.count(bug.breaks):
            break
    return outcome


def plant(bug: Bug, folder: Path) -> Build:
    """A copy of that side's sources with the bug in them."""
    source = Path(dormouse_host.__file__).parent if bug.side == HOST else toolchain.agent_folder() / "dormouse"
    copy = folder / source.name
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    places = [file for file in sorted(copy.rglob("*.py")) if bug.old in file.read_text()]
    if len(places) != 1 or places[0].read_text().count(bug.old) != 1:
        raise LookupError(f"not exactly one place for {bug.old!r}: {places}")
    places[0].write_text(places[0].read_text().replace(bug.old, bug.new))
    return Build(host=folder) if bug.side == HOST else Build(agent=folder)
