"""A board's log as it comes, over sleeps in which its port is gone.

Must stay true: nothing is sent to the board; it ends with Ctrl-C, or when its time is over, and not because the board
sleeps; what it waits for it says once.
"""

import math
from collections.abc import Callable

from dormouse_host.errors import HostError
from dormouse_host.flash.first_wake import follow
from dormouse_host.flash.ports import Place, holders


def monitor(
    place: Place, seconds: float | None, show: Callable[[str], None], warn: Callable[[str], None] = lambda line: None
) -> None:
    """Hand each line that the board prints to `show`, for `seconds` or until interrupted.

    `warn` is told once of a port that is not there or can't be opened. HostError where another program holds it,
    because that one gets half of the lines.
    """
    device = place.device()
    if device and not place.virtual and (names := holders(device)):
        raise HostError(f"{device} is held by {', '.join(names)}: end it first")

    def on_line(line: str) -> bool:
        show(line)
        return False

    def missing(why: str) -> None:
        warn(f"waiting for {place}: {why}")

    follow(place, None, math.inf if seconds is None else seconds, on_line, missing)
