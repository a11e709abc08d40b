"""`make endtoend`: every case with one seed, or those that are named.

python -m endtoend [--seed 7] [--case NAME …] [--size 1.0]      exit 0 when no promise was broken, else 1
"""

import argparse
import random
import signal
import sys
import time

import pytest

from dormouse_host import toolchain
from dormouse_host.errors import HostError
from endtoend.cases import CASES
from endtoend.runs import run, summary


def main() -> int:
    """The exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(prog="make endtoend ARGS=…", description="The end-to-end proof.")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="what everything random comes from")
    parser.add_argument("--case", action="append", choices=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--size", type=float, default=1.0, help="1: in full; 0.2: a fifth of the faults")
    options = parser.parse_args()
    print(f"seed {options.seed}, {toolchain.require_micropython()}", flush=True)
    began, outcomes = time.monotonic(), []
    for case in options.case or CASES:
        outcome = run(case, options.seed, options.size)
        outcomes.append(outcome)
        print(outcome.line, flush=True)
        for kind, what in outcome.verdict.wrong:
            print(f"    {kind}: {what}", flush=True)
    commands = sum(outcome.verdict.statuses.total() for outcome in outcomes)
    print(f"{len(outcomes)} cases, {commands} commands, {time.monotonic() - began:.0f} s: {summary(outcomes)}")
    return int(any(outcome.verdict.wrong for outcome in outcomes))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (HostError, pytest.fail.Exception, pytest.skip.Exception) as error:
        sys.exit(str(error))
