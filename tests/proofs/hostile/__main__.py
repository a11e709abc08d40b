"""`make hostile`: every case on both interpreters, plain and over TLS, as a table; then the sweep.

python -m proofs.hostile                the table and the sweep
python -m proofs.hostile WORD …         the cases whose name has one of these words, with what the device told
python -m proofs.hostile sweep          the sweep alone
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from proofs.hostile import cases, sweep
from proofs.hostile.stage import Row, World, new_world, run
from proofs.powercut.sweep import end_tidily

WORKERS = 6  # most of a row is waiting
_SHOWN = 70  # characters of a reason


def say(line: str) -> None:
    """One line for a person."""
    print(line, flush=True)


def show(row: Row) -> None:
    """A line of the table."""
    state = "; ".join(row.faults) or "in time, nothing lost, next wake normal"
    where = f"{row.case:39}{row.interpreter:12}{'TLS' if row.tls else 'plain':6}{row.awake:6} ms"
    say(f"{'FAIL' if row.faults else 'ok':5}{where}  {state}  {row.reason[:_SHOWN]}")


def table(world: World, chosen: list, loud: bool) -> bool:
    """All rows of these cases; True where every one is green. A row that was only late is run again, alone."""
    began = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = [(case, kind, tls) for case in chosen for kind in sweep.KINDS for tls in case.tls]
        rows = []
        for job, row in zip(jobs, pool.map(lambda job: run(world, *job), jobs), strict=True):
            if row.late:
                row = run(world, *job)
            rows.append(row)
            show(row)
            if row.faults and loud:
                say(row.output)
    bad = sum(bool(row.faults) for row in rows)
    say(f"{len(chosen)} cases, {len(rows)} rows, {len(rows) - bad} green; {time.monotonic() - began:.0f} s")
    return not bad


def cut_everywhere(world: World) -> bool:
    """The sweep, plain and in TLS; True where every promise was kept."""
    good = True
    for tls in (False, True):
        began = time.monotonic()
        outcomes = sweep.sweep(world, sweep.points(world, tls), WORKERS, _tell)
        over = "TLS" if tls else "plain"
        say(f"{over}, every byte, by FIN and RST: {sweep.summary(outcomes)}; {time.monotonic() - began:.0f} s")
        good = good and not any(outcome.faults for outcome in outcomes)
    return good


def _tell(outcome: sweep.Outcome) -> None:
    if outcome.faults:
        say("\n".join([f"FAIL {outcome.point}", *outcome.faults, outcome.output]))


def main(words: list[str]) -> int:
    """The exit code."""
    end_tidily()
    chosen = [case for case in cases.CASES if any(word in case.name for word in words)] if words else cases.CASES
    with new_world() as world:
        good = table(world, chosen, bool(words)) if chosen else True
        if not words or words == ["sweep"]:
            good = cut_everywhere(world) and good
    return int(not good)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
