"""The times that a virtual board takes because the real one does; without them it is as fast as this machine.

They pass for real, in the firmware: no timer is served meanwhile, and the watchdog runs.
"""

from collections.abc import Mapping

from dormouse_host.flash import times

NAMES = ("boot", "load", "radio", "handshake", "erase", "program")  # the last two: norflash.py has the typical ones

Timed = bool | Mapping[str, float]


def chosen(board: times.Times, timed: Timed) -> dict[str, float]:
    """Milliseconds by name: none at all for False, the board's for True, and those given over the board's."""
    given = {} if isinstance(timed, bool) else dict(timed)
    times.check(given, NAMES)
    return {**{name: getattr(board, name) for name in NAMES[:4]}, **given} if timed else {}
