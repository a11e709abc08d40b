"""Telemetry on flash: a bounded ring of files, oldest first out.

Must stay true: a record is on flash before it is sent, and its number is never given to another; numbers are
contiguous; what goes for want of space is counted. Records stay until their space is needed, confirmed or not,
because no PUBACK is proof that the host has them.
"""

import struct

from dormouse.journal import Journal

_PART = 4090  # bytes of one file; 8 files and their shared tail make the ring
_PARTS = 8
UNIX, LOCAL = 1, 2  # kinds of record: time in Unix seconds, or in seconds of the device's own count


class Ring:
    """Records of (number, kind, seconds, values as JSON bytes)."""

    def __init__(self, storage):
        self.storage = storage
        self.last = 0  # number of the newest record; 0: none yet
        self.parts = sorted(int(name[4:]) for name in storage.names() if name[:4] == "tel." and name[4:].isdigit())
        self.journal = None
        for part in reversed(self.parts):
            journal = self._part(part)
            for number in self._numbers(journal):
                self.last = number
            if self.journal is None:
                self.journal = journal
            if self.last:
                break

    def _part(self, part):
        return Journal(self.storage, "tel", _PART, part=part)

    def _numbers(self, journal):
        for _, data in journal.open():
            yield struct.unpack_from("<I", data)[0]

    def add(self, kind, seconds, values):
        """Store one record; on flash when this returns. `values` is JSON as bytes. Returns its number."""
        data = struct.pack("<II", self.last + 1, seconds) + values
        if self.journal is None or self.journal.room() < len(data) + 3:
            self._next_part()
        self.journal.add(kind, data)
        self.journal.commit()
        self.last += 1
        return self.last

    def _next_part(self):
        if self.journal:
            self.journal.commit(True)
        while len(self.parts) >= _PARTS:
            self.storage.remove("tel.%d" % self.parts.pop(0))
        self.parts.append(self.parts[-1] + 1 if self.parts else 1)
        self.journal = self._part(self.parts[-1])
        for _ in self.journal.open():
            pass

    def oldest(self):
        """Number of the oldest record that is still there; `last` + 1 where there is none."""
        for part in self.parts:
            for number in self._numbers(self._part(part)):
                return number
        return self.last + 1

    def read(self, first):
        """Iterate over (number, kind, seconds, values) of the records from `first` on."""
        start = 0
        for at in range(len(self.parts) - 1, 0, -1):
            if next(self._numbers(self._part(self.parts[at])), first + 1) <= first:
                start = at
                break
        for part in self.parts[start:]:
            for kind, data in self._part(part).open():
                number, seconds = struct.unpack_from("<II", data)
                if number >= first:
                    yield number, kind, seconds, data[8:]
