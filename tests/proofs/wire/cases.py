"""What a network does to a device, and what must come of it.

Must stay true: the device is the agent on MicroPython, the broker a stock mosquitto, TCP both kernels' own; each case
is judged by the same rules, of which it may only widen one.
"""

from collections.abc import Callable
from typing import NamedTuple

from dormouse_host.lab import wire

DELAY = 0.05  # seconds, one way
PATIENCE = 5000  # ms; as a device has it where nothing else is said, and so is the next
BUDGET = 20  # s
WAKES = 3  # within which all that waited has come through


class Case(NamedTuple):
    """`rule` makes what the wire does; `wakes` in which all must have come through; None: then it heals. `awake`: ms
    that no wake may take longer.
    """

    name: str
    rule: Callable[[], wire.Rule]
    wakes: int | None = WAKES
    awake: int = 1100 * BUDGET
    connections: int | None = None  # that one wake may make


CASES = (
    Case("a clean line", lambda: wire.steady(DELAY), 1),
    Case("packets above 1400 bytes vanish", lambda: wire.black_hole(DELAY, 1400), 1),
    Case("packets above 1280 bytes vanish", lambda: wire.black_hole(DELAY, 1280), 1),
    Case("dead behind CONNACK", lambda: wire.dead_after(DELAY, 1), None, 3 * PATIENCE + 3000, 2),
    Case("a packet in twenty is lost", lambda: wire.lossy(DELAY, 0.05, 1)),
    Case("a packet in seven is lost", lambda: wire.lossy(DELAY, 0.15, 2)),
    Case("a third comes late", lambda: wire.shuffled(DELAY, 0.33, 3)),
    Case("a third comes twice", lambda: wire.doubled(DELAY, 0.33, 4)),
    Case("no room at the broker for a second", lambda: wire.shut(DELAY, 1)),
    Case("no room at the broker for five seconds", lambda: wire.shut(DELAY, 5), None),
    Case("a second each way", lambda: wire.steady(1.0)),
)
