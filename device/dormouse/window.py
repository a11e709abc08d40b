"""The sequence windows: for each ledger the highest number seen, and for the 256 up to it what became of each; and the
bodies of their results.

Must stay true: pure state, changed by `mark` alone; a number is either above the window (new), in it (never seen, or
seen with a status and the CRC-32 of the bytes first accepted), or below it (stale). Constant memory per ledger, as in
IPsec's anti-replay window (RFC 4303, section 3.4.3; RFC 6479). The bodies never take more than one buffer, and one
long value beside it; those that the host has go first, then those under way to it, and only then any other: making
room never depends on what the broker sends.
"""

import struct

from dormouse.protocol import FINAL, STATUSES, WINDOW, pack_window

LEDGERS = 4
STALE = 255  # code of a number below the window
OPEN = 1  # code of a number that was taken and is not settled
_PIECE = 32  # places in one piece of the CRCs, and of a snapshot: a heap that is nearly full has no hole of a KiB
_CODE = 0x0F
_OWED = 0x80  # settled, and its result is not confirmed yet
_TOLD = 0x40  # its result is under way over this connection
LONG = 600  # bytes; a longer one is not worth flash, and is told while this wake lasts
_DETAILS = 1536  # bytes of all details
_HEAD = "<BIH"  # index, number, bytes of the detail
_HEAD_SIZE = 7


