"""The app of the bench's device: a command and a reading as small as those of a real one.

It costs no time of its own.
"""

import os

from dormouse import command, telemetry

HELD = bytearray(int(os.getenv("BENCH_HELD") or 0))  # what TLS takes of a heap on a board, and not here


@command("water", s=int)
def water(wake, s):
    """Answer at once."""
    return {"ran": s}


@telemetry()
def climate(wake):
    """A typical record."""
    return {"t": 21.5, "vbat": 3.91}
