"""A worked example: a valve that waters, and the battery that drives it. Replace it with your own.

It touches no hardware at import: pins are set in `safe_state`, which runs first at every boot, and in the handlers.
"""

from dormouse import command, telemetry

VALVE = 4  # the pin of the valve's driver


def safe_state():
    """Whatever happened before, the valve is shut."""
    from machine import Pin

    Pin(VALVE, Pin.OUT, value=0)


@command("water", limit=60, s=int)
def water(wake, s):
    """Open the valve for `s` seconds, at most a minute."""
    from machine import Pin

    valve = Pin(VALVE, Pin.OUT, value=1)
    try:
        wake.hold(s)  # waits, feeds the watchdog, respects the limit
    finally:
        valve(0)
    return {"ran": s}


@telemetry(every=300)
def climate(wake):
    """One reading at a sample, at most every five minutes."""
    return {"vbat": wake.battery()}
