"""The values and reasons of results that may still be asked for.

Must stay true: they never take much more than `_MOST` twice over; those that the host has go before those it has not.
"""

_MOST = 1536  # bytes kept when room had to be made
RECORD = 8  # bytes that each takes besides


class Details:
    """Pieces of results (payloads.value_detail, why_detail) by ledger index and number. `owed(index, number)` says
    whether the host has still to get that one.
    """

    def __init__(self, owed):
        self._owed = owed
        self.entries = []  # (index, number, detail)
        self._bytes = 0

    def keep(self, index, number, detail):
        """Keep one. Past twice the bound, room is made: seldom, because that looks at all of them."""
        self.entries.append((index, number, detail))
        self._bytes += len(detail) + RECORD
        if self._bytes <= 2 * _MOST:
            return
        for owed in (False, True):
            for entry in list(self.entries):
                if self._bytes <= _MOST:
                    return
                if self._owed(entry[0], entry[1]) == owed:
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
        """May another command run and bring its value, or are too many under way?"""
        if self._bytes < _MOST // 2:
            return True
        return sum(len(e[2]) + RECORD for e in self.entries if self._owed(e[0], e[1])) < _MOST // 2

    def _drop(self, entry):
        self.entries.remove(entry)
        self._bytes -= len(entry[2]) + RECORD
