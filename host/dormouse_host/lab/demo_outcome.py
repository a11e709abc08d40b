"""What a run of the demo showed, judged from what arrived and from nothing else.

Must stay true: `complete` only where every message arrived exactly once and in order; else `fault` lists what is
missing, repeated or out of order, and names a cause only where the numbers prove it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Variant:
    """How the session is kept: the two settings that decide whether a sleeping device's messages wait for it."""

    clean: bool
    qos: int

    def __str__(self) -> str:
        """As the closing lines name it."""
        return f"clean_session={self.clean}, QoS {self.qos}"


@dataclass
class Outcome:
    """The third phase of one variant."""

    variant: Variant
    sent: int
    arrived: list[int] = field(default_factory=list)  # message numbers, in the order of arrival
    present: bool | None = None  # session_present of the first wake
    drained: bool = False
    how: str = ""  # how the last wake's listening ended, in the device's words; empty where its budget ended it
    wakes: int = 0
    turns: int = 0  # round trips, TCP's handshake included
    ms: int = 0  # awake

    @property
    def complete(self) -> bool:
        """Every message exactly once and in order."""
        return self.arrived == list(range(1, self.sent + 1))

    @property
    def count(self) -> str:
        """`3 of 3`: different messages that arrived, of those that were sent."""
        return f"{len(set(self.arrived))} of {self.sent}"

    @property
    def missing(self) -> list[int]:
        """The numbers that never came."""
        return sorted(set(range(1, self.sent + 1)) - set(self.arrived))

    @property
    def repeated(self) -> list[int]:
        """The numbers that came more than once."""
        return sorted(number for number, times in Counter(self.arrived).items() if times > 1)

    @property
    def late(self) -> list[int]:
        """The numbers that came for the first time after a higher one."""
        late, highest, seen = [], 0, set[int]()
        for number in self.arrived:
            if number < highest and number not in seen:
                late.append(number)
            seen.add(number)
            highest = max(highest, number)
        return late

    def fault(self) -> str:
        """What is wrong, in one line; empty where nothing is."""
        kinds = (("missing", self.missing), ("more than once", self.repeated), ("out of order", self.late))
        found = [f"{name}: {ranges(numbers)}" for name, numbers in kinds if numbers]
        if not found:
            return ""
        return "; ".join([f"{self.count} messages arrived", *found, *self._cause()])

    def _cause(self) -> list[str]:
        if not self.missing:
            return []
        if not self.how:
            return ["the device could not empty its queue within its budget"]
        if self.variant.clean:
            return ["with clean_session=True the broker forgets a device as soon as it disconnects"]
        if self.present is False:
            return ["the broker lost the session (session_present=0)"]
        if self.variant.qos == 0:
            return ["QoS 0 is not kept for a device that sleeps"]
        if self.arrived and self.missing[0] > max(self.arrived):
            kept = len(set(self.arrived))
            return [
                f"the broker acknowledged all {self.sent} but kept the first {kept}: "
                "its max_queued_messages is reached (mosquitto's default is 1000)"
            ]
        return []


def ranges(numbers: Sequence[int]) -> str:
    """`1, 3–7, 9` for ascending numbers."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("–".join(map(str, part)) for part in parts)
