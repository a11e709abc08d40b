"""A broker: what it acknowledged it may still drop, forget, or know as it was an hour ago.

Modelled: persistent sessions, take-over, one queue per session with a limit (silent after PUBACK), a window of messages
in flight, redelivery in order or behind the rest, PUBACK before or after routing, retained reports, message expiry,
QoS 0, restarts, crashes that forget everything or go back to a snapshot, sessions lost one by one.
"""

import copy
from collections import deque
from typing import Any, NamedTuple, Protocol

from proofs.years.hub import Hub


class Message(NamedTuple):
    """One message on its way."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    expires: float  # of the hub's time


class Peer(Protocol):
    """A client's connection as the broker holds it."""

    cid: str

    def connack(self, present: bool) -> None:
        """Accepted."""

    def deliver(self, mid: int, message: Message, dup: bool) -> None:
        """Send it a message."""

    def end(self, taken_over: bool) -> None:
        """The broker ends the connection."""


class Session:
    """What the broker keeps of a client."""

    def __init__(self) -> None:
        self.prefix = self.suffix = ""
        self.subscribed = False
        self.queue: deque[Message] = deque()
        self.flying: dict[int, Message] = {}
        self.mid = 0

    def matches(self, topic: str) -> bool:
        """Is this topic subscribed to?"""
        return self.subscribed and topic.startswith(self.prefix) and self.suffix in topic


class Broker:
    """`traits`: how this one differs from others (plan.py)."""

    def __init__(self, hub: Hub, traits: dict[str, Any]) -> None:
        self.hub, self.traits = hub, traits
        self.sessions: dict[str, Session] = {}
        self.peers: dict[str, Peer] = {}
        self.retained: dict[str, Message] = {}
        self.snapshots: list[tuple[dict[str, Session], dict[str, Message]]] = []
        self.up = True
        self.dropped = 0

    # ---- clients

    def connect(self, peer: Peer) -> None:
        """CONNECT with clean_session=0."""
        old = self.peers.get(peer.cid)
        if old is not None and old is not peer:
            del self.peers[peer.cid]
            old.end(True)
        present = peer.cid in self.sessions
        session = self.sessions.setdefault(peer.cid, Session())
        again = list(session.flying.values())
        session.flying.clear()
        if self.traits["reorder"]:
            session.queue.extend(again)
        else:
            session.queue.extendleft(reversed(again))
        self.peers[peer.cid] = peer
        peer.connack(present)
        self._pump(peer.cid)

    def subscribe(self, peer: Peer, topics: str) -> None:
        """One subscription, `prefix#` or `root/+/up/#`."""
        if self.peers.get(peer.cid) is not peer:
            return
        session = self.sessions[peer.cid]
        session.prefix, _, rest = topics.partition("+")
        session.suffix = rest.removesuffix("#")
        session.prefix = session.prefix.removesuffix("#")
        session.subscribed = True
        for message in self.retained.values():
            if session.matches(message.topic):
                session.queue.append(message)
        self._pump(peer.cid)

    def publish(self, peer: Peer, message: Message) -> None:
        """Take a message; whether and when the PUBACK goes is the caller's."""
        if self.peers.get(peer.cid) is not peer:
            return
        if message.retain:
            self.retained[message.topic] = message
            message = message._replace(retain=False)
        for cid, session in self.sessions.items():
            if session.matches(message.topic):
                self._route(cid, session, message)

    def put(self, topic: str, payload: bytes) -> bool:
        """Somebody else's message, at QoS 1. False where no session has taken it."""
        before = self.dropped
        matching = [(cid, session) for cid, session in self.sessions.items() if session.matches(topic)]
        for cid, session in matching:
            self._route(cid, session, Message(topic, payload, 1, False, float("inf")))
        return self.up and bool(matching) and self.dropped == before

    def _route(self, cid: str, session: Session, message: Message) -> None:
        if message.qos == 0:
            if cid in self.peers:
                self.peers[cid].deliver(0, message, False)
        elif len(session.queue) >= self.traits["queue"]:
            self.dropped += 1
        else:
            session.queue.append(message)
            self._pump(cid)

    def puback(self, peer: Peer, mid: int) -> None:
        """A client has taken a message."""
        if self.peers.get(peer.cid) is peer:
            self.sessions[peer.cid].flying.pop(mid, None)
            self._pump(peer.cid)

    def gone(self, peer: Peer) -> None:
        """A connection is over."""
        if self.peers.get(peer.cid) is peer:
            del self.peers[peer.cid]

    def _pump(self, cid: str) -> None:
        session, peer = self.sessions[cid], self.peers.get(cid)
        window = 65535 if cid.startswith("dormouse-relay") else self.traits["window"]
        while peer and session.queue and len(session.flying) < window:
            message = session.queue.popleft()
            if message.expires <= self.hub.now:
                continue
            session.mid = session.mid % 65535 + 1
            session.flying[session.mid] = message
            peer.deliver(session.mid, message, False)

    # ---- faults

    def snapshot(self) -> None:
        """What is on its disk from now on."""
        self.snapshots = [*self.snapshots, copy.deepcopy((self.sessions, self.retained))][-3:]

    def restart(self, back: int | None) -> None:
        """Everybody is thrown off. `back`: None: nothing is lost, 0: everything, else it knows that snapshot."""
        peers, self.peers = list(self.peers.values()), {}
        for peer in peers:
            peer.end(False)
        if back is not None:
            there = 0 < back <= len(self.snapshots)
            self.sessions, self.retained = copy.deepcopy(self.snapshots[-back]) if there else ({}, {})

    def lose(self, cid: str) -> None:
        """One client's session is gone."""
        peer = self.peers.pop(cid, None)
        self.sessions.pop(cid, None)
        if peer:
            peer.end(False)
