"""A whole broker of a few lines that differs from mosquitto in one way or another, as brokers that people rent do.

Must stay true: it is a broker of its own, of no library, and does what `Ways` says and nothing else; it speaks MQTT
3.1.1, and MQTT 5 where that is said; it listens as soon as it is entered, and nothing of it is left when it is left.
"""

import asyncio
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Self

_QOS1 = 1


@dataclass(frozen=True)
class Ways:
    """How it behaves; the defaults are those of a broker without limits."""

    retain: str = "kept"  # "refused": closes at such a publish; "exact": not for a wildcard
    qos: int = 1  # the highest; above it, it closes
    live_first: bool = False  # live messages overtake stored ones
    pace: float = 0.0  # seconds between two stored messages …
    first: float = 0.0  # … and after SUBSCRIBE until the first
    inflight: int = 1000  # unacknowledged messages of a client
    queue: int = 100_000  # messages that wait for a client; above it …
    full: str = "newest"  # … that one goes, or the "oldest", or the "session"
    forgets: float | None = None  # seconds after which the session of a sleeper is gone
    withholds: float = 0.0  # seconds after which it sends again what was not acknowledged
    mqtt5: bool = False
    slashes: int = 100  # of a topic; above it, it closes
    allowed: Callable[[str], bool] = lambda topic: True  # a topic for a publish; else it closes


class Message(NamedTuple):
    topic: str
    payload: bytes
    retain: bool = False


@dataclass
class _Session:
    filters: dict[str, int] = field(default_factory=dict)
    stored: deque[Message] = field(default_factory=deque)
    live: deque[Message] = field(default_factory=deque)
    unacked: dict[int, Message] = field(default_factory=dict)
    pid: int = 0
    client: "_Client | None" = None
    left: float = 0.0
    again: bool = False  # does the client take up what waits?
    clean: bool = False  # it ends with the connection


class _Closed(Exception):
    """The client is gone, or is closed for what it did."""


def matches(wanted: str, topic: str) -> bool:
    """Is `topic` one of the filter's? (MQTT 3.1.1, section 4.7)"""
    levels, found = wanted.split("/"), topic.split("/")
    for at, level in enumerate(levels):
        if level == "#":
            return True
        if at >= len(found) or level not in ("+", found[at]):
            return False
    return len(levels) == len(found)


