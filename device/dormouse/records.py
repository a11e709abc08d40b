"""Telemetry records: on flash in a bounded ring of files, the oldest first out, and on their way up in batches.

Must stay true: a record is on flash before it is sent, and its number is never given to another; numbers are
contiguous; what goes for want of space is counted. Records stay until their space is needed, confirmed or not,
because no PUBACK is proof that the host has them. Nothing is sent twice over one connection, nor again in one wake once
it is confirmed; what a broken connection left unconfirmed goes again over the next.
"""

from struct import pack, unpack_from

from dormouse import codec, protocol
from dormouse.errors import ProtocolError
from dormouse.journal import Journal, read

_PART = 4090  # bytes of one file; 8 files and their shared tail make the ring
_PARTS = 8
_RANGES = 4  # of records, that can be asked for again in one wake
UNIX, LOCAL = 1, 2  # kinds of record: time in Unix seconds, or in seconds of the device's own count


class Telemetry:
    """This device's records. `acked`: the highest number that a PUBACK has covered, kept over sleep by the caller."""

    def __init__(self, storage, acked):
        self.storage = storage
        self.last = 0  # number of the newest record; 0: none yet
        self.parts = sorted(int(name[4:]) for name in storage.names() if name[:4] == "tel." and name[4:].isdigit())
        self.journal = None
        if self.parts:
            self._open()
        for part in reversed(self.parts[:-1]):
            if self.last:
                break
            for number, _, _, _ in self._records(part):
                self.last = number
        self.acked = self.held = min(acked, self.last)  # `held`: as this wake began
        self.now = 0  # seconds of the device's own count
        self.wanted = []  # (first, last) that the host asks for again
        self.again = []  # … and that are under way
        self.rewind()

    # ---- on flash

    def _open(self):
        """Open the newest part, which alone is written to."""
        self.journal = Journal(self.storage, "tel", _PART, part=self.parts[-1])
        for _, data in self.journal.open():
            self.last = unpack_from("<I", data)[0]

    def _records(self, part):
        newest = part == self.parts[-1]
        for source in self.journal.all() if newest else (read(self.storage, "tel.%d" % part),):
            for kind, data in source:
                number, seconds = unpack_from("<II", data)
                yield number, kind, seconds, data[8:]

    def _first(self, part):
        """Number of its oldest record, or 0."""
        records = self._records(part)
        for number, _, _, _ in records:
            records.close()
            return number
        return 0

    def add(self, kind, seconds, values):
        """Store one record; on flash when this returns. `values` is JSON as bytes. Returns its number."""
        data = pack("<II", self.last + 1, seconds) + values
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
        self._open()

    def oldest(self):
        """Number of the oldest record that is still there; `last` + 1 where there is none."""
        for part in self.parts:
            for record in self._records(part):
                return record[0]
        return self.last + 1

    def read(self, first):
        """Iterate over (number, kind, seconds, values) of the records from `first` on."""
        start = 0
        for at in range(len(self.parts) - 1, 0, -1):
            if 0 < self._first(self.parts[at]) <= first:
                start = at
                break
        for part in self.parts[start:]:
            for record in self._records(part):
                if record[0] >= first:
                    yield record

    # ---- on their way up

    def resend(self, first, last):
        """Send records `first` to `last` again. Returns how many of them are gone."""
        oldest = self.oldest()
        last = min(last, self.last)
        gone = max(0, min(last + 1, oldest) - first)
        first = max(first, oldest)
        if first > self.held:  # from there on they go in this wake anyway
            first = last + 1
        last = min(last, self.held)
        if first <= last:
            if len(self.wanted) >= _RANGES:
                raise ProtocolError("%d ranges are waiting already" % _RANGES)
            self.wanted.append((first, last))
        return gone

    def rewind(self):
        """The connection broke: what is not confirmed goes again."""
        self.wanted = self.again + self.wanted
        self.again = []
        self.batches = []  # [last number, confirmed] of what is under way, in order
        self.reader = self.asked = None  # batches of what was never sent, and of the first of `wanted`

    def pending(self):
        """Is there anything that is not yet under way?"""
        return bool(self.wanted) or self._sent() < self.last

    def _sent(self):
        return self.batches[-1][0] if self.batches else self.acked

    def send(self, session, state):
        """Publish one batch of this state. False where nothing is left to publish."""
        if self.reader is None and self._sent() < self.last:
            self.reader = self._batches(self._sent() + 1, self.last)
        if self.reader is not None:
            for entries, last in self.reader:
                batch = [last, False]
                self.batches.append(batch)
                return self._publish(session, state, entries, (self._confirm, batch))
            self.reader = None
        while self.wanted:
            first, end = self.wanted[0]
            if self.asked is None:
                self.asked = self._batches(first, end)
            for entries, last in self.asked:
                self.wanted[0] = (last + 1, end)
                span = (first, last)
                self.again.append(span)
                return self._publish(session, state, entries, (self.again.remove, span))
            self.asked = None
            self.wanted.pop(0)
        return False

    def _publish(self, session, state, entries, confirmed):
        head = b'{"state":"' + state.encode() + b'","records":['
        session.publish(protocol.TELEMETRY, codec.listed(head, entries), confirmed=confirmed)
        return True

    def _confirm(self, batch):
        batch[1] = True
        while self.batches and self.batches[0][1]:
            self.acked = self.batches.pop(0)[0]

    def _batches(self, first, last):
        """Iterate over (entries, their last number); an entry's time is Unix seconds, or minus the age in seconds."""
        entries, size, number = [], 60, 0
        for n, kind, seconds, values in self.read(first):
            if n > last:
                break
            time = seconds if kind == UNIX else min(0, seconds - self.now)
            entry = b"[%d,%d,%s]" % (n, time, values)
            if entries and size + len(entry) + 1 > protocol.BATCH:
                yield entries, number
                entries, size = [], 60
            entries.append(entry)
            size += len(entry) + 1
            number = n
        if entries:
            yield entries, number
