"""Device-years in minutes. Ends with code 1 where a promise is broken.

python -m proofs.years --seconds 30 --seed 7
python -m proofs.years --only 4711        one world, with its last log lines
"""

import argparse
import os
import sys
import time
from pathlib import Path

from proofs.years import plan
from proofs.years.world import Outcome, Worlds

YEAR = 365.25 * 86400
QUARTER = 900.0


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m proofs.years", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30, help="how long, on this machine's clock")
    parser.add_argument("--seed", type=int, default=1, help="of the first world; the others follow")
    parser.add_argument("--only", type=int, help="this world alone")
    parser.add_argument("--years", type=float, help="end after so many device-years")
    parser.add_argument("--agent", type=Path, help="another folder with `dormouse`")
    parser.add_argument("--first", action="store_true", help="end with the first broken promise")
    parser.add_argument("--log", type=int, default=40, help="lines of it with --only")
    args = parser.parse_args(argv)
    began = time.process_time()
    out: list[Outcome] = []
    with Worlds(args.agent) as worlds:
        if args.only is not None:
            found = worlds.play(plan.make(args.only), args.log)
            print("\n".join(found.log[-args.log :]))
            out.append(found)
        seed = args.seed
        while args.only is None and time.process_time() - began < args.seconds:
            out.append(worlds.play(plan.make(seed)))
            if out[-1].broken:
                print(f"seed {seed}: {out[-1].broken}", flush=True)
                if args.first:
                    break
            seed += 1
            if args.years and sum(o.wakes for o in out) * QUARTER / YEAR > args.years:
                break
    seconds = time.process_time() - began
    wakes = sum(o.wakes for o in out)
    broken = sum(bool(o.broken) for o in out)
    years = wakes * QUARTER / YEAR
    print(
        f"{len(out)} worlds, {wakes} wakes ({wakes / seconds:.0f} a second and core, {years:.2f} device-years at one"
        f" in 15 minutes), {sum(o.orders for o in out)} commands, {sum(o.effects for o in out)} effects,"
        f" {sum(o.cuts for o in out)} wakes cut off, {broken} promises broken"
    )
    return int(broken > 0)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets are walked in the same order in every run
        os.execve(sys.executable, [sys.executable, "-m", "proofs.years", *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main())
