"""One wake of a board of the trial, under MicroPython: `micropython wake.py FOLDER START SPEED`.

The agent as it is on a board, on the POSIX port; the time of day is the trial's, the battery is what the file `volts`
says, and the sleep is a line for whoever starts the next wake.
"""

import sys
import time

from dormouse.ports import posix

FOLDER, START, SPEED = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])


class Port(posix.Port):
    """A board whose folder lies on this machine."""

    def time(self):
        return int(START + (time.time() - START) * SPEED)

    def battery(self):
        with open(FOLDER + "/volts") as file:
            return float(file.read())

    def sleep(self, ms):
        print("trial sleep", ms)


setattr(posix, "Port", Port)  # noqa: B010 (what `main` wakes)
sys.exit(posix.main(FOLDER))
