"""What is owed upward: results and telemetry, until the broker has confirmed them.

Must stay true: nothing is sent twice over one connection; what a broken connection left unconfirmed goes again over
the next, ahead of the rest; several go in one publish of at most 1 KiB, because mosquitto's PUBACKs, one by one, cost a
delayed TCP acknowledgement.
"""

from dormouse import protocol

BATCH = 1024  # bytes of one publish


class Outbox:
    """`queue` holds (leaf, payload) in the order of sending; what is under way is the session's `unacked`."""

    def __init__(self):
        self.queue = []

    def answer(self, entry):
        """A result for the host, as bytes."""
        self._add(protocol.RESULT, b"[", entry, b"]")

    def record(self, number, time, values):
        """One telemetry record; `time` in Unix seconds or None. ProtocolError where JSON can't say the values."""
        self._add(protocol.TELEMETRY, b'{"records":[', protocol.encode([number, time, values]), b"]}")

    def _add(self, leaf, opening, entry, closing):
        if self.queue and self.queue[-1][0] == leaf:
            batch = self.queue[-1][1]
            if len(batch) + 1 + len(entry) <= BATCH:
                self.queue[-1] = (leaf, batch[: -len(closing)] + b"," + entry + closing)
                return
        self.queue.append((leaf, opening + entry + closing))

    def rewind(self, unacked):
        """The connection broke: `unacked`, packet id to entry, goes first over the next one."""
        self.queue = [unacked[pid] for pid in sorted(unacked) if unacked[pid]] + self.queue

    def send(self, session):
        """Publish what is owed and fits now."""
        sent = 0
        for leaf, payload in self.queue:
            if not session.fits(len(payload)):
                break
            session.publish(leaf, payload, tag=(leaf, payload))
            sent += 1
        if sent:
            self.queue = self.queue[sent:]
