"""Waits of the firmware that do nothing but read the timer pass faster than they could be played.

Must stay true: no wait ends earlier, none later than by `_JUMP`, and no alarm is passed over. The Wi-Fi driver waits so
for half a second at each start (cyw43_delay_ms), which would take ten seconds of this machine.
"""

from typing import Any

TIMER = 0x40054  # the block's place on rp2040py's bus
_NOW = (0x24, 0x28)  # TIMERAWH, TIMERAWL (RP2040 datasheet, 4.6.5)
_TIGHT = 128  # cycles between two reads in a loop that does nothing else; one step of Python takes several hundred
_SURE = 64  # such reads in a row
_JUMP = 10_000  # ns


class BusyWaits:
    """Stands before the timer on the bus."""

    def __init__(self, chip: Any, timer: Any) -> None:
        self._chip, self._timer = chip, timer
        self._last = self._row = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._timer, name)

    def read_uint32(self, offset: int) -> Any:
        """A register."""
        if offset in _NOW:
            cycles = self._chip.core.cycles
            self._row = self._row + 1 if cycles - self._last < _TIGHT else 0
            self._last = cycles
            if self._row > _SURE:
                clock = self._chip.clock
                clock.tick(min(_JUMP, clock.nanos_to_next_alarm))
        return self._timer.read_uint32(offset)
