"""A man in the middle: between a device and a real broker, packet by packet, with or without TLS.

Must stay true: what a rule does not change arrives as it was; the broker behind is real, so that what it queues,
redelivers and forgets is no test's invention; a broken connection on one side breaks the other.
"""

import select
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol, Self

from support.acceptor import Acceptor
from support.peer import Packet, packet

WAIT = 30.0  # seconds that one send may take


def rst(connection: socket.socket) -> None:
    """End with a reset."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def fin(connection: socket.socket) -> None:
    """End in good order: what has come unread would make a reset of a mere close."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(1)
        while connection.recv(65536):
            pass


class Link:
    """One connection of the device through the meddler; `n` counts from 0."""

    def __init__(self, n: int, device: socket.socket, broker: socket.socket) -> None:
        self.n = n
        self.device = device
        self.broker = broker
        self.up: list[Packet] = []  # what the device has said so far
        self.down: list[Packet] = []
        self.over = False

    def tell(self, *data: bytes) -> None:
        """Say something to the device that the broker never said."""
        self.device.sendall(b"".join(data))

    def cut(self) -> None:
        """End both sides in good order, after what has been said."""
        self.over = True

    @property
    def topic(self) -> str:
        """`<root>/<id>/`, from the device's subscription."""
        found = next(each for each in self.up if each.kind == 8)
        return found.body[4:-1].decode().removesuffix("down/#")


# a rule gets each packet and its bytes, and returns what is sent on in its place
Rule = Callable[[Link, Packet, bytes], bytes]


def as_it_is(_link: Link, _packet: Packet, data: bytes) -> bytes:
    """The rule of a good network."""
    return data


class Meddler:
    """Listens on 127.0.0.1 and forwards to `broker`, by rules. A context manager; `links` are the connections."""

    def __init__(self, broker: int, up: Rule = as_it_is, down: Rule = as_it_is, tls: ssl.SSLContext | None = None):
        self._broker = broker
        self._rules = up, down
        self._tls = tls
        self.links: list[Link] = []
        self._acceptor = Acceptor(self._serve)
        self.port = self._acceptor.port
        self.errors: list[BaseException] = []

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._acceptor.stop()
        for link in self.links:
            link.over = True
        self._acceptor.end()

    def _serve(self, device: socket.socket) -> None:
        device.settimeout(WAIT)
        try:
            if self._tls:
                device = self._tls.wrap_socket(device, server_side=True)
            broker = socket.create_connection(("127.0.0.1", self._broker), WAIT)
        except OSError:
            device.close()
            return
        link = Link(len(self.links), device, broker)
        self.links.append(link)
        try:
            self._forward(link)
        except OSError:
            pass  # one side is gone
        except BaseException as error:
            self.errors.append(error)
        finally:
            fin(device)  # a mere close may be a reset, which takes with it what the device has not read yet
            device.close()
            broker.close()

    def _forward(self, link: Link) -> None:
        rest = {link.device: b"", link.broker: b""}
        while not link.over:
            waiting = isinstance(link.device, ssl.SSLSocket) and link.device.pending() > 0
            ready = select.select(list(rest), [], [], 0 if waiting else 0.05)[0]
            for source in [link.device] if waiting else ready:
                data = source.recv(65536)
                if not data:
                    return
                whole, rest[source] = split(rest[source] + data)
                up = source is link.device
                for found, raw in whole:
                    (link.up if up else link.down).append(found)
                    said = self._rules[0 if up else 1](link, found, raw)
                    (link.broker if up else link.device).sendall(said)


def split(data: bytes) -> tuple[list[tuple[Packet, bytes]], bytes]:
    """The whole packets at the start of `data`, each with its bytes, and what is left."""
    found = []
    at = 0
    while (end := _end(data, at)) and end[1] <= len(data):
        found.append((Packet(data[at], data[end[0] : end[1]]), data[at : end[1]]))
        at = end[1]
    return found, data[at:]


def _end(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the body of the packet at `at` begins and ends; None where even its length is not there yet."""
    size = shift = 0
    for i in range(at + 1, min(at + 5, len(data))):
        size |= (data[i] & 127) << shift
        shift += 7
        if data[i] < 128:
            return i + 1, i + 1 + size
    return None


class Pipe:
    """As the meddler, but of bytes, so that TLS goes through it untouched: `limit(connection, up, n)` is told how many
    bytes have gone one way over which connection, and returns how many more may go now, or raises Cut.
    """

    def __init__(self, broker: int, limit: Callable[[int, bool, int], int]) -> None:
        self._broker = broker
        self._limit = limit
        self._acceptor = Acceptor(self._serve)
        self.port = self._acceptor.port
        self._over = False
        self.connections = 0

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._acceptor.end()

    def _serve(self, device: socket.socket) -> None:
        n = self.connections
        self.connections += 1
        try:
            broker = socket.create_connection(("127.0.0.1", self._broker), WAIT)
        except OSError:
            device.close()
            return
        broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._pump(device, broker, n)
        except Cut as cut:
            if cut.reset:
                rst(device)
            else:
                fin(device)
        except OSError:
            pass  # one side is gone
        finally:
            device.close()
            broker.close()

    def _pump(self, device: socket.socket, broker: socket.socket, connection: int) -> None:
        late = {True: b"", False: b""}
        gone = {True: 0, False: 0}
        while not self._over:
            ready = select.select([device, broker], [], [], 0.01)[0]
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                late[source is device] += data
            for up, sink in ((True, broker), (False, device)):
                while late[up] and (n := self._limit(connection, up, gone[up])):
                    sink.sendall(late[up][:n])
                    gone[up] += len(late[up][:n])
                    late[up] = late[up][n:]


class Aim(Protocol):
    """Where a connection is cut: before byte `at` of what goes up, or down; by RST, or by FIN."""

    @property
    def up(self) -> bool: ...
    @property
    def reset(self) -> bool: ...
    @property
    def at(self) -> int: ...


class CutPipe(Pipe):
    """Cuts the connection that follows upon `aim`. `gone`: bytes of the newest connection, up and down."""

    def __init__(self, broker: int) -> None:
        super().__init__(broker, self._until)
        self._aim: Aim | None = None
        self._first = 0
        self.hit = False  # was it cut?
        self.gone = {True: 0, False: 0}

    def aim(self, point: Aim | None) -> None:
        """Cut the next connection there; None: cut nothing any more."""
        self._aim = point
        if point:
            self._first, self.hit = self.connections, False

    def _until(self, connection: int, up: bool, gone: int) -> int:
        self.gone[up] = gone
        aim = self._aim
        if not aim or connection != self._first or aim.up != up:
            return 1 << 20
        if gone >= aim.at:
            self.hit = True
            raise Cut(aim.reset)
        return aim.at - gone


class Cut(Exception):
    """The connection ends here, by FIN or by RST."""

    def __init__(self, reset: bool) -> None:
        super().__init__(reset)
        self.reset = reset


def flood(first: bytes, piece: bytes, size: int) -> Iterator[bytes]:
    """One PUBLISH of `size` bytes of payload, in pieces that fit into memory; `first` is its topic and packet id."""
    yield packet(0x32, first, len(first) + size)
    while size > 0:
        yield piece[:size]
        size -= len(piece)
