"""`make model`: seeded schedules of the protocol model, its ablation, shrinking and exhaustive faults.

    make model                                         seeds 0 to 999
    make model ARGS="--seeds 0:3000 --seconds 60"      seeded schedules; from 1000000 on heavy load and restores,
                                                       from 2000000 on attackers, from 3000000 on a broker
                                                       whose live messages overtake stored ones
    make model ARGS="--seeds 0:3000 --without RULE"    the protocol without one of its rules
    make model ARGS="--seed K --shrink"                the shortest schedule that still breaks the same promise
    make model ARGS="--exhaustive"                     one story, each fault after each step, and pairs with a cut
    make model ARGS="--ablate --seconds 12"            each rule left out in turn, until the first failure

Exit code 0 when no promise was broken, else 1. With --ablate 0: what fails there has to.
"""

import argparse
import sys

from proofs.model import runs, schedules
from proofs.model.rules import RULES


def _one(seed: int, rules: set[str], shrink: bool) -> int:
    cfg, acts = schedules.script(seed)
    broken, _ = runs.play(cfg, acts, rules)
    if broken and shrink:
        cfg, acts = runs.shrink(cfg, acts, rules, broken[:1])
        broken, _ = runs.play(cfg, acts, rules)
        print({k for k in cfg if cfg[k]}, *acts, sep="\n  ")
    print(broken or "holds")
    return 1 if broken else 0


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        prog="make model ARGS=…", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds",
        default="0:1000",
        help="LOW:HIGH; from 1000000 on heavy load, from 2000000 on attackers, from 3000000 on an overtaking broker",
    )
    parser.add_argument("--seconds", type=float, help="stop after so many; with --ablate for each rule")
    parser.add_argument("--seed", type=int, help="this schedule alone")
    parser.add_argument("--shrink", action="store_true", help="with --seed: leave out what the failure does not need")
    parser.add_argument("--exhaustive", action="store_true", help="every fault after every step of one story")
    parser.add_argument("--ablate", action="store_true", help="each rule left out in turn")
    parser.add_argument("--without", action="append", default=[], choices=RULES, metavar="RULE", help=", ".join(RULES))
    options = parser.parse_args()
    rules = set(RULES) - set(options.without)
    low, high = (int(x) for x in options.seeds.split(":"))
    if options.seed is not None:
        return _one(options.seed, rules, options.shrink)
    if options.ablate:
        for rule in sorted(rules):
            tally = runs.campaign(rules - {rule}, low, high, options.seconds, first=True)
            print(*tally.lines(f"without {rule}: seeds"), sep="\n", flush=True)
        return 0
    if options.exhaustive:
        tally = runs.exhaustive(rules, options.seconds)
        print(*tally.lines("schedules", 1), sep="\n")
    else:
        tally = runs.campaign(rules, low, high, options.seconds)
        print(*tally.lines("seeds"), sep="\n")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
