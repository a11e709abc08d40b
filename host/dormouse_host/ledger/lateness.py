"""How many wakes a device has missed, and when that makes it overdue: the one definition that everything goes by."""

from dormouse.state import CAP, JITTER

GRACE = 2  # wakes that a device may miss before it counts as overdue
_AWAKE = 30  # seconds after the boot of a wake by which it has come: Wi-Fi, TLS, and what the relay takes


def missed(seen: float | None, next_due: float | None, now: float) -> int:
    """Wakes that a device has missed since it was `seen`, all in Unix seconds; 0 where it never connected.

    After each of them it backs off, as dormouse/state.py says: its interval is doubled, up to 6 h or to the interval
    where that is longer.
    """
    if next_due is None or seen is None:
        return 0
    every = max(1.0, next_due - seen)
    at, count, pause = next_due + _AWAKE, 0, every
    while now > at:
        count += 1
        pause = min(2 * pause, max(every, CAP))
        if pause >= max(every, CAP):  # from here on it does not grow
            return count + int((now - at) / (pause * (1 + JITTER)))
        at += pause * (1 + JITTER)
    return count
