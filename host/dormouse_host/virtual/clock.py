"""Time on a virtual board: its clock, its two kinds of sleep, its watchdog.

Only sleep is accelerated, and with a light sleep what runs meanwhile. A change of speed applies from that instant, in a
running sleep too. A feed that was sent in time counts, however late it is read.
"""

import time

_UNIX_2000, _UNIX_2021 = 946684800, 1609459200
_EVER = 1e9  # seconds


class Nap:
    """A sleep of `ms` of the board's time, -1: until something wakes it. It begins at once."""

    def __init__(self, ms: int, speed: float) -> None:
        self.ms = ms
        self._speed = speed
        self._began = self._since = time.monotonic()
        self._before = 0.0  # ms slept at other speeds
        self.end = self._began + (ms / 1000 / speed if ms >= 0 else _EVER)

    @property
    def over(self) -> bool:
        """Is it over?"""
        return time.monotonic() >= self.end

    def slept(self) -> float:
        """The board's ms that have passed."""
        return self.ms if self.over else self._before + (time.monotonic() - self._since) * 1000 * self._speed

    def gone(self) -> float:
        """The real ms that have passed."""
        return (time.monotonic() - self._began) * 1000

    def set_speed(self, speed: float) -> None:
        """Change the speed from now on."""
        now = time.monotonic()
        self._before += (now - self._since) * 1000 * self._speed
        self.end = now + (self.end - now) * self._speed / speed
        self._since, self._speed = now, speed


class BoardTime:
    """`speed`: the factor by which sleep passes faster. `deep` and `light`: the running sleep, if any."""

    def __init__(self, epoch: int, speed: float) -> None:
        self._epoch = epoch
        self.speed = speed
        self.shift = 0.0  # s by which the board's clock is ahead of ours
        self._bites = self._timeout = 0.0  # when the watchdog expires, and its timeout in seconds; 0: off
        self.deep: Nap | None = None
        self.light: Nap | None = None

    def begin_clock(self) -> None:
        """Reset the clock."""
        self.shift = (_UNIX_2000 if self._epoch == 2000 else _UNIX_2021) - time.time()

    def reset(self) -> None:
        """Reset the whole chip."""
        self.disarm()
        self.deep = self.light = None

    # ---- the watchdog

    @property
    def armed(self) -> bool:
        """Does the watchdog run?"""
        return self._timeout > 0

    @property
    def bitten(self) -> bool:
        """Has the watchdog expired?"""
        return self.armed and time.monotonic() >= self._bites

    def arm(self, seconds: float) -> None:
        """Start the watchdog."""
        self._timeout = seconds
        self.feed()

    def feed(self) -> None:
        """Restart the watchdog's timeout."""
        self._bites = time.monotonic() + self._timeout

    def disarm(self) -> None:
        """Stop the watchdog."""
        self._timeout = 0.0

    def _hasten(self, factor: float) -> None:
        now = time.monotonic()
        self._bites = now + max(0.0, self._bites - now) / factor

    # ---- sleep

    def set_speed(self, speed: float) -> None:
        """Change the speed from now on, in a running sleep too."""
        for nap in (self.deep, self.light):
            if nap:
                nap.set_speed(speed)
        if self.light:
            self._hasten(speed / self.speed)
        self.speed = speed

    def begin_deep(self, ms: int) -> None:
        """Begin a deep sleep; `ms` 0: until a pin wakes it."""
        self.deep = Nap(ms or -1, self.speed)

    def end_deep(self) -> None:
        """End the deep sleep and advance the clock."""
        if self.deep:
            self.shift += (self.deep.slept() - self.deep.gone()) / 1000
        self.deep = None

    def begin_light(self, ms: int) -> None:
        """Begin a light sleep, in which the watchdog runs."""
        self.light = Nap(ms, self.speed)
        self._hasten(self.speed)

    def end_light(self) -> tuple[int, int]:
        """End the light sleep and advance the clock. Returns the board's ms and the real ms."""
        nap, self.light = self.light, None
        if nap is None:
            return 0, 0
        slept, gone = nap.slept(), nap.gone()
        self.shift += (slept - gone) / 1000
        self._hasten(1 / self.speed)
        return int(slept), int(gone)

    def until_turn(self) -> float:
        """Seconds until a sleep is over or the watchdog expires."""
        ends = [nap.end for nap in (self.deep, self.light) if nap] + [self._bites] * self.armed
        return min(ends, default=_EVER) - time.monotonic()
