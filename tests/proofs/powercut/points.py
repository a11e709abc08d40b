"""Names of cut points: `STORY/WAKE:KIND:N:MODE`, and for two cuts `…+KIND:N:MODE`, the second in the first recovery.

Must stay true: a name means the same instant in every run; `all_in` leaves out none of a wake's operations.
"""

from dataclasses import dataclass

from proofs.powercut.stories import STORIES

MODES = {
    "flash": ("before", "half", "torn", "after"),  # every program and erase; boards/virtual/norflash.py
    "send": ("before", "half", "after"),  # `before` lies between the journal's commit and the PUBACKs it covers
    "recv": ("before", "after"),
    "hand": ("there",),  # in a handler: before its effect, after it, at its end
}


@dataclass(frozen=True)
class Point:
    """One or two cuts in one story."""

    story: str
    wake: int
    cut: str
    then: str = "-"

    def __str__(self) -> str:
        """What `parse` takes."""
        return f"{self.story}/{self.wake}:{self.cut}" + (f"+{self.then}" if self.then != "-" else "")


class NoPoint(Exception):
    """A name that is none of a point; the text says why."""


def parse(text: str) -> Point:
    """The point of this name, or NoPoint. Whether a wake has so many operations is seen when it is run."""
    story, _, rest = text.partition("/")
    first, plus, then = rest.partition("+")
    wake, _, cut = first.partition(":")
    if story not in STORIES:
        raise NoPoint(f"{text}: no story {story!r}, but {', '.join(STORIES)}")
    for part in [cut, then] if plus else [cut]:
        kind, _, place = part.partition(":")
        number, _, mode = place.partition(":")
        if not (wake.isdecimal() and number.isdecimal() and mode):
            raise NoPoint(f"{text}: expected STORY/WAKE:KIND:N:MODE, with +KIND:N:MODE for a second cut")
        if mode not in MODES.get(kind, ()):
            raise NoPoint(f"{text}: no cut {kind}:…:{mode}; the kinds and modes are {MODES}")
        if int(wake) < 1 or int(number) < 1:
            raise NoPoint(f"{text}: wakes and operations count from 1")
    return Point(story, int(wake), cut, then or "-")


def all_in(ops: dict[str, int]) -> list[str]:
    """Every cut of a wake that had so many operations of each kind."""
    return [f"{kind}:{n}:{mode}" for kind, modes in MODES.items() for n in range(1, ops[kind] + 1) for mode in modes]
