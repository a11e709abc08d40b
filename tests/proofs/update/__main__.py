"""`make update-proof`: cuts of power and connection, the planted bugs, bad releases, a fleet, and what an update costs.

python -m proofs.update                 all of it
python -m proofs.update PART …          of power, transfer, releases, fleet, cost
python -m proofs.update WORD …          the releases with one of these words in their name, or on this kind of board
"""

import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from proofs.powercut.sweep import end_tidily
from proofs.update import costs, fleet, transfer
from proofs.update.planted import PLANTED, plant
from proofs.update.releases import ROWS, run
from proofs.update.sweep import PROGSIZES, Bench, sweep

WORKERS = 2
LOGS = Path(__file__).resolve().parents[3] / "build" / "update-proof"


def main(words: list[str]) -> int:
    """0 where nothing is wrong and each planted bug was found."""
    end_tidily()
    parts = {
        "power": _cuts,
        "transfer": _transfer,
        "releases": lambda: _releases([]),
        "fleet": lambda: _told("fleet", fleet.run(fleet.DEVICES, _say)),
        "cost": lambda: _told("cost", costs.run(_say)),
    }
    if words and not set(words) <= set(parts):
        return 1 if _releases(words) else 0
    return 1 if sum([parts[name]() for name in words or parts]) else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _told(what: str, faults: list[str]) -> int:
    for fault in faults:
        _say(f"FAIL {what}: {fault}")
    return len(faults)


def _transfer() -> int:
    """How many faults the cuts of the connection found."""
    began = time.monotonic()
    count, faults = transfer.run(2 * WORKERS, _say)
    _say(f"transfer: {count} cut bytes, {len(faults)} faults; {time.monotonic() - began:.0f} s")
    return len(faults)


def _releases(words: list[str]) -> int:
    """How many rows of releases are red."""
    rows = [row for row in ROWS if not words or any(word in row[0] or word == row[1] for word in words)]
    LOGS.mkdir(parents=True, exist_ok=True)
    began, bad = time.monotonic(), 0
    with (
        tempfile.TemporaryDirectory(prefix="dormouse-releases-") as folder,
        ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool,
    ):
        for done in pool.map(partial(run, Path(folder)), rows):
            sys.stdout.write(f"{'FAIL' if done.faults else 'ok':5}{done.name:32}{done.kind:15}")
            sys.stdout.write(f"{'; '.join(done.faults) or done.told or 'as it should be'}\n")
            sys.stdout.flush()
            name = "".join(c if c.isalnum() else "-" for c in f"{done.name} {done.kind}")
            (LOGS / f"{name}.log").write_text(done.console)
            bad += bool(done.faults)
    sys.stdout.write(f"{len(rows)} releases, {len(rows) - bad} green; {time.monotonic() - began:.0f} s\n")
    return bad


def _cuts() -> int:
    """How many faults the cuts found, and planted bugs that none found."""
    bad = 0
    with Bench() as bench:
        for kind, progsize in PROGSIZES.items():
            count, faults = sweep(bench, progsize, say=lambda fault: sys.stdout.write(f"  {fault}\n"))
            sys.stdout.write(f"{kind}: {count} cuts, {len(faults)} faults\n")
            sys.stdout.flush()
            bad += len(faults)
    for name in PLANTED:
        with tempfile.TemporaryDirectory() as folder, Bench(plant(name, Path(folder))) as bench:
            try:
                count, faults = sweep(bench, PROGSIZES["ESP32"], first=True)
            except RuntimeError as error:  # found without any cut: it shows nothing of the cuts
                count, faults = 0, []
                sys.stdout.write(f"  {error}\n")
            told = f"found after {count} cuts: {faults[0]}" if faults else "FAIL: not found by a cut"
            sys.stdout.write(f"planted, {name}: {told}\n")
            sys.stdout.flush()
            bad += not faults
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
