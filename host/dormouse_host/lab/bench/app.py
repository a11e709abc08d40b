"""The app of the bench's device: a command and a reading as small as those of a real one.

It costs no time of its own.
"""

from dormouse import command, telemetry


@command("water", s=int)
def water(wake, s):
    """Answer at once."""
    return {"ran": s}


@telemetry()
def climate(wake):
    """A typical record."""
    return {"t": 21.5, "vbat": 3.91}
