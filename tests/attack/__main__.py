"""`make attack`: each attack for real, one row each; ARGS="forged sql" for some.

python -m attack [NAME …]        exit 0 when nothing was let in, else 1
"""

import sys
import time
import traceback

from attack import ATTACKS, Attack, Outcome, commands, credentials, encryption, fleet, texts
from attack.bench import Bench

GROUPS = (encryption, credentials, commands, fleet, texts)


def tried(one: Attack, bench: Bench) -> Outcome:
    """An attack that can't be judged counts as one that got in."""
    try:
        return one.run(bench)
    except Exception as error:
        traceback.print_exc()
        return Outcome(True, f"not judged: {type(error).__name__}")


def main(names: list[str]) -> int:
    """The exit code."""
    unknown = set(names) - {one.name for one in ATTACKS}
    if unknown:
        sys.stderr.write(f"no attack {', '.join(unknown)}: there are {', '.join(one.name for one in ATTACKS)}\n")
        return 2
    began, group, let_in = time.monotonic(), "", 0
    with Bench() as bench:
        for one in ATTACKS:
            if names and one.name not in names:
                continue
            if one.group != group:
                group = one.group
                print(f"\n{group}", flush=True)
            outcome = tried(one, bench)
            let_in += outcome.let_in
            print(f"  {'✗ LET IN' if outcome.let_in else '✓'} {one.what}\n      {outcome.seen}", flush=True)
    print(f"\n{len(names) or len(ATTACKS)} attacks in {time.monotonic() - began:.0f} s: {let_in} let in")
    return 1 if let_in else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