class Window:
    """`name` is the ledger's; `index` is its own in this device's journal and never used again for another."""

    def __init__(self, index, name):
        self.index = index
        self.name = name
        self.high = self.first = 0
        self.status = bytearray(WINDOW)
        self.crcs = [bytearray(4 * _PIECE) for _ in range(WINDOW // _PIECE)]

    def code(self, number):
        """0: never seen; an index into protocol.STATUSES; or STALE."""
        if number > self.high:
            return 0
        if number <= self.high - WINDOW:
            return STALE
        return self.status[number % WINDOW] & _CODE

    def crc(self, number):
        """CRC-32 of the bytes first accepted under a number that has been seen."""
        at = number % WINDOW
        return struct.unpack_from("<I", self.crcs[at // _PIECE], at % _PIECE * 4)[0]

    def mark(self, number, code, crc=None):
        """Number `number`, not below the window, has this status now; a final one is owed to the host."""
        if number > self.high:
            for n in range(max(self.high + 1, number - WINDOW + 1), number):
                self.status[n % WINDOW] = 0
            self.high = number
        at = number % WINDOW
        self.status[at] = code
        if code > OPEN:
            self.owe(number)
        if crc is not None:
            struct.pack_into("<I", self.crcs[at // _PIECE], at % _PIECE * 4, crc)

    def _flagged(self):
        """The numbers in the window that may be owed or told."""
        return range(max(self.first, self.high - WINDOW + 1), self.high + 1)

    def owed(self, flags=_OWED | _TOLD):
        """The numbers whose results are owed and not under way, in order."""
        for number in self._flagged():
            if self.status[number % WINDOW] & flags == _OWED:
                yield number

    def owes(self):
        """Is any result still to be confirmed?"""
        return any(self.owed(_OWED))

    def rank(self, number):
        """Of the result of `number`: 0 confirmed or none, 1 under way, 2 owed and not under way."""
        flags = self.status[number % WINDOW] if self.code(number) != STALE else 0
        return 0 if not flags & _OWED else 1 if flags & _TOLD else 2

    def told(self, number):
        """The result of `number` is under way over this connection."""
        self.status[number % WINDOW] |= _TOLD

    def owe(self, number):
        """The result of `number` is asked for again: unconfirmed, unless it is under way."""
        self.status[number % WINDOW] |= _OWED
        self.first = min(self.first, number)

    def confirmed(self, first, last):
        """The broker has acknowledged the results of `first` to `last`."""
        for number in range(first, last + 1):
            if self.code(number) != STALE:
                self.status[number % WINDOW] &= _CODE

    def untell(self, kept=~_TOLD & 0xFF):
        """The connection broke: nothing is under way."""
        for number in self._flagged():
            self.status[number % WINDOW] &= kept

    def settle(self):
        """All that is owed is confirmed."""
        self.untell(_CODE)
        self.first = self.high + 1

    def text(self):
        """For the end record: see protocol.pack_window."""
        return pack_window(self.status[n % WINDOW] & _CODE for n in range(self.high, max(0, self.high - WINDOW), -1))

    def snapshot(self):
        """The whole window for the journal, in pieces: index u8, high u32, the piece's first place u8, so many
        statuses, as many CRCs u32.
        """
        for at in range(0, WINDOW, _PIECE):
            head = struct.pack("<BIB", self.index, self.high, at)
            yield head + self.status[at : at + _PIECE] + self.crcs[at // _PIECE]

    def restore(self, data):
        """Take over one piece of a snapshot."""
        self.high, at = struct.unpack_from("<IB", data, 1)
        for n in range(_PIECE):
            self.status[at + n] = data[6 + n] & ~_TOLD
        self.crcs[at // _PIECE][:] = data[6 + _PIECE :]


class Details:
    """Pieces of results (codec.value_detail, why_detail) by ledger index and number. `rank(index, number)` says of
    each: 0 the host has it, 1 it is under way, 2 it has still to be sent.
    """

    def __init__(self, rank):
        self._rank = rank
        self._buffer = bytearray(_DETAILS)
        self._used = 0
        self._long = (None, 0, b"")

    def __iter__(self):
        """(index, number, detail) of all but the long one, the oldest first."""
        for at, index, number, n in self._heads():
            yield index, number, bytes(self._buffer[at : at + n])

    def _heads(self):
        at = 0
        while at < self._used:
            index, number, n = struct.unpack_from(_HEAD, self._buffer, at)
            at += _HEAD_SIZE
            yield at, index, number, n
            at += n

    def keep(self, index, number, detail):
        """Keep one, and let go of others where there is no room."""
        if len(detail) > LONG:
            self._long = (index, number, detail)
            return
        size = _HEAD_SIZE + len(detail)
        rank = 0
        while self._used + size > _DETAILS:
            if not self._drop(rank):
                rank += 1
        struct.pack_into(_HEAD, self._buffer, self._used, index, number, len(detail))
        self._buffer[self._used + _HEAD_SIZE : self._used + size] = detail
        self._used += size

    def get(self, index, number):
        """What is still kept, or nothing."""
        if self._long[:2] == (index, number):
            return self._long[2]
        for at, i, n, size in self._heads():
            if i == index and n == number:
                return bytes(self._buffer[at : at + size])
        return b""

    def forget(self, index):
        """Drop all of one ledger's."""
        while self._drop(None, index):
            pass
        if self._long[0] == index:
            self._long = (None, 0, b"")

    def room(self):
        """May another command run and bring its value, or should those that there are be sent first?"""
        long = self._long
        if long[0] is not None and self._rank(long[0], long[1]) == 2:
            return False
        return sum(_HEAD_SIZE + n for _, i, number, n in self._heads() if self._rank(i, number) == 2) < _DETAILS // 2

    def _drop(self, rank, index=None):
        """Drop the oldest of this rank, or of this ledger. False where there is none."""
        for at, i, number, n in self._heads():
            if i == index if rank is None else self._rank(i, number) == rank:
                rest = memoryview(self._buffer)  # which moves it in place: a copy would need a hole as big
                rest[at - _HEAD_SIZE : self._used - _HEAD_SIZE - n] = rest[at + n : self._used]
                self._used -= _HEAD_SIZE + n
                return True
        return False


def code_of(status):
    """The code of a final status."""
    return 2 + FINAL.index(status)


def status_of(code):
    """The status of a code."""
    return STATUSES[code]
