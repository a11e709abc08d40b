"""The program `dormouse` with the trial's time of day: `python -m proofs.trial.fast START SPEED -- relay …`.

Must stay true: what runs is the command line's own `main`; only `time.time` is another, so waits, deadlines and the
network are as ever. What is kept for some seconds of the day and renewed or done by this machine's own seconds is kept
SPEED times as long: a relay's and the desk's sign of life, the claim on a message, and how late a row may be committed.
"""

import importlib
import sys
import time

_LONGER = {
    "ledger.outbound": ("ALIVE",),
    "relay.relay": ("ALIVE",),
    "desk.desk": ("LEASE",),
    "ledger.couriers": ("_CLAIM",),
    "ledger.watching": ("LATE",),
    "desk.judge": ("LATE",),
    "desk.homes": ("LATE",),
}


def main(arguments: list[str]) -> None:
    """Never returns: the command line ends the process."""
    speed = float(arguments[1])
    start, real = float(arguments[0]), time.time
    time.time = lambda: start + (real() - start) * speed
    from dormouse_host.cli import app  # it takes `time.time` as the clock of many a thing

    for name, constants in _LONGER.items():
        module = importlib.import_module(f"dormouse_host.{name}")
        for constant in constants:
            setattr(module, constant, getattr(module, constant) * speed)
    sys.argv = ["dormouse", *arguments[arguments.index("--") + 1 :]]
    app.main()


if __name__ == "__main__":
    main(sys.argv[1:])