def _length(size: int) -> bytes:
    out = bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out)


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends) of an MQTT variable byte integer."""
    value = shift = 0
    while True:
        value |= (body[at] & 127) << shift
        shift += 7
        at += 1
        if not body[at - 1] & 128:
            return value, at


def _text(body: bytes, at: int) -> tuple[bytes, int]:
    size = struct.unpack_from(">H", body, at)[0]
    return body[at + 2 : at + 2 + size], at + 2 + size


class _Client:
    """One connection."""

    def __init__(self, cloud: "Cloud", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.cloud, self.reader, self.writer = cloud, reader, writer
        self.ways = cloud.ways
        self.v5 = False
        self.id = ""
        self.session = _Session()

    async def packet(self) -> tuple[int, bytes]:
        first = (await self.reader.readexactly(1))[0]
        size = shift = 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            size |= (byte & 127) << shift
            if byte < 128:
                return first, await self.reader.readexactly(size)
            shift += 7

    def send(self, first: int, body: bytes) -> None:
        self.writer.write(bytes((first,)) + _length(len(body)) + body)

    async def serve(self) -> None:
        try:
            await self.connect(*await self.packet())
            while True:
                first, body = await self.packet()
                match first >> 4:
                    case 3:
                        self.publish(first, body)
                    case 4:
                        self.session.unacked.pop(struct.unpack_from(">H", body)[0], None)
                        self.cloud.deliver(self.session)
                    case 8:
                        self.subscribe(body)
                    case 12:
                        self.send(0xD0, b"")
                    case 14:
                        return
        except (_Closed, ConnectionError, asyncio.IncompleteReadError, struct.error, IndexError):
            pass
        finally:
            if self.session.client is self:
                self.cloud.leave(self.session)
            self.writer.close()

    async def connect(self, first: int, body: bytes) -> None:
        _, at = _text(body, 0)
        level, flags = body[at], body[at + 1]
        self.v5 = level == 5
        if first != 0x10 or (self.v5 and not self.ways.mqtt5):
            self.send(0x20, b"\0\1")
            await self.writer.drain()
            raise _Closed
        at += 4
        if self.v5:
            size, at = _varint(body, at)
            at += size
        name, _ = _text(body, at)
        self.id = name.decode() or f"anonymous-{id(self)}"
        present = self.cloud.join(self, clean=bool(flags & 2))
        properties = b""
        if self.v5:
            if self.ways.forgets is not None and not flags & 2:
                properties += b"\x11" + struct.pack(">I", max(1, round(self.ways.forgets)))
            if self.ways.retain == "refused":
                properties += b"\x25\0"
            properties += b"\x24" + bytes((self.ways.qos,)) if self.ways.qos < 2 else b""
            properties = _length(len(properties)) + properties
        self.send(0x20, bytes((present, 0)) + properties)

    def subscribe(self, body: bytes) -> None:
        pid, at = body[:2], 2
        if self.v5:
            size, at = _varint(body, at)
            at += size
        granted = bytearray()
        while at < len(body):
            name, at = _text(body, at)
            qos = min(body[at] & 3, self.ways.qos)
            at += 1
            wanted = name.decode()
            if wanted.count("/") > self.ways.slashes:
                raise _Closed
            self.session.filters[wanted] = qos
            granted.append(qos)
            for topic, payload in self.cloud.retained.items():
                if wanted == topic if self.ways.retain == "exact" else matches(wanted, topic):
                    self.session.live.append(Message(topic, payload, True))
        self.send(0x90, pid + (b"\0" if self.v5 else b"") + bytes(granted))
        self.cloud.take_up(self.session)

    def publish(self, first: int, body: bytes) -> None:
        name, at = _text(body, 0)
        topic, qos, retain = name.decode(), first >> 1 & 3, bool(first & 1)
        pid = b""
        if qos:
            pid, at = body[at : at + 2], at + 2
        if self.v5:
            size, at = _varint(body, at)
            at += size
        self.cloud.published.append((self.id, topic, qos, retain))
        ways = self.ways
        refused = retain and ways.retain == "refused"
        if qos > ways.qos or refused or topic.count("/") > ways.slashes or not ways.allowed(topic):
            raise _Closed
        if retain and ways.retain in ("kept", "exact"):
            self.cloud.retained[topic] = body[at:]
            if not body[at:]:
                del self.cloud.retained[topic]
        self.cloud.route(Message(topic, body[at:]))
        if qos:
            self.send(0x40, pid)

    def deliver(self, message: Message, qos: int) -> None:
        session = self.session
        name = message.topic.encode()
        body = struct.pack(">H", len(name)) + name
        if qos:
            session.pid = session.pid % 65535 + 1
            session.unacked[session.pid] = message
            body += struct.pack(">H", session.pid)
        body += (b"\0" if self.v5 else b"") + message.payload
        self.send(0x30 | qos << 1 | message.retain, body)


class Cloud:
    """The broker, on 127.0.0.1. A context manager. `published`: (client id, topic, QoS, retained) of each publish."""

    def __init__(self, ways: Ways = Ways(), tls: ssl.SSLContext | None = None) -> None:
        self.ways = ways
        self.port = 0
        self.sessions: dict[str, _Session] = {}
        self.retained: dict[str, bytes] = {}
        self.published: list[tuple[str, str, int, bool]] = []
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._up = threading.Event()
        self._paces: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"mqtt{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10), "it does not listen"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls))
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Client(self, reader, writer).serve()

    # ---- sessions

    def join(self, client: _Client, *, clean: bool) -> bool:
        """The client is in. Was there a session?"""
        found = self.sessions.get(client.id)
        if found and found.client:
            found.client.writer.close()
            self.leave(found)
        forgotten = found and self.ways.forgets is not None and self._loop.time() - found.left > self.ways.forgets
        present = not (clean or not found or forgotten)
        if not present or not found:
            found = _Session()
        self.sessions[client.id] = client.session = found
        found.client, found.again, found.clean = client, False, clean
        if found.filters and not self.ways.live_first:
            self.take_up(found)
        return present

    def leave(self, session: _Session) -> None:
        """Its client is gone; what it has not acknowledged goes first the next time."""
        session.client, session.left = None, self._loop.time()
        session.stored.extendleft(reversed(session.live))
        if self.ways.withholds and session.unacked:
            self._loop.call_later(self.ways.withholds, self._again, session, list(session.unacked.values()))
        else:
            session.stored.extendleft(reversed(session.unacked.values()))
        session.unacked.clear()
        session.live.clear()

    def _again(self, session: _Session, messages: list[Message]) -> None:
        session.stored.extendleft(reversed(messages))
        if session.again and session.client:
            session.live.extend(session.stored)
            session.stored.clear()
            self.deliver(session)

    # ---- messages

    def route(self, message: Message) -> None:
        for name, session in list(self.sessions.items()):
            qos = max((qos for wanted, qos in session.filters.items() if matches(wanted, message.topic)), default=None)
            if qos is None:
                continue
            if session.client is None and session.clean:
                continue
            waits = session.client is None or (not self.ways.live_first and session.stored)
            (session.stored if waits else session.live).append(message)
            if len(session.stored) > self.ways.queue:
                self._overflow(name, session)
            self.deliver(session)

    def _overflow(self, name: str, session: _Session) -> None:
        if self.ways.full == "session":
            del self.sessions[name]
        elif self.ways.full == "oldest":
            session.stored.popleft()
        else:
            session.stored.pop()

    def take_up(self, session: _Session) -> None:
        """The client takes what waits for it, from now on."""
        if session.again:
            return self.deliver(session)
        session.again = True
        task = self._loop.create_task(self._pace(session, session.client))
        self._paces.add(task)
        task.add_done_callback(self._paces.discard)

    async def _pace(self, session: _Session, client: _Client | None) -> None:
        if self.ways.first:
            await asyncio.sleep(self.ways.first)
        while session.stored and session.client is client:
            session.live.append(session.stored.popleft())
            self.deliver(session)
            if self.ways.pace:
                await asyncio.sleep(self.ways.pace)
        self.deliver(session)

    def deliver(self, session: _Session) -> None:
        for message in self._ready(session):
            qos = max((q for wanted, q in session.filters.items() if matches(wanted, message.topic)), default=_QOS1)
            assert session.client
            session.client.deliver(message, qos)

    def _ready(self, session: _Session) -> Iterator[Message]:
        while session.client and session.live and len(session.unacked) < self.ways.inflight:
            yield session.live.popleft()
