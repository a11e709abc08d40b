"""The relay: a generator that may crash at any yield, and publishes what the ledger has to send.

Not modelled: PUBACK with an error reason, resending by the MQTT client library inside one process.
"""

from typing import Any

from proofs.model.ledger import ME, Row
from proofs.model.wire import Conn


class Relay:
    """Publishes what the ledger has to send, and takes everything upward in."""

    gen: Any
    conn: Any

    def __init__(self, world, db, cid):
        self.world, self.db, self.cid = world, db, cid
        self.gen, self.conn, self.off, self.session = None, None, False, 0

    def kill(self):
        if self.conn:
            self.conn.alive = False
        self.gen = self.conn = None
        if not self.world.on("publishing"):  # what was only in its memory is gone
            for r in reversed(self.db.rows):
                if r.by == self.cid and r.claimed and not r.puback and not r.final and not r.void:
                    k = r.id[:2]
                    if self.db.counter.get(k) == r.id[2]:
                        self.db.counter[k] -= 1
                    r.id, r.claimed, r.status, r.crcs = None, 0, "queued", []

    def step(self, signal):
        if self.gen is None:
            self.gen = self.run()
            next(self.gen)
        else:
            self.gen.send(signal)

    def busy(self):
        return not self.conn or not self.conn.open or self.conn.down or self.db.next(self)

    def run(self):
        w, db, mid = self.world, self.db, 0
        while True:
            flying: dict[int, Row] = {}
            self.conn, self.session = Conn(self.cid), w.tick()
            c = self.conn
            w.conns.append(c)
            c.send(("connect",), ("sub", "up/"))
            signal = yield
            while c.open:
                r = db.next(self)
                if c.down and not (r and signal == "out"):
                    kind, *a = c.down.popleft()
                    if kind == "pub":
                        if not w.on("stored_first") and a[0]:
                            c.send(("ack", a[0]))
                            yield
                        w.hear(db, a[1]["topic"], a[1]["p"], self.session)
                        signal = yield  # stored, then acknowledged
                        if a[0] and w.on("stored_first"):
                            c.send(("ack", a[0]))
                            signal = yield
                    elif kind == "puback" and a[0] in flying:
                        r = flying.pop(a[0])
                        if r in db.rows:
                            r.puback = db.tick()
                            if r.status == "publishing":
                                r.status = "sent"
                        signal = yield
                elif r:
                    p = db.claim(r, self)
                    signal = yield  # a crash here leaves it "publishing"
                    mid += 1
                    flying[mid] = r
                    w.stat["published"] += r.device == ME
                    w.published[r.uid] += not r.void
                    topic = "down/cmd" if r.device == ME else "evil/cmd"
                    c.send(("pub", topic, 1, mid, p, None if r.void else r.exp))
                    signal = yield
                else:
                    signal = yield
            if not c.open:
                signal = yield
