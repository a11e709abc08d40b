"""`make powercut`: every cut point, and every pair in the short story; or only those that are named.

python -m proofs.powercut [POINT …]        exit 0 when no promise was broken, 1 when one was, 2 when a point is none
"""

import sys
import time

from proofs.powercut.bench import Wake
from proofs.powercut.oracle import judge
from proofs.powercut.points import NoPoint, Point, parse
from proofs.powercut.stories import tell
from proofs.powercut.sweep import end_tidily, everything, new_bench, summary


def say(line: str) -> None:
    """One line for a person."""
    print(line, flush=True)


def show(point: Point) -> bool:
    """One point, with all that the device told."""
    with new_bench() as bench:
        run = tell(bench, point.story, point.wake, point.cut, point.then)
        for at, wake in enumerate(bench.wakes, 1):
            say(f"wake {at} ({_end(wake)})")
            for line in wake.lines:
                say(f"    {line}")
        if run.recovery is None or (point.then != "-" and not run.recovery.cut):
            raise NoPoint(f"{point}: no wake ended there")
        faults = judge(run)
        say("\n".join([f"{point}: {len(faults)} faults", *faults]))
        return not faults


def _end(wake: Wake) -> str:
    return {0: "asleep", 75: "cut"}.get(wake.status, f"status {wake.status}")


def main(arguments: list[str]) -> int:
    """The exit code."""
    end_tidily()
    if arguments:
        try:
            return int(sum([not show(point) for point in [parse(name) for name in arguments]]) > 0)
        except NoPoint as error:
            print(f"powercut: {error}", file=sys.stderr)
            return 2
    began = time.monotonic()
    results = everything(say)
    say(f"{summary(results)}; {time.monotonic() - began:.0f} s")
    return int(any(result.faults for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
