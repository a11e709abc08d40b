"""Many runs, several at once, each in a process of its own; those on PostgreSQL share a server, each in a database of
its own.

Must stay true: each run that was asked for has a line; one that could not be run is told and counted as wrong; nothing
is left running, whatever ends this process.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

from dormouse_host import processes
from proofs.endtoend.host import TESTS
from proofs.endtoend.oracle import Verdict
from proofs.endtoend.runs import POSTGRESQL
from support.postgresql import PostgreSQL, need_postgresql

_LOOK = 0.1  # seconds between two looks at what runs


@dataclass(frozen=True)
class Wanted:
    """A run to be made."""

    case: str
    seed: int
    database: str
    size: float

    def __str__(self) -> str:
        return f"{self.case}, {self.database}, seed {self.seed}"


@dataclass
class Done:
    """A run that is over. `verdict` is None where it could not be run: `line` says why."""

    line: str
    verdict: Verdict | None

    @property
    def wrong(self) -> bool:
        """Was a promise broken?"""
        return self.verdict is None or bool(self.verdict.wrong)


class _Child:
    """A run under way."""

    def __init__(self, wanted: Wanted, server: PostgreSQL | None) -> None:
        self.wanted = wanted
        self.stack = ExitStack()
        self.output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (the stack closes it)
        self.stack.callback(self.output.close)
        arguments = [wanted.case, str(wanted.seed), str(wanted.size)]
        if server is not None:
            arguments.append(self.stack.enter_context(server.fresh()))
        argv = [sys.executable, "-m", "proofs.endtoend.one", *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")])}
        self.process: subprocess.Popen[bytes] = processes.start(argv, output=self.output, env=environment)
        self.stack.callback(processes.stop, self.process)

    def done(self) -> Done | None:
        """What it came to, once it is over."""
        if self.process.poll() is None:
            return None
        self.output.seek(0)
        lines = self.output.read().decode(errors="replace").splitlines() or ["no word"]
        self.stack.close()
        if self.process.returncode:
            return Done(f"{self.wanted}: could not be run: {lines[-1]}", None)
        said = json.loads(lines[-1])
        verdict = Verdict(**{**said["verdict"], "statuses": Counter(said["verdict"]["statuses"])})
        return Done(said["line"], verdict)


def _end(under_way: list[_Child]) -> None:
    for child in under_way:
        child.process.terminate()  # all of them first: each takes a moment to clean up
    for child in under_way:
        child.stack.close()


def runs(wanted: Iterable[Wanted], jobs: int) -> Iterator[Done]:
    """All of them, `jobs` at the same time, as they end."""
    waiting = list(wanted)
    with ExitStack() as stack:
        server = None
        if any(one.database == POSTGRESQL for one in waiting):
            server = stack.enter_context(PostgreSQL(need_postgresql()))
        under_way: list[_Child] = []
        stack.callback(_end, under_way)
        while waiting or under_way:
            while waiting and len(under_way) < jobs:
                one = waiting.pop(0)
                under_way.append(_Child(one, server if one.database == POSTGRESQL else None))
            time.sleep(_LOOK)
            for child in list(under_way):
                done = child.done()
                if done is not None:
                    under_way.remove(child)
                    yield done
