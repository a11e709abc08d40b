"""`make hostile`: every case on both interpreters, plain and over TLS, as a table; then the sweep.

python -m hostile [WORD …]       the cases whose name has one of these words, with what the device told
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from dormouse_host.device_process import Kind
from hostile import cases
from hostile.stage import Row, new_world, run

WORKERS = 6  # most of a row is waiting


def say(line: str) -> None:
    """One line for a person."""
    print(line, flush=True)


def show(row: Row) -> None:
    """A line of the table."""
    state = "; ".join(row.faults) or "asleep in time, nothing lost, next wake normal"
    where = f"{row.case:42}{row.interpreter:12}{'TLS' if row.tls else 'plain':6}"
    say(f"{'FAIL' if row.faults else 'ok':5}{where}{row.awake:7} ms  {state}  | {row.reason[:90]}")


def main(words: list[str]) -> int:
    """The exit code."""
    began = time.monotonic()
    chosen = [case for case in cases.CASES if not words or any(word in case.name for word in words)]
    with new_world() as world, ThreadPoolExecutor(WORKERS) as pool:
        kinds: tuple[Kind, ...] = ("cpython", "micropython")
        jobs = [(case, kind, tls) for case in chosen for kind in kinds for tls in case.tls]
        rows = []
        for row in pool.map(lambda job: run(world, *job), jobs):
            rows.append(row)
            show(row)
            if row.faults and words:
                say(row.output)
    bad = sum(bool(row.faults) for row in rows)
    say(f"{len(chosen)} cases, {len(rows)} rows, {bad} of them not green; {time.monotonic() - began:.0f} s")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
