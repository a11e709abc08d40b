"""What the tests of results and telemetry share: a connection that keeps what is published, and a device's outbox."""

import json

from desk import Desk

from dormouse import codec, protocol
from dormouse.records import LOCAL, UNIX, Telemetry
from dormouse.results import Results


class Session:
    """Takes what is published, `room` publishes at most, and keeps what confirms each."""

    def __init__(self, room=1000):
        self.room = room
        self.sent: list = []  # (leaf, message, confirmed)

    def fits(self, size):
        assert size == protocol.BATCH
        return len(self.sent) < self.room

    def publish(self, leaf, pieces, confirmed=None):
        data = b"".join(pieces)
        assert len(data) <= protocol.BATCH
        self.sent.append((leaf, json.loads(data), confirmed))

    def ack(self, at):
        """The PUBACK of publish number `at`."""
        confirmed = self.sent[at][2]
        if confirmed:
            confirmed[0](*confirmed[1:])

    def ack_all(self):
        for at in range(len(self.sent)):
            self.ack(at)

    def numbers(self):
        """Of all telemetry records, in the order they went."""
        return [
            entry[0] for leaf, message, _ in self.sent if leaf == protocol.TELEMETRY for entry in message["records"]
        ]

    def results(self):
        """Of all results: ids, or what else they name."""
        found = []
        for leaf, message, _ in self.sent:
            if leaf == protocol.RESULT:
                found += [entry.get("id") or entry.get("do") for entry in message]
        return found


class Outbox:
    """Results and telemetry, sent as a connection sends them."""

    def __init__(self, desk, acked):
        self.desk = desk
        self.results = Results(desk.inbox)
        self.telemetry = Telemetry(desk.storage, acked)
        self.answer = self.results.refuse
        self.resend = self.telemetry.resend

    @property
    def acked(self):
        return self.telemetry.acked

    @property
    def full(self):
        return self.results.full

    def record(self, unix, now, values):
        data = codec.encode(values)
        return self.telemetry.add(LOCAL, now, data) if unix is None else self.telemetry.add(UNIX, unix, data)

    def send(self, session):
        while session.fits(protocol.BATCH):
            if not self.results.send(session) and not self.telemetry.send(session, self.desk.inbox.state):
                return

    def pending(self):
        return self.results.pending() or self.telemetry.pending()

    def rewind(self):
        self.results.rewind()
        self.telemetry.rewind()


def filled(count, size=60, acked=0):
    """A desk, and an outbox with so many records; the first `acked` are confirmed."""
    desk = Desk()
    outbox = Outbox(desk, 0)
    for n in range(1, count + 1):
        outbox.record(1000 + n, n, {"n": n, "x": "x" * size})
    return desk, Outbox(desk, acked)


def sent(outbox, desk, room=1000):
    session = Session(room)
    outbox.send(session)
    return session
