"""Registers that rp2040py lacks and light sleep needs: which clocks run while the processor sleeps.

Must stay true: they read as they were written; `on_sleep` is called when the firmware prepares light sleep and when it
has ended. MicroPython stops all clocks but the timer's before it waits, and restores them afterwards
(ports/rp2/modmachine.c).
"""

from collections.abc import Callable
from typing import Any

_SLEEP_EN0, _SLEEP_EN1 = 0x0A8, 0x0AC  # RP2040 datasheet, 2.15.7
_ALL = 0xFFFFFFFF
SLEEP_CLOCKS = 0x40008  # the block's place on rp2040py's bus


class SleepClocks:
    """Stands before the clocks' block on the bus."""

    def __init__(self, clocks: Any, on_sleep: Callable[[bool], object]) -> None:
        self._clocks, self._on_sleep = clocks, on_sleep
        self._values = {_SLEEP_EN0: _ALL, _SLEEP_EN1: _ALL}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clocks, name)

    @property
    def asleep(self) -> bool:
        """Is light sleep prepared, or under way?"""
        return self._values[_SLEEP_EN0] != _ALL

    def reset(self) -> None:
        """The chip was reset."""
        for offset in self._values:
            self._values[offset] = _ALL

    def read_uint32(self, offset: int) -> Any:
        """A register."""
        return self._values[offset] if offset in self._values else self._clocks.read_uint32(offset)

    def write_uint32_atomic(self, offset: int, value: int, kind: int) -> None:
        """A register; `kind`: plain, or its bits flipped, set or cleared."""
        if offset not in self._values:
            self._clocks.write_uint32_atomic(offset, value, kind)
            return
        was, old = self.asleep, self._values[offset]
        self._values[offset] = (value, old ^ value, old | value, old & ~value)[kind] & _ALL
        if self.asleep != was:
            self._on_sleep(self.asleep)
