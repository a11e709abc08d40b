"""What is owed upward: results and telemetry, in batches, until the broker has confirmed them.

Must stay true: nothing is sent twice over one connection, nor again in one wake once it is confirmed; what a broken
connection left unconfirmed goes again over the next. Several results or records share one publish of at most 1 KiB:
mosquitto's PUBACKs, written one by one, would each cost a delayed TCP acknowledgement.
"""

from dormouse import codec, protocol
from dormouse.errors import ProtocolError
from dormouse.records import LOCAL, UNIX, Ring
from dormouse.window import status_of

_ANSWERS = 16  # answers not yet under way above which they are sent before more is taken
_MOST = 32  # … and at all: past that the oldest go, and their senders have to ask again
_RANGES = 4  # of records, that can be asked for again in one wake
_FLYING = 2  # batches of answers under way that are kept in case the connection breaks


class Outbox:
    """`acked`: the highest telemetry number that a PUBACK has covered, kept over sleep by the caller."""

    def __init__(self, storage, acked):
        self.ring = Ring(storage)
        self.acked = self.held = min(acked, self.ring.last)  # `held`: as this wake began
        self.answers = []  # results that no window owes, as bytes
        self.flying = []  # [answers, …] under way
        self.batches = []  # [last number, confirmed] of the telemetry under way, in order
        self.wanted = []  # (first, last) that the host asks for again
        self.again = []  # … and that are under way
        self.asked = None  # batches of the first of `wanted`
        self.now = 0  # seconds of the device's own count
        self.reader = None
        self.have = self._have  # made once, not for every publish under way

    def record(self, unix, now, values):
        """Store one telemetry record: `unix` seconds or None, `now` in the device's own count. Returns its number."""
        kind, seconds = (LOCAL, now) if unix is None else (UNIX, unix)
        return self.ring.add(kind, seconds, codec.encode(values))

    def answer(self, entry):
        """A result that no window owes, as bytes."""
        self.answers.append(entry)
        if len(self.answers) > _MOST:
            self.answers.pop(0)

    @property
    def full(self):
        return len(self.answers) >= _ANSWERS

    def resend(self, first, last):
        """Send records `first` to `last` again. Returns how many of them are gone."""
        oldest = self.ring.oldest()
        last = min(last, self.ring.last)
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

    def rewind(self, inbox):
        """The connection broke: what is not confirmed goes again."""
        for entries in reversed(self.flying):
            self.answers = entries + self.answers
        self.wanted = self.again + self.wanted
        self.flying, self.again, self.batches, self.reader, self.asked = [], [], [], None, None
        for w in inbox.windows:
            w.untell()

    def pending(self, inbox):
        """Is there anything that is not yet under way?"""
        return bool(self.answers or self.wanted or self._more() or any(next(w.owed(), 0) for w in inbox.windows))

    def send(self, session, inbox, flush=None):
        """Publish what is owed and fits now; with `flush`, batch by batch, so that none lies in RAM twice over."""
        while session.fits(protocol.BATCH):
            if flush and session.link.used > protocol.BATCH:
                flush()
            if self._send_results(session, inbox) or self._send_answers(session):
                continue
            if not self._send_records(session, inbox):
                return

    def _publish(self, session, leaf, head, entries, confirmed):
        pieces = [head]
        for entry in entries:
            pieces += (entry, b",")
        pieces[-1] = b"]" if head == b"[" else b"]}"
        session.publish(leaf, pieces, confirmed=confirmed)
        return True

    def _send_results(self, session, inbox):
        entries, size = [], 1
        for w in inbox.windows:
            first = last = 0
            for number in w.owed():
                if entries and number != last + 1:
                    break
                name = "%s-%s.%d" % (inbox.state, w.name, number)
                detail = inbox.details.get(w.index, number)
                entry = codec.result(status_of(w.code(number)), name, w.crc(number), True, detail)
                size += len(entry) + 1
                if entries and size > protocol.BATCH:
                    break
                w.told(number)
                entries.append(entry)
                first, last = first or number, number
            if entries:  # a run of numbers: little to remember until its PUBACK
                return self._publish(session, protocol.RESULT, b"[", entries, (self.have, w, first, last))
        return False

    def _have(self, w, first, last):
        for number in range(first, last + 1):
            w.confirmed(number)

    def _send_answers(self, session):
        count, size = 0, 1
        for entry in self.answers:
            size += len(entry) + 1
            if count and size > protocol.BATCH:
                break
            count += 1
        entries, self.answers = self.answers[:count], self.answers[count:]
        if not entries:
            return False
        self.flying.append(entries)
        if len(self.flying) > _FLYING:
            self.flying.pop(0).clear()  # its PUBACK may be long in coming, and would hold them all that time
        return self._publish(session, protocol.RESULT, b"[", entries, (self._landed, entries))

    def _landed(self, entries):
        if entries in self.flying:
            self.flying.remove(entries)

    # ---- telemetry

    def _sent(self):
        return self.batches[-1][0] if self.batches else self.acked

    def _more(self):
        return self._sent() < self.ring.last

    def _send_records(self, session, inbox):
        if self.reader is None and self._more():
            self.reader = self._batches(self._sent() + 1, self.ring.last)
        if self.reader is not None:
            for entries, last in self.reader:
                batch = [last, False]
                self.batches.append(batch)
                return self._send_batch(session, inbox, entries, (self._confirm, batch))
            self.reader = None
        if self.asked is None and self.wanted:
            self.asked = self._batches(*self.wanted[0])
        if self.asked is not None:
            for entries, last in self.asked:
                first, end = self.wanted[0]
                self.wanted[0] = (last + 1, end)
                span = (first, last)
                self.again.append(span)
                return self._send_batch(session, inbox, entries, (self.again.remove, span))
            self.asked = None
            self.wanted.pop(0)
            return True
        return False

    def _send_batch(self, session, inbox, entries, confirmed):
        head = b'{"state":"' + inbox.state.encode() + b'","records":['
        return self._publish(session, protocol.TELEMETRY, head, entries, confirmed)

    def _confirm(self, batch):
        batch[1] = True
        while self.batches and self.batches[0][1]:
            self.acked = self.batches.pop(0)[0]

    def _batches(self, first, last):
        """Iterate over (entries, their last number); an entry's time is Unix seconds, or minus the age in seconds."""
        entries, size, number = [], 60, 0
        for n, kind, seconds, values in self.ring.read(first):
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
