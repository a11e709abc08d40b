"""Device-years in minutes. Ends with code 1 where a promise is broken.

python -m proofs.years --seconds 30 --seed 7
python -m proofs.years --only 4711        one world, with its last log lines
python -m proofs.years --shrink 4711      the shortest schedule of it that fails
python -m proofs.years --planted          bugs that are put in, and the seed that finds each
"""

import argparse
import os
import sys
import time
from pathlib import Path

from proofs.years import plan, planted, shrink
from proofs.years.world import Outcome, Worlds

YEAR = 365.25 * 86400
QUARTER = 900.0


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m proofs.years", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30, help="how long, of this process's own time")
    parser.add_argument("--seed", type=int, default=1, help="of the first world; the others follow")
    parser.add_argument("--years", type=float, help="end after so many device-years")
    parser.add_argument("--days", type=float, help="of each world, in the place of what its seed says")
    parser.add_argument("--having", nargs="+", default=[], metavar="KIND", help="only worlds with these entries")
    parser.add_argument("--first", action="store_true", help="end with the first broken promise")
    parser.add_argument("--only", type=int, metavar="SEED", help="this world alone, with its log")
    parser.add_argument("--shrink", type=int, metavar="SEED", help="the shortest schedule of this world that fails")
    parser.add_argument("--planted", nargs="*", metavar="BUG", help="find bugs that are put in: all, or those named so")
    parser.add_argument("--agent", type=Path, help="another folder with `dormouse`")
    parser.add_argument("--on-disk", action="store_true", help="the ledger's own database, in a file")
    parser.add_argument("--log", type=int, default=40, help="lines of it")
    parser.add_argument("--verbose", action="store_true", help="a line for each world")
    args = parser.parse_args(argv)
    if args.planted is not None:
        return _planted(args.planted, args.seed, args.seconds, args.days)
    with Worlds(args.agent, on_disk=args.on_disk) as worlds:
        if args.only is not None:
            return _only(worlds, plan.make(args.only, args.days), args.log)
        if args.shrink is not None:
            return _shrink(worlds, plan.make(args.shrink, args.days), args.seconds, args.log)
        return _run(worlds, args)


def _run(worlds: Worlds, args: argparse.Namespace) -> int:
    began = time.process_time()
    total = Total()
    seed = args.seed
    while time.process_time() - began < args.seconds and not (args.years and total.years > args.years):
        one = plan.make(seed, args.days)
        if not {act[1] for act in one.acts}.issuperset(args.having):
            seed += 1
            continue
        out = worlds.play(one)
        total.add(out)
        if args.verbose:
            print(seed, out.wakes, f"{time.process_time() - began:.1f} s", flush=True)
        if out.broken:
            print(f"seed {seed}: {out.broken}", flush=True)
            if args.first:
                break
        seed += 1
    print(total.line(time.process_time() - began))
    return int(total.broken > 0)


def _only(worlds: Worlds, one: plan.Plan, lines: int) -> int:
    out = worlds.play(one, lines)
    print("\n".join(out.log[-lines:]))
    print(
        f"{one.traits} {one.settings} devices {one.devices} relays {one.relays}, {out.wakes} wakes, {out.digest[:16]}"
    )
    print(f"seed {one.seed}: {out.broken}" if out.broken else "no promise is broken")
    return int(bool(out.broken))


def _shrink(worlds: Worlds, one: plan.Plan, seconds: float, lines: int) -> int:
    out = worlds.play(one)
    if not out.broken:
        print("no promise is broken")
        return 0
    small, broken = shrink.shrink(one, out.broken, out.at, lambda smaller: worlds.play(smaller).broken, seconds)
    print("\n".join(worlds.play(small, lines).log[-lines:]))
    print(repr(small._replace(acts=[])))
    for act in small.acts:
        print(f"    {act!r},")
    print(f"seed {one.seed}: {broken}")
    return 1


def _planted(names: list[str], seed: int, seconds: float, days: float | None) -> int:
    missed = 0
    for name, bug in planted.bugs().items():
        if not names or any(part in name for part in names):
            told = planted.hunt(bug, seed, seconds, days).splitlines()
            found = next((line for line in told if line.startswith("seed ")), "")
            if found and (why := _sound(int(found.split()[1].rstrip(":")), days)):
                found = f"NOT IT ALONE: {why}"
            missed += not found.startswith("seed ")
            played = next((line for line in told if "device-years" in line), told[-1] if told else "")
            print(f"{bug.side:7}{name[:60]:61}{found or 'NOT FOUND'}\n{'':68}{played}", flush=True)
    print(f"{missed} not found")
    return int(missed > 0)


def _sound(seed: int, days: float | None) -> str | None:
    """What this world breaks with the sources as they are."""
    with Worlds() as worlds:
        return worlds.play(plan.make(seed, days)).broken


class Total:
    """What many worlds came to."""

    def __init__(self) -> None:
        self.worlds = self.wakes = self.orders = self.effects = self.cuts = self.broken = 0

    def add(self, out: Outcome) -> None:
        """One more."""
        self.worlds += 1
        self.wakes += out.wakes
        self.orders += out.orders
        self.effects += out.effects
        self.cuts += out.cuts
        self.broken += bool(out.broken)

    @property
    def years(self) -> float:
        """Device-years at one wake in 15 minutes."""
        return self.wakes * QUARTER / YEAR

    def line(self, seconds: float) -> str:
        """All of it."""
        return (
            f"{self.worlds} worlds, {self.wakes} wakes = {self.years:.2f} device-years at one in 15 minutes,"
            f" {self.wakes / seconds:.0f} wakes a second and core, {self.orders} commands, {self.effects} effects,"
            f" {self.cuts} wakes cut off, {self.broken} worlds broke a promise"
        )


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets are walked in the same order in every run
        argv = [sys.executable, "-m", "proofs.years", *sys.argv[1:]]
        os.execve(sys.executable, argv, {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main())
