"""The values and reasons of results that may still be asked for.

Must stay true: they never take more than `_MOST` twice over; those that the host has go first, then those that
are under way to it, and only then any other. Making room here never depends on what the broker sends.
"""

_MOST = 1536  # bytes kept of those that the host has, and of those that it may still have to get
_EACH = 64  # bytes of RAM that each takes besides its own


class Details:
    """Pieces of results (payloads.value_detail, why_detail) by ledger index and number. `rank(index, number)` says of
    each: 0 the host has it, 1 it is under way, 2 it has still to be sent.
    """

    def __init__(self, rank):
        self._rank = rank
        self.entries = []  # (index, number, detail)
        self._bytes = 0

    def keep(self, index, number, detail):
        """Keep one, and let go of others where there is no room."""
        self.entries.append((index, number, detail))
        self._bytes += len(detail) + _EACH
        for rank in range(3):
            for entry in list(self.entries):
                if self._bytes <= (2 * _MOST if rank == 2 else _MOST):
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
        return self._bytes < _MOST or sum(len(e[2]) + _EACH for e in self.entries if self._rank(*e[:2]) == 2) < _MOST

    def _drop(self, entry):
        self.entries.remove(entry)
        self._bytes -= len(entry[2]) + _EACH
