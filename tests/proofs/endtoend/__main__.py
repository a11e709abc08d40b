"""`make endtoend`: every case on both databases, or those that are named, with one seed or with many.

    python -m proofs.endtoend [--seed 7] [--seeds 200] [--case NAME …] [--database NAME] [--jobs 4] [--size 1.0]

exit 0 when no promise was broken, 1 when one was, 2 for what is no case, database or number
"""

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import pytest

from dormouse_host.agent import toolchain
from dormouse_host.errors import HostError
from proofs.endtoend.cases import CASES
from proofs.endtoend.many import Wanted, runs
from proofs.endtoend.runs import DATABASES, databases, summary

SEEDS = 10**9


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        self.exit(2, f"{message}\n")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a number from {least} to {most}, not {text}")
        return int(text)

    return number


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, at most 1, not {text}")
    return value


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="make endtoend ARGS=…", description="The end-to-end proof.", allow_abbrev=False)
    parser.add_argument("--seed", type=_whole(0, SEEDS), help="what everything random comes from")
    parser.add_argument("--seeds", type=_whole(1, 100_000), default=1, help="how many, from --seed on")
    parser.add_argument("--case", action="append", choices=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--database", choices=DATABASES, metavar="NAME", help=f"{' or '.join(DATABASES)}: both without")
    parser.add_argument("--jobs", type=_whole(1, 64), default=os.cpu_count() or 1, help="runs at the same time")
    parser.add_argument("--size", type=_share, default=1.0, help="1: in full; 0.2: a fifth of the faults")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = random.randrange(10**6)
    for case in options.case or []:
        if options.database and options.database not in databases(case):
            parser.error(f"case {case} needs {' or '.join(databases(case))}")
    return options


def _wanted(options: argparse.Namespace) -> list[Wanted]:
    return [
        Wanted(case, seed, database, options.size)
        for seed in range(options.seed, options.seed + options.seeds)
        for case in options.case or CASES
        for database in databases(case)
        if options.database in (None, database)
    ]


def main(arguments: list[str]) -> int:
    """The exit code."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"seed {options.seed}, {toolchain.require_micropython()}", flush=True)
    began, outcomes = time.monotonic(), []
    for done in runs(_wanted(options), options.jobs):
        outcomes.append(done)
        print(done.line, flush=True)
        for kind, what in done.verdict.wrong if done.verdict else []:
            print(f"    {kind}: {what}", flush=True)
    verdicts = [done.verdict for done in outcomes if done.verdict]
    commands = sum(verdict.statuses.total() for verdict in verdicts)
    told = f"{len(outcomes)} runs, {sum(done.wrong for done in outcomes)} of them wrong"
    if len(verdicts) < len(outcomes):
        told += f", {len(outcomes) - len(verdicts)} could not be run"
    print(f"{told}; {commands} commands, {time.monotonic() - began:.0f} s: {summary(verdicts)}")
    return int(any(done.wrong for done in outcomes))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (HostError, pytest.fail.Exception, pytest.skip.Exception) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
