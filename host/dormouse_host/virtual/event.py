"""What happens to a virtual board, as its owner reads it.

Must stay true: events are numbered in the order in which they happened, without a gap.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that happened: its number, the second since the start, its name and its particulars."""

    number: int
    at: float
    name: str
    fields: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"at": self.at, "event": self.name, **self.fields}

    def __str__(self) -> str:
        """One line for people."""
        return " ".join([f"{self.at:9.3f}", self.name, *(f"{key}={value}" for key, value in self.fields.items())])
