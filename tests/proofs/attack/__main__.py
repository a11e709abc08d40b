"""`make attack`: each attack for real, one row each; ARGS="forged sql" for some.

python -m proofs.attack [NAME …]        exit 0 when nothing was let in, else 1
"""

import sys
import time
import traceback

from proofs.attack import (
    ATTACKS,
    Attack,
    Outcome,
    commands,
    credentials,
    encryption,
    fleet,
    floods,
    folders,
    rogue,
    strangers,
    texts,
)
from proofs.attack.testbed import Testbed
from support.postgresql import PostgreSQL, need_postgresql

GROUPS = (encryption, credentials, commands, fleet, rogue, strangers, texts, folders, floods)
WITHOUT_LEDGER = (encryption, folders, floods)  # the ledger has no part in them: once is enough


def tried(one: Attack, testbed: Testbed) -> Outcome:
    """An attack that can't be judged counts as one that got in."""
    try:
        return one.run(testbed)
    except Exception as error:
        traceback.print_exc()
        return Outcome(True, f"not judged: {type(error).__name__}")


def main(names: list[str]) -> int:
    """The exit code."""
    unknown = set(names) - {one.name for one in ATTACKS}
    if unknown:
        sys.stderr.write(f"no attack {', '.join(unknown)}: there are {', '.join(one.name for one in ATTACKS)}\n")
        return 2
    began = time.monotonic()
    count, let_in = table("SQLite", None, names)
    with PostgreSQL(need_postgresql()) as server:
        more = table("PostgreSQL", server.url, names)
    let_in += more[1]
    print(f"\n{count + more[0]} attacks in {time.monotonic() - began:.0f} s: {let_in} let in")
    return 1 if let_in else 0


def table(what: str, db: str | None, names: list[str]) -> tuple[int, int]:
    """The attacks on a ledger in this database: how many were tried, how many let in."""
    without = {module.__name__ for module in WITHOUT_LEDGER} if db else set()
    wanted = [one for one in ATTACKS if (not names or one.name in names) and one.run.__module__ not in without]
    if not wanted:
        return 0, 0
    group, let_in = "", 0
    with Testbed(db) as testbed:
        for one in wanted:
            if one.group != group:
                group = one.group
                print(f"\n{group}, {what}", flush=True)
            outcome = tried(one, testbed)
            let_in += outcome.let_in
            print(f"  {'✗ LET IN' if outcome.let_in else '✓'} {one.what}\n      {outcome.seen}", flush=True)
    return len(wanted), let_in


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
