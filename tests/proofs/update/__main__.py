"""`make update-proof`: every cut point of an update on both program sizes, and the planted bugs; a table at the end."""

import sys
import tempfile
from pathlib import Path

from proofs.update.planted import PLANTED, plant
from proofs.update.sweep import PROGSIZES, Bench, sweep


def main() -> int:
    """0 where nothing is wrong and each planted bug was found."""
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
            except RuntimeError as error:
                count, faults = 0, [str(error)]
            sys.stdout.write(f"planted, {name}: found after {count} cuts: {faults[:1]}\n")
            bad += not faults
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
