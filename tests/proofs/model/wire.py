"""The wire: connections and an MQTT broker, with the scaled-down limits that all parts share.

Modelled: persistent sessions, per-session queue and in-flight window, queue limit (drops silently after PUBACK),
retained report, QoS 0 that overtakes, PUBACK before or after routing, redelivery (in order or reordered), take-over,
message expiry, live messages that overtake stored ones, loss of one session, crash with everything forgotten or an
older snapshot; a report withheld, and what was said once, said again later.
Not modelled: packet loss inside TCP, MQTT properties other than expiry, error reasons in PUBACK, several brokers.
"""

import copy
from collections import deque
from typing import Any

INFLIGHT, QUEUE, WINDOW, INBOX, LEDGERS, RING, VALUES, TRIES = 3, 10, 8, 4, 3, 6, 2, 3
STATES = 2  # that a ledger remembers of those that a device has left
FINAL = {"succeeded", "failed", "rejected", "interrupted", "expired", "cancelled"}


class Broken(Exception):
    """A promise is broken; the text begins with the number of the check."""


class Conn:
    """One TCP connection: what is under way in both directions."""

    up: deque[Any]
    down: deque[Any]

    def __init__(self, cid):
        self.cid, self.up, self.down, self.open, self.alive = cid, deque(), deque(), True, True

    def send(self, *packets):
        if self.open:
            self.up.extend(packets)


class Session:
    """A persistent session at the broker."""

    queue: deque[Any]
    stored: deque[Any]

    def __init__(self):
        self.filter, self.queue, self.inflight, self.mid = None, deque(), [], 0
        self.stored = deque()  # what came while its client was away, where live messages overtake that


class Broker:
    """Routes between sessions; what it acknowledged it may still drop or forget."""

    def __init__(self, world):
        self.world: Any = world
        self.sessions: dict[str, Session] = {}
        self.conns: dict[str, Any] = {}
        self.retained, self.snaps = None, []
        self.hold, self.held, self.tape = False, [], []  # withhold the next report; all that was ever said upward

    def pump(self, cid):
        s, c, w = self.sessions.get(cid), self.conns.get(cid), self.world
        limit = INFLIGHT if cid == "dev" or not w.on("receive_maximum") else 9999
        while s and c and c.open and s.queue and len(s.inflight) < limit:
            m = s.queue.popleft()
            if m["exp"] and m["exp"] <= w.now and w.cfg["broker_expiry"]:
                continue
            s.mid += 1
            s.inflight.append((s.mid, m))
            c.down.append(("pub", s.mid, m))

    def route(self, topic, p, qos, exp):
        for cid, s in self.sessions.items():
            c, m = self.conns.get(cid), {"topic": topic, "p": p, "exp": exp}
            if not s.filter or not topic.startswith(s.filter):
                continue
            if qos == 0:
                if c and c.open:
                    c.down.append(("pub", 0, m))
            elif len(s.queue) + len(s.stored) >= QUEUE and not (self.world.quiet and cid != "dev"):
                self.world.stat["dropped"] += 1
            else:
                s.queue.append(m)
                self.pump(cid)

    def trickle(self, cid):
        """One stored message follows, where live ones overtake them. Is there one?"""
        s, c = self.sessions.get(cid), self.conns.get(cid)
        if not (s and c and c.open and s.stored):
            return False
        s.queue.append(s.stored.popleft())
        self.pump(cid)
        return True

    def step(self, c: Conn) -> None:
        kind, *a = c.up.popleft()
        if kind == "connect":
            old: Any = self.conns.get(c.cid)
            if old and old is not c:
                old.open = False
                old.up.clear()
            self.conns[c.cid], present = c, c.cid in self.sessions
            s = self.sessions.setdefault(c.cid, Session())
            again, s.inflight = [m for _, m in s.inflight], []
            if self.world.cfg["reorder"]:
                s.queue.extend(again)
            else:
                s.queue.extendleft(reversed(again))
            if self.world.cfg["overtakes"]:
                s.stored.extend(s.queue)
                s.queue.clear()
            c.down.append(("connack", present))
            self.pump(c.cid)
        elif self.conns.get(c.cid) is not c:
            pass
        elif kind == "sub":
            s = self.sessions[c.cid]
            s.filter = a[0]
            if self.retained and self.retained[0].startswith(a[0]):
                s.queue.append({"topic": self.retained[0], "p": self.retained[1], "exp": None})
                self.pump(c.cid)
        elif kind == "pub":
            topic, qos, mid, p, exp = a
            first = self.world.cfg["puback_first"]
            if first and qos:
                c.down.append(("puback", mid))
            if topic.startswith("up/"):
                self.tape.append((topic, copy.deepcopy(p)))
            if topic == "up/wake":
                if self.hold:
                    self.hold = False
                    self.held.append((topic, copy.deepcopy(p)))
                    c.down.append(("puback", mid))
                    return
                self.retained = (topic, p)
            if not (topic == "down/fence" and self.world.cfg["acl"]):
                self.route(topic, p, qos, exp)
            if not first and qos:
                c.down.append(("puback", mid))
        elif kind == "ack":
            s = self.sessions[c.cid]
            s.inflight = [x for x in s.inflight if x[0] != a[0]]
            self.pump(c.cid)
        elif kind == "disconnect":
            c.open = False

    def snapshot(self):
        self.snaps = ([*self.snaps, copy.deepcopy((self.sessions, self.retained))])[-3:]

    def crash(self, back):
        """back = 0: forgets everything; else goes back to a snapshot."""
        for c in self.conns.values():
            c.open = False
            c.up.clear()
            c.down.clear()
        self.conns = {}
        self.sessions, self.retained = copy.deepcopy(self.snaps[-back]) if 0 < back <= len(self.snaps) else ({}, None)

    def lose(self, cid):
        self.sessions.pop(cid, None)
        c = self.conns.pop(cid, None)
        if c:
            c.open = False
            c.up.clear()
            c.down.clear()
