"""What a virtual board's firmware reaches over its line: pins, radio, and memory that outlives a sleep.

Must stay true: an answer is what holds at the moment of the question; retained memory is garbage after a loss of power
and keeps what was written through everything else.
"""

import random
from collections.abc import Callable
from typing import Any

from dormouse_host.virtual.kind import BoardKind
from dormouse_host.virtual.pins import Pins
from dormouse_host.virtual.wifi import Station, Wifi


class Around:
    """`happened(name, **fields)` is told of what the radio does."""

    def __init__(self, kind: BoardKind, wifi: Wifi, chance: random.Random, happened: Callable[..., None]) -> None:
        self._kind, self._chance = kind, chance
        self.station = Station(wifi, kind.port, on_event=happened)
        self.pins = Pins(kind, chance)
        self._retained = b""
        self._wakes: tuple[list[int | str], int, int] = ([], 0, 0)  # pins, their level, what it is called
        self._pending = False  # has the Wi-Fi chip an event that nobody has taken?

    def power_loss(self) -> None:
        """What retained memory held is gone."""
        self._retained = self._chance.randbytes(self._chance.randint(0, self._kind.retained))

    def reset(self) -> None:
        """What a reset of the whole chip ends."""
        self._wakes = ([], 0, 0)
        self._pending = False
        self.station.off()

    def wakes(self, pin: int | str, level: int | None) -> int | None:
        """The reason for waking that a deep sleeper has in this level of this pin."""
        pins, wanted, reason = self._wakes
        return reason if pin in pins and level == wanted else None

    def take_event(self) -> bool:
        """Does an event of the radio end a light sleep at once? It is taken by that."""
        pending, self._pending = self._pending, False
        return pending and self.station.active and self._kind.port == "rp2"

    def told(self, what: str, rest: list[Any]) -> None:
        """What needs no answer."""
        if what == "wake_on":
            self._wakes = (rest[0], rest[1], rest[2])
        else:
            self.pins.told(what, rest)

    def answer(self, what: str, *rest: Any) -> Any:
        """What is asked."""
        if what == "wifi":
            self._pending = True
            return self.station.ask(*rest)
        if what == "resolve":
            return self.station.resolve(str(rest[0]), int(rest[1]))
        if what == "level":
            return self.pins.level(rest[0])
        if what == "adc":
            return self.pins.microvolts(rest[0], radio=self.station.active)
        if what == "radio":
            return self.station.active
        if what == "retain":
            self._retained = bytes.fromhex(rest[0])
            return None
        return self._retained.hex() if what == "retained" else None
