"""When to sample, when to connect: intervals, jitter, backoff.

Must stay true: pure arithmetic on what it is given; a sleep is never 0 and never longer than the cap, whatever
failed and however often; two devices with one configuration drift apart.
"""

JITTER = 0.05  # of an interval, either way: a fleet that was powered on together must not stay together
CAP = 21600  # s; the longest backoff, unless connect_every itself is longer


def spread(seconds, byte):
    """`seconds` moved by up to JITTER either way; `byte` is a random 0..255."""
    return seconds * (1 + JITTER * (byte - 127.5) / 127.5)


def next_connect(every, failures, byte):
    """Seconds until the next connect after `failures` wakes in a row that failed: doubled for each, capped."""
    longest = max(every, CAP)
    return max(1, min(longest, spread(every * (1 << min(failures, 16)), byte)))
