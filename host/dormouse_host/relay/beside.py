"""What may run beside a relay: it publishes notes over the relay's connection, and takes messages of topics of its own.

Must stay true: the relay asks it for notes after commands and answers, for few at a time, and for none while a backlog
comes in, so that no command and no answer waits for one; what it takes in is stored before it is acknowledged.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

AT_ONCE = 50  # notes on their way at most
FEW = 5  # … after a turn in which something else was done
BACKLOG = 100  # messages of one turn that show that more are waiting


@dataclass(frozen=True)
class Note:
    """A message to publish at QoS 1. `key` is the sender's own."""

    topic: str
    payload: bytes
    retain: bool = True
    key: int = 0


@dataclass(frozen=True)
class Aside:
    """A message that came on one of `Beside.topics`."""

    topic: str
    payload: bytes


class Beside(Protocol):
    """What runs beside a relay. All but `start` and `stop` are called in the relay's own loop."""

    topics: Sequence[str]  # subscribed to beside those of the devices
    will: Note | None  # what the broker publishes when the relay is gone

    def start(self, instance: str) -> None:
        """The relay runs, as this instance."""

    def stop(self) -> None:
        """The relay ends."""

    def connected(self) -> None:
        """A new connection to the broker is made; what was on its way may be lost."""

    def lost(self) -> None:
        """There is no connection."""

    def last(self) -> Sequence[Note]:
        """What is still to be published before the connection ends in order."""

    def heard(self, came: Sequence[Aside]) -> None:
        """Store these messages. A HostError leaves them unacknowledged."""

    def notes(self, most: int) -> Sequence[Note]:
        """At most so many to publish now."""

    def told(self, taken: Iterable[Note], refused: Iterable[Note]) -> None:
        """The broker has acknowledged the first, and refused the others."""
