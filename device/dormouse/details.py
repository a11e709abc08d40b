"""The values and reasons of results that may still be asked for, in a buffer that is made once.

Must stay true: they never take more than that buffer, and one long value beside it; those that the host has go first,
then those that are under way to it, and only then any other. Making room here never depends on what the broker sends.
"""

import struct

LONG = 600  # bytes; a longer one is not worth flash, and is told while this wake lasts
_SIZE = 1536  # bytes of the buffer
_HEAD = "<BIH"  # index, number, bytes of the detail
_HEAD_SIZE = 7


class Details:
    """Pieces of results (payloads.value_detail, why_detail) by ledger index and number. `rank(index, number)` says of
    each: 0 the host has it, 1 it is under way, 2 it has still to be sent.
    """

    def __init__(self, rank):
        self._rank = rank
        self._buffer = bytearray(_SIZE)
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
        while self._used + size > _SIZE:
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
        return sum(_HEAD_SIZE + n for _, i, number, n in self._heads() if self._rank(i, number) == 2) < _SIZE // 2

    def _drop(self, rank, index=None):
        """Drop the oldest of this rank, or of this ledger. False where there is none."""
        for at, i, number, n in self._heads():
            if i == index if rank is None else self._rank(i, number) == rank:
                rest = memoryview(self._buffer)  # which moves it in place: a copy would need a hole as big
                rest[at - _HEAD_SIZE : self._used - _HEAD_SIZE - n] = rest[at + n : self._used]
                self._used -= _HEAD_SIZE + n
                return True
        return False
