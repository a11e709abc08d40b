"""The commands of the inbox in their order, in constant memory: their payloads stay on flash.

Must stay true: what is kept here of a command is 7 bytes; a payload that is not in the small cache is read from the
journal when the command's turn comes.
"""

import struct

_ENTRY = "<BIH"  # index, number, bytes of the payload
_SIZE = 7
_CACHE = 640  # bytes of payloads kept in RAM: those of a small wake need not be read again
_RECORD = 8  # bytes of a record in the journal besides the payload


class Waiting:
    """`read()` iterates over (index, number, payload) of all that was ever accepted and is still on flash, in order.
    `limit`: commands that wait at once.
    """

    def __init__(self, read, limit):
        self._read = read
        self._order = bytearray(limit * _SIZE)  # made once: one that grows needs a hole for its copy
        self._end = 0  # what of it is used
        self.let_go()  # _cache: [(index, number, payload)]; _cached: bytes of them
        self.space = 0  # bytes of the journal that they take

    def __len__(self):
        return self._end // _SIZE

    def __iter__(self):
        for at in range(0, self._end, _SIZE):
            yield struct.unpack_from(_ENTRY, self._order, at)

    def has(self, index, number):
        """Is this command waiting?"""
        return self._find(index, number) >= 0

    def add(self, index, number, payload):
        """One more, at the end."""
        if self._end == len(self._order):  # found on flash: the limit was higher once
            self._order += bytes(_SIZE)
        struct.pack_into(_ENTRY, self._order, self._end, index, number, len(payload))
        self._end += _SIZE
        self.space += len(payload) + _RECORD
        if self._cached + len(payload) <= _CACHE:
            self._keep(index, number, payload)

    def remove(self, index, number):
        """This one has ended; nothing happens where it is not waiting."""
        at = self._find(index, number)
        if at >= 0:
            self.space -= struct.unpack_from(_ENTRY, self._order, at)[2] + _RECORD
            rest = memoryview(self._order)
            rest[at : self._end - _SIZE] = rest[at + _SIZE : self._end]
            self._end -= _SIZE
        for entry in self._cache:
            if entry[0] == index and entry[1] == number:
                self._cache.remove(entry)
                self._cached -= len(entry[2])
                break

    def payload(self, index, number):
        """The payload of one that is waiting. What is on flash by now is all that can be found."""
        for again in (False, True):
            if again:
                self._fill(index, number)
            for entry in self._cache:
                if entry[0] == index and entry[1] == number:
                    return entry[2]
        return None

    def let_go(self):
        """Let go of the payloads in RAM; they are on flash."""
        self._cache, self._cached = [], 0

    def _keep(self, index, number, payload):
        self._cache.append((index, number, payload))
        self._cached += len(payload)

    def _fill(self, index, number):
        """Read this one's payload, and those behind it as far as the cache goes."""
        self.let_go()
        found = False
        records = self._read()
        for i, n, payload in records:
            found = found or (i == index and n == number)
            if found and self.has(i, n):
                if self._cache and self._cached + len(payload) > _CACHE:
                    break
                self._keep(i, n, payload)
        records.close()

    def _find(self, index, number):
        for at in range(0, self._end, _SIZE):
            i, n, _ = struct.unpack_from(_ENTRY, self._order, at)
            if i == index and n == number:
                return at
        return -1
