"""When to sample, when to connect: intervals, jitter, backoff, battery floor.

Must stay true: pure arithmetic on what it is given; a sleep is never 0 and never longer than the cap and its
jitter, whatever failed and however often; two devices with one configuration drift apart.
"""

JITTER = 0.05  # of an interval, either way: a fleet that was powered on together must not stay together
CAP = 21600  # s; the longest backoff, unless the interval itself is longer
STRETCH = 4  # times the interval, below the battery floor


def connect_in(config, failures, volts, byte):
    """Seconds until the next connect after `failures` wakes in a row that failed; `byte` is a random 0..255.

    Doubled for each failure and capped; stretched where `volts` (None: not known) is below `battery_floor`.
    """
    every = config["connect_every"]
    if volts is not None and volts < config["battery_floor"]:
        every *= STRETCH
    seconds = min(max(every, CAP), every * (1 << min(failures, 16)))
    return max(1, int(seconds * (1 + JITTER * (byte - 127.5) / 127.5)))


def sleep_for(config, now, next_connect):
    """Seconds to sleep, at `now` of the device's own count: until the next sample or the next connect."""
    left = max(1, int(next_connect - now))
    every = config["sample_every"]
    return max(1, int(min(left, every))) if every else left


def due(every, now, before):
    """Is a reading that is taken once in `every` seconds due at `now`, the last sample having been at `before`?

    The device's own count is divided into periods of that length, and the first sample in each takes the reading.
    """
    return not every or not before or now // every > before // every
