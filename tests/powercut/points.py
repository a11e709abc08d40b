"""Names of cut points: `STORY/WAKE:KIND:N:MODE`, and for two cuts `…+KIND:N:MODE`, the second in the first recovery.

Must stay true: a name means the same instant in every run; `all_in` leaves out none of a wake's operations.
"""

from dataclasses import dataclass

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


def parse(text: str) -> Point:
    """The point of this name."""
    story, _, rest = text.partition("/")
    first, _, then = rest.partition("+")
    wake, _, cut = first.partition(":")
    return Point(story, int(wake), cut, then or "-")


def all_in(ops: dict[str, int]) -> list[str]:
    """Every cut of a wake that had so many operations of each kind."""
    return [f"{kind}:{n}:{mode}" for kind, modes in MODES.items() for n in range(1, ops[kind] + 1) for mode in modes]
