"""Which of several relays on one ledger stores a message: each gets all of them, and each has its share of the devices.

Must stay true: a message is acknowledged to the broker once it is stored, by whichever relay, and never before; what
the relay whose share it is has not stored in time another one stores; a relay that knows of no other stores everything.
A share decides who does the work and nothing else: both may store a message, which then changes nothing (inbound.py).
"""

from binascii import crc32
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dormouse_host.ledger.store import Incoming

IN_TIME = 2.0  # seconds after which what another relay has not stored is stored here
LOOK = 0.05  # seconds between two looks at what is left to others
_YOUNG = 0.3  # seconds that others have before the first look, while more comes in
_MOST, _SIZE = 2000, 4 << 20  # messages and bytes that are left to others; a broker keeps what is not acknowledged
_ALONE = 30.0  # seconds for which a relay stores everything after another has stored nothing in time


class Left(NamedTuple):
    """A message that is left to another relay: since when, and its id at the broker."""

    since: float
    mid: int
    message: Incoming


class Share:
    """The devices whose messages the relay `name` stores first. Times are of time.monotonic()."""

    def __init__(self, name: str) -> None:
        """Everything, until `update` says that there are others."""
        self._name = name
        self._names = [name]
        self.changes = 0
        self._alone_until = 0.0
        self._last_seen = 0.0

    def update(self, names: Iterable[str], now: float) -> bool:
        """These relays are alive. Has the share changed by that?"""
        found = sorted({self._name, *names})
        changed, self._names = found != self._names, found
        if changed:
            self.changes += 1
            self._last_seen = now
        return changed

    def is_whole(self, now: float) -> bool:
        """Does this relay store everything?"""
        return len(self._names) == 1 or now < self._alone_until

    def has(self, device: str, now: float) -> bool:
        """Are this device's messages stored here?"""
        if self.is_whole(now):
            return True
        return self._names[crc32(device.encode()) % len(self._names)] == self._name

    def seen(self, now: float) -> None:
        """Another relay has stored what was its share."""
        self._last_seen = now

    def late(self, now: float) -> bool:
        """Another relay has not stored something in time. Is everything to be stored here for a while?"""
        if now - self._last_seen < IN_TIME:
            return False
        self._alone_until = now + _ALONE
        self._last_seen = self._alone_until
        return True


class Others:
    """The messages of one connection that are left to other relays."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._left: list[Left] = []
        self._size = 0
        self._looked = 0.0
        self._changes = share.changes

    def __bool__(self) -> bool:
        return bool(self._left)

    def sort(self, came: Sequence[tuple[int, Incoming]], now: float) -> list[tuple[int, Incoming]]:
        """Keep what is others' share. Returns the rest, before it what was kept and is not left to them any more."""
        mine: list[tuple[int, Incoming]] = []
        another, self._changes = self._changes != self._share.changes, self._share.changes
        if another or self._share.is_whole(now) or len(self._left) >= _MOST or self._size >= _SIZE:
            mine = self.all()
        for mid, message in came:
            if self._share.has(message.device, now):
                mine.append((mid, message))
            else:
                self._left.append(Left(now, mid, message))
                self._size += len(message.payload)
        return mine

    def all(self) -> list[tuple[int, Incoming]]:
        """Everything that is left to others; from now on it is not."""
        every = [(left.mid, left.message) for left in self._left]
        self._left, self._size = [], 0
        return every

    def look(
        self, stored: Callable[[Sequence[Incoming]], Sequence[bool | None]], now: float, *, more: bool
    ) -> tuple[list[int], list[tuple[int, Incoming]]]:
        """Look which are `stored`, if it is time for that; while `more` comes in they may be young. Returns the ids of
        those that are, and what is to be stored here: what nobody stored in time, or of what it cannot be told, and
        with it all that its device sent later.
        """
        if not self._left or now - self._looked < LOOK or (more and now - self._left[0].since < _YOUNG):
            return [], []
        self._looked = now
        found = stored([left.message for left in self._left])
        done = [left.mid for left, is_stored in zip(self._left, found, strict=True) if is_stored]
        if done:
            self._share.seen(now)
        rest = [(left, is_stored) for left, is_stored in zip(self._left, found, strict=True) if not is_stored]
        late = {left.message.device for left, _ in rest if now - left.since >= IN_TIME}
        if late and self._share.late(now):
            late = {left.message.device for left, _ in rest}
        late |= {left.message.device for left, is_stored in rest if is_stored is None}
        self._left = [left for left, _ in rest if left.message.device not in late]
        self._size = sum(len(left.message.payload) for left in self._left)
        return done, [(left.mid, left.message) for left, _ in rest if left.message.device in late]
