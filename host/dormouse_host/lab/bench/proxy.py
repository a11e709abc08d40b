"""A TCP proxy that delays and records, for counting the round trips and segments of a conversation.

Every chunk is recorded with the times of its arrival and departure; it is sent on `delay` seconds later, in order.
Round trips are counted from causality (what was sent after what was received), because a proxy answers TCP's handshake
itself and hides Nagle's algorithm (docs/design.md, "Measured").
"""

import queue
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

_MSS = 1460  # an Ethernet's; on loopback 12,000 bytes would be one segment
_MOST = 32 << 20  # bytes of one conversation, which are all kept
_DATA_SEGS_IN = 152  # offset of tcpi_data_segs_in in struct tcp_info (linux/tcp.h)


@dataclass
class Chunk:
    """What one recv returned: `came` and `went` are monotonic seconds, `up` is from the client to the server."""

    up: bool
    data: bytes
    came: float
    went: float
    segments: int  # data segments that the client had sent up to here; 0 for a chunk downward


@dataclass
class Conversation:
    """One connection through the proxy."""

    chunks: list[Chunk] = field(default_factory=list)
    opened: float = field(default_factory=time.monotonic)
    size: int = 0  # bytes that came from both sides; what is above _MOST ends it
    closed: float = 0.0  # when the client was seen to have closed it

    @property
    def up(self) -> list[Chunk]:
        """What the client sent."""
        return [chunk for chunk in self.chunks if chunk.up]

    @property
    def down(self) -> list[Chunk]:
        """What the server sent."""
        return [chunk for chunk in self.chunks if not chunk.up]

    def round_trips(self) -> int:
        """TCP's handshake, and the longest chain in which each chunk was sent after the last one had arrived."""
        turn: dict[int, int] = {}
        for chunk in sorted(self.chunks, key=lambda c: c.came):
            earlier = [turn[id(c)] for c in self.chunks if c.up != chunk.up and c.went <= chunk.came and id(c) in turn]
            turn[id(chunk)] = max(earlier, default=0) + (1 if chunk.up else 0)
        return 1 + max((turn[id(chunk)] for chunk in self.down), default=0)

    def seconds(self) -> float:
        """From the client's first byte to the last one that it received."""
        return max(chunk.went for chunk in self.down) - self.chunks[0].came


class Proxy:
    """Listens on 127.0.0.1 and forwards to `server`, each chunk `delay` seconds late. A context manager."""

    def __init__(self, server: tuple[str, int], delay: float = 0) -> None:
        self.conversations: list[Conversation] = []
        self._server = server
        self._delay = delay
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _MSS)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.host, self.port = self._listener.getsockname()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):  # it was closed by its other end
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed: the proxy ends
            server = socket.create_connection(self._server)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += client, server
            conversation = Conversation()
            self.conversations.append(conversation)
            self._start(self._pump, conversation, client, server, True)
            self._start(self._pump, conversation, server, client, False)

    def _pump(self, conversation: Conversation, source: socket.socket, sink: socket.socket, up: bool) -> None:
        late: queue.Queue[Chunk | None] = queue.Queue()
        self._start(self._forward, late, sink)
        while True:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            if not data:
                if up:
                    conversation.closed = time.monotonic()
                late.put(None)
                return
            conversation.size += len(data)
            if conversation.size > _MOST:
                late.put(None)
                return
            came = time.monotonic()
            chunk = Chunk(up, data, came, came + self._delay, _segments_in(source) if up else 0)
            conversation.chunks.append(chunk)
            late.put(chunk)

    def _forward(self, late: "queue.Queue[Chunk | None]", sink: socket.socket) -> None:
        try:
            while chunk := late.get():
                time.sleep(max(0.0, chunk.went - time.monotonic()))
                chunk.went = time.monotonic()  # before it is sent: the answer to it may come at once
                sink.sendall(chunk.data)
            time.sleep(self._delay)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other end is gone; what it did not take stays recorded


def _segments_in(connection: socket.socket) -> int:
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except OSError:  # closed meanwhile: what came last counts all the same
        return 0
    count: int = struct.unpack_from("I", info, _DATA_SEGS_IN)[0]
    return count


def packets(data: bytes) -> list[tuple[int, bytes]]:
    """Complete MQTT packets in `data` as (first byte, rest after the length)."""
    found = []
    at = 0
    while at < len(data):
        first, at = data[at], at + 1
        length = shift = 0
        while True:
            byte, at = data[at], at + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        body = data[at : at + length]
        if len(body) < length:
            raise ValueError("a packet is cut off")
        found.append((first, body))
        at += length
    return found
