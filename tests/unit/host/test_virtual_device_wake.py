"""Where one wake ends and the next begins in what a device has logged, however late that is read."""

from types import SimpleNamespace

from dormouse_host.virtual.device import VirtualDevice
from dormouse_host.virtual.hardware import Event

BOOT = 'dormouse 5 boot {"wake":%d}\n'
ASLEEP = 'dormouse 90 asleep {"next":60}\n'


class Board:
    """All that it prints and does happens at once, before anybody looks."""

    def __init__(self, printed: str, *happened: str) -> None:
        self.speed, self.patience, self.kind = 1.0, 1.0, SimpleNamespace(name="board")
        self.events: list[Event] = []
        self._printed, self._happened = printed, happened

    def check(self) -> None:
        pass

    @property
    def console(self) -> str:
        if not self.events:
            self.events += [Event(number, 0.0, name, {}) for number, name in enumerate(self._happened)]
        return self._printed


def device(board: Board) -> VirtualDevice:
    made = VirtualDevice.__new__(VirtualDevice)
    made.board, made._at, made._next = board, 0, []  # type: ignore[assignment]
    return made


def test_a_wake_that_was_broken_is_told_apart_from_the_one_after_it():
    """On a busy machine both have ended before the first is looked at."""
    dev = device(Board(BOOT % 1 + BOOT % 2 + ASLEEP, "watchdog", "boot", "asleep"))
    first, second = dev.wake(5), dev.wake(5)
    assert (first.ended, [event.fields["wake"] for event in first.events]) == ("watchdog", [1])
    assert (second.ended, second.events[0].fields["wake"]) == ("asleep", 2)
