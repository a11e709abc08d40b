"""What a virtual board's firmware reaches over its line: pins, sensors, radio, and memory that outlives a sleep.

A level is what the board drives, else what is outside, else its pull resistor. Retained memory is garbage after a loss
of power and keeps what was written through everything else.
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from dormouse_host.virtual.kind import BoardKind
from dormouse_host.virtual.sensors import Sensors
from dormouse_host.virtual.wifi import Station, Wifi

_VSYS = 29  # of a Pico W: shared with the Wi-Fi chip, whose select line is pin 25
_SELECT = 25
_FULL = 3_300_000  # microvolts


class Pins:
    """The pins. A pin's name is a number or, as LED, text. `driven`: the last thousand changes of outputs."""

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
        """Clear what the board itself has set."""
        self._outputs.clear()
        self._pulls.clear()
        self._interrupts.clear()

    def level(self, pin: int | str) -> int:
        """The level of a pin, 0 or 1."""
        return self._outputs.get(pin, self._outside.get(pin, int(self._pulls.get(pin, 0) == 1)))

    def from_outside(self, pin: int | str, level: int | None) -> bool:
        """Drive a pin from outside, or release it with None. Does that raise an enabled interrupt?"""
        if level is None:
            self._outside.pop(pin, None)
            return False
        rose = level > self.level(pin)
        self._outside[pin] = level
        return bool(self._interrupts.get(pin, 0) & (8 if rose else 4))

    def told(self, what: str, rest: list[Any]) -> None:
        """Carry out what the firmware does with a pin."""
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

    def microvolts(self, pin: int, sensors: Sensors, *, radio: bool) -> int:
        """The voltage that an ADC measures at a pin."""
        if self._kind.port == "rp2" and pin == _VSYS:
            if radio:
                return self._chance.randint(0, _FULL)  # the Wi-Fi chip's clock line
            if self.level(_SELECT) == 0:
                return 0  # and that chip selected: the divider is not connected
        connected = sensors.microvolts(pin)
        if connected is not None:
            return connected
        return int(self.battery / self.divider * 1e6) if pin == self.battery_pin else 0


class Peripherals:
    """Pins, radio and retained memory. `happened(name, **fields)` gets events of the radio."""

    def __init__(self, kind: BoardKind, wifi: Wifi, chance: random.Random, happened: Callable[..., None]) -> None:
        self._kind, self._chance = kind, chance
        self.station = Station(wifi, kind.port, on_event=happened)
        self.pins = Pins(kind, chance)
        self.sensors = Sensors(kind)
        self._retained = b""
        self._wakes: tuple[list[int | str], int, int] = ([], 0, 0)  # pins, their level, what it is called
        self._pending = False  # has the Wi-Fi chip an event that was not taken?

    def power_loss(self) -> None:
        """Fill retained memory with garbage."""
        self._retained = self._chance.randbytes(self._chance.randint(0, self._kind.retained))

    def reset(self) -> None:
        """Reset the whole chip."""
        self._wakes = ([], 0, 0)
        self._pending = False
        self.station.off()

    def wakes(self, pin: int | str, level: int | None) -> int | None:
        """The wake reason of this level of this pin in deep sleep, or None."""
        pins, wanted, reason = self._wakes
        return reason if pin in pins and level == wanted else None

    def take_event(self) -> bool:
        """Take a pending event of the radio. Does it end a light sleep at once?"""
        pending, self._pending = self._pending, False
        return pending and self.station.active and self._kind.port == "rp2"

    def told(self, what: str, rest: list[Any]) -> None:
        """Carry out a notice of the firmware."""
        if what == "wake_on":
            self._wakes = (rest[0], rest[1], rest[2])
        else:
            self.pins.told(what, rest)

    def answer(self, what: str, *rest: Any) -> Any:
        """Answer a query of the firmware."""
        if what == "wifi":
            self._pending = True
            return self.station.ask(*rest)
        if what == "resolve":
            return self.station.resolve(str(rest[0]), int(rest[1]))
        if what == "level":
            return self.pins.level(rest[0])
        if what == "adc":
            return self.pins.microvolts(rest[0], self.sensors, radio=self.station.active)
        if what == "dht":
            return self.sensors.answer_dht(rest[0])
        if what == "i2c":
            return self.sensors.transfer(rest[0], bytes.fromhex(rest[1]), rest[2])
        if what == "i2c scan":
            return self.sensors.scan()
        if what == "radio":
            return self.station.active
        if what == "retain":
            self._retained = bytes.fromhex(rest[0])
            return None
        return self._retained.hex() if what == "retained" else None
