"""The values and reasons of results that may still be asked for.

Must stay true: they never take much more than `_MOST` twice over; those that the host has go first, then those that
are under way to it, and only then any other. Making room here never depends on what the broker sends.
"""

_MOST = 1536  # bytes kept when room had to be made
RECORD = 8  # bytes that each takes besides


class Details:
    """Pieces of results (payloads.value_detail, why_detail) by ledger index and number. `rank(index, number)` says of
    each: 0 the host has it, 1 it is under way, 2 it has still to be sent.
    """

    def __init__(self, rank):
        self._rank = rank
        self.entries = []  # (index, number, detail)
        self._bytes = 0

    def keep(self, index, number, detail):
        """Keep one. Past twice the bound, room is made: seldom, because that looks at all of them."""
        self.entries.append((index, number, detail))
        self._bytes += len(detail) + RECORD
        if self._bytes <= 2 * _MOST:
            return
        for rank in range(3):
            for entry in list(self.entries):
                if self._bytes <= _MOST:
                    return
                if self._rank(entry[0], entry[1]) == rank:
                    self._drop(entry)

    def get(self, index, number):
        """What is still kept, or nothing."""
        for entry in self.entries:
            if entry[0] == index and entry[1] == number:
                return entry[2]
        return b""

    def forget(self, index):
        """Drop all of one ledger's."""
        for entry in [e for e in self.entries if e[0] == index]:
            self._drop(entry)

    def room(self):
        """May another command run and bring its value, or should those that there are be sent first?"""
        if self._bytes < _MOST // 2:
            return True
        return sum(len(e[2]) + RECORD for e in self.entries if self._rank(e[0], e[1]) == 2) < _MOST // 2

    def _drop(self, entry):
        self.entries.remove(entry)
        self._bytes -= len(entry[2]) + RECORD
