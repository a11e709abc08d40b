"""`make unruly`: every unruly program on two virtual boards and as real processes, as a table.

python -m proofs.unruly                 the whole table
python -m proofs.unruly WORD …          the rows with one of these words in their name, of a kind, or of a port:
                                        hanging, raising, spoiling, patching; ESP32_GENERIC, RPI_PICO_W, posix
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from proofs.powercut.sweep import end_tidily
from proofs.unruly.program import Program
from proofs.unruly.rows import chosen
from proofs.unruly.stage import Row, World, new_world, run

WORKERS = 6  # most of a row is waiting
LOGS = Path(__file__).resolve().parents[3] / "build" / "unruly"


def show(row: Row) -> None:
    """A line of the table."""
    state = "; ".join(row.faults) or "connected, once, told, asleep"
    where = f"{row.program.name:42}{row.port:15}{row.wakes} wakes{row.awake:6.1f} s awake"
    print(f"{'FAIL' if row.faults else 'ok':5}{where}  {state}", flush=True)
    name = "".join(c if c.isalnum() else "-" for c in f"{row.program.name} {row.port}")
    (LOGS / f"{name}.log").write_text(f"{row.program.text(row.port)}\n---\n{row.output}\n---\n{row.told}\n{state}\n")


def attempt(world: World, job: tuple[Program, str]) -> Row:
    """One row, shown as soon as it is over."""
    row = run(world, *job)
    show(row)
    return row


def main(words: list[str]) -> int:
    """The exit code."""
    end_tidily()
    LOGS.mkdir(parents=True, exist_ok=True)
    jobs = chosen(words)
    if not jobs:
        print(f"no row has {' or '.join(words)}", file=sys.stderr)
        return 2
    began = time.monotonic()
    with new_world() as world, ThreadPoolExecutor(WORKERS) as pool:
        rows = list(pool.map(lambda job: attempt(world, job), jobs))
    bad = sum(bool(row.faults) for row in rows)
    programs = len({row.program.name for row in rows})
    print(f"{programs} programs, {len(rows)} rows, {len(rows) - bad} green; {time.monotonic() - began:.0f} s")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
