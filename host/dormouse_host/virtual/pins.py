"""The pins of a virtual board: what the board drives, what pulls at them from outside, the battery on one of them.

Must stay true: a level is what the board drives, else what is outside, else its pull resistor; what a reset clears is
cleared by `reset`.
"""

import random
from collections import deque
from typing import Any

from dormouse_host.virtual.kind import BoardKind

_VSYS = 29  # of a Pico W: shared with the Wi-Fi chip, whose select line is pin 25
_SELECT = 25
_FULL = 3_300_000  # microvolts


class Pins:
    """Names of pins are numbers or, as LED, text. `driven`: which were set to what, the last thousand."""

    def __init__(self, kind: BoardKind, chance: random.Random) -> None:
        self._kind = kind
        self._chance = chance
        self.battery = 4.1  # volts
        self.battery_pin: int | None = None
        self.divider = 1.0
        self.driven: deque[tuple[int | str, int]] = deque(maxlen=1000)
        self._outputs: dict[int | str, int] = {}
        self._pulls: dict[int | str, int] = {}
        self._outside: dict[int | str, int] = {}
        self._interrupts: dict[int | str, int] = {}

    def reset(self) -> None:
        """What the board itself has set is gone."""
        self._outputs.clear()
        self._pulls.clear()
        self._interrupts.clear()

    def level(self, pin: int | str) -> int:
        """0 or 1."""
        return self._outputs.get(pin, self._outside.get(pin, int(self._pulls.get(pin, 0) == 1)))

    def from_outside(self, pin: int | str, level: int | None) -> bool:
        """Pull at it, or let it go with None. Does that raise the interrupt that the board has asked for?"""
        if level is None:
            self._outside.pop(pin, None)
            return False
        rose = level > self.level(pin)
        self._outside[pin] = level
        return bool(self._interrupts.get(pin, 0) & (8 if rose else 4))

    def told(self, what: str, rest: list[Any]) -> None:
        """What the firmware does with a pin."""
        pin = rest[0]
        if what == "irq":
            self._interrupts[pin] = rest[1]
        elif what == "mode":
            self._pulls[pin] = rest[2]
            if rest[1] not in (1, 2):  # neither output nor open drain
                self._outputs.pop(pin, None)
        elif what == "drive":
            self._outputs[pin] = rest[1]
            self.driven.append((pin, rest[1]))

    def microvolts(self, pin: int, *, radio: bool) -> int:
        """What an ADC finds there."""
        if self._kind.port == "rp2" and pin == _VSYS:
            if radio:
                return self._chance.randint(0, _FULL)  # the Wi-Fi chip's clock line
            if self.level(_SELECT) == 0:
                return 0  # and that chip selected: the divider is not connected
        return int(self.battery / self.divider * 1e6) if pin == self.battery_pin else 0
