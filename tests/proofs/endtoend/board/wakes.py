# mypy: ignore-errors
"""Wakes of one device in one process: FOLDER, how many, and what its clock is wrong by.

    python wakes.py FOLDER WAKES CLOCK      CLOCK: seconds to add to the true time, or `none`

Must stay true: nothing but the clock differs from `python -m dormouse.ports.posix FOLDER`, and a second wake in the
same process knows nothing of the first but what lies in the folder.
"""

import sys
import time

from dormouse.agent import Agent
from dormouse.ports import posix


class Port(posix.Port):
    def time(self):
        return None if CLOCK == "none" else int(time.time()) + int(CLOCK)


FOLDER, WAKES, CLOCK = sys.argv[1:]
sys.path.insert(0, FOLDER)
failure = None
for _ in range(int(WAKES)):
    failure = Agent(Port(FOLDER)).run("app") or failure
sys.exit(1 if failure else 0)
