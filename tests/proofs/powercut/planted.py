"""Bugs that break one rule of the device each, and where to cut so that they show.

Must stay true: a bug is a change of the agent's own text, which fails loudly where that text is no longer there; the
same points find nothing in the agent as it is.
"""

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dormouse_host.agent import toolchain
from proofs.powercut.bench import Bench
from proofs.powercut.oracle import judge
from proofs.powercut.points import Point, all_in
from proofs.powercut.stories import tell
from proofs.powercut.sweep import attempt

TRIES = 12  # points for each bug


@dataclass(frozen=True)
class Bug:
    """`old` becomes `new` in the one file that says it; the promise `breaks` is broken when `story` is cut in the wake
    that told `where`, at an operation of `kind`.
    """

    old: str
    new: str
    breaks: str
    story: str
    where: str
    kind: str


BUGS = {
    "PUBACK before flush": Bug(
        "        if self.before_send:\n            self.before_send()\n",
        "        self._send()\n        if self.before_send:\n            self.before_send()\n\n    def _send(self):\n",
        "lost",
        "short",
        "starting",
        "send:2:after",
    ),
    "`started` not written": Bug(
        "index, number, 1, attempt) + self.done",
        "UNNAMED, 0, 1, 1) + self.done",
        "twice",
        "short",
        "starting",
        "hand",
    ),
    "`done` before the handler": Bug(
        "                self.inbox.start(index, number)\n",
        "                self.inbox.start(index, number)\n"
        "                self.inbox.finish(index, number, protocol.SUCCEEDED)\n"
        "                self.inbox.commit()\n",
        "lies",
        "short",
        "starting",
        "hand",
    ),
    "window not persisted": Bug(
        "in w.snapshot()",
        "in Window(w.index, w.name).snapshot()",
        "twice",
        "long",
        "compacting",
        "send",
    ),
    "rename replaced by overwrite": Bug(
        '            aside += "~"\n',
        "            self.remove(name)\n",
        "lost",
        "long",
        "compacting",
        "flash",
    ),
    "telemetry number reused after a cut": Bug(
        "        self.acked = self.held = min(acked, self.last)",
        "        self.last = min(acked, self.last)\n        self.acked = self.held = min(acked, self.last)",
        "twice",
        "short",
        "starting",
        "send",
    ),
    "mark without checksum": Bug(
        ' and unpack_from("<I", b)[0] == crc32(b[4:], _SEED)',
        "",
        "stuck",
        "short",
        "starting",
        "mark:1:half",  # a file system that tears: littlefs does not
    ),
}


def plant(bug: Bug, folder: Path) -> Path:
    """A copy of the agent with the bug in it."""
    shutil.copytree(toolchain.agent_folder() / "dormouse", folder / "dormouse")
    files = [file for file in folder.rglob("*.py") if bug.old in file.read_text()]
    if [file.read_text().count(bug.old) for file in files] != [1]:
        raise ValueError(f"the agent does not say once: {bug.old}")
    files[0].write_text(files[0].read_text().replace(bug.old, bug.new))
    return folder


def points(bug: Bug, bench: Bench) -> Iterator[Point]:
    """Where to look for it."""
    run = tell(bench, bug.story)
    wake = next(at for at, w in enumerate(run.wakes, 1) if w.told(bug.where))
    cuts = [cut for cut in all_in(run.wakes[wake - 1].ops) if cut.startswith(bug.kind)] or [bug.kind]
    for cut in random.Random(7).sample(cuts, min(TRIES, len(cuts))):
        yield Point(bug.story, wake, cut)


def hunt(bug: Bug, bench: Bench) -> list[str]:
    """The first faults that the harness finds, in a run without a cut or with one; none where it finds none."""
    run = tell(bench, bug.story)
    if faults := judge(run):
        return ["without any cut", *faults]
    for point in points(bug, bench):
        if faults := list(attempt(bench, point).faults):
            return [str(point), *faults]
    return []
