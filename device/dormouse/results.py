"""Results on their way up: those that a window owes, and refusals, until the broker has confirmed them.

Must stay true: nothing is sent twice over one connection, nor again in one wake once it is confirmed; what a broken
connection left unconfirmed goes again over the next. Several results share one publish of at most 1 KiB: mosquitto's
PUBACKs, written one by one, would each cost a delayed TCP acknowledgement.
"""

from dormouse import codec, protocol
from dormouse.window import status_of

_FULL = 16  # refusals not yet under way from which they are sent before more is taken
_MOST = 32  # … and at all: past that the oldest go, and their senders have to ask again
_FLYING = 2 * protocol.BATCH  # bytes of those under way that are kept in case the connection breaks


class Results:
    """What is unconfirmed of `inbox`. A refusal is what no window owes: also a result of a command without an id."""

    def __init__(self, inbox):
        self.inbox = inbox
        self.refusals = []  # (number, result as bytes), in order
        self.newest = 0  # the number of the newest
        self.flying = 0  # … and of the newest under way over this connection

    def refuse(self, entry):
        """A result that no window owes, as bytes."""
        self.newest += 1
        self.refusals.append((self.newest, entry))
        if len(self.refusals) > _MOST:
            self.refusals.pop(0)

    @property
    def full(self):
        return len(self.refusals) >= _FULL and self.refusals[-_FULL][0] > self.flying

    def rewind(self):
        """The connection broke: what is not confirmed goes again."""
        self.flying = 0
        for w in self.inbox.windows:
            w.untell()

    def pending(self):
        """Is there anything that is not yet under way?"""
        if self.refusals and self.refusals[-1][0] > self.flying:
            return True
        return any(next(w.owed(), 0) for w in self.inbox.windows)

    def send(self, session):
        """Publish one batch. False where nothing is left to publish."""
        inbox, entries, size = self.inbox, [], 1
        for w in inbox.windows:
            first = last = 0
            for number in w.owed():
                if entries and number != last + 1:
                    break
                detail = inbox.details.get(w.index, number)
                name = inbox.id_of(w.index, number)
                entry = codec.result(status_of(w.code(number)), name, w.crc(number), True, detail)
                size += len(entry) + 1
                if entries and size > protocol.BATCH:
                    break
                w.told(number)
                entries.append(entry)
                first, last = first or number, number
            if entries:  # a run of numbers: little to remember until its PUBACK
                session.publish(protocol.RESULT, codec.listed(b"[", entries), confirmed=(w.confirmed, first, last))
                return True
        first = self.flying + 1
        for number, entry in self.refusals:
            if number > self.flying:
                size += len(entry) + 1
                if entries and size > protocol.BATCH:
                    break
                entries.append(entry)
                self.flying = number
        if entries:
            session.publish(protocol.RESULT, codec.listed(b"[", entries), confirmed=(self._confirm, first, self.flying))
            self._let_go()
        return bool(entries)

    def _confirm(self, first, last):
        self.refusals = [refusal for refusal in self.refusals if not first <= refusal[0] <= last]

    def _let_go(self):
        """Let go of the oldest under way: a PUBACK may be long in coming, and would hold them all that time."""
        size = at = 0
        for number, entry in reversed(self.refusals):
            if number <= self.flying:
                size += len(entry)
                at += size > _FLYING
        self.refusals = self.refusals[at:]
