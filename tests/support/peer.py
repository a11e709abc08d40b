"""A broker of a few lines that does exactly what a test tells it, right or wrong, at exactly that moment.

Must stay true: it reads MQTT byte by byte and shares no code with the device; every wait has an end; what goes wrong
in a script (a thread of its own for each connection) fails the test that wrote it.
"""

import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

from support.acceptor import Acceptor

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 11, 12, 13, 14
WAIT = 30.0  # seconds; the longest wait for a packet
QUIET = 0.25  # seconds without a byte after which a flight counts as over
_MSS = 1460  # an Ethernet's; on loopback 12,000 bytes would be one segment
_DATA_SEGS_IN = 152  # offset of tcpi_data_segs_in in struct tcp_info (linux/tcp.h)


class Gone(AssertionError):
    """The device has closed the connection while the script was waiting for it."""


class Left(Exception):
    """The device has closed the connection while the script was sending: the test judges why."""


class Packet(NamedTuple):
    """One MQTT packet as the device sent it."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        return self.first >> 4

    @property
    def qos(self) -> int:
        return self.first >> 1 & 3

    @property
    def retain(self) -> bool:
        return bool(self.first & 1)

    @property
    def topic(self) -> str:
        """Of a PUBLISH."""
        return self.body[2 : 2 + self._length()].decode()

    def _length(self) -> int:
        return self.body[0] << 8 | self.body[1]

    @property
    def pid(self) -> int:
        """The packet id of anything that has one."""
        at = 2 + self._length() if self.kind == PUBLISH else 0
        return self.body[at] << 8 | self.body[at + 1]

    @property
    def payload(self) -> bytes:
        """Of a PUBLISH."""
        return self.body[2 + self._length() + (2 if self.qos else 0) :]


def packet(first: int, body: bytes, size: int | None = None) -> bytes:
    """A packet's bytes; `size` is the length it claims, if that is another than its own."""
    left = len(body) if size is None else size
    head = bytearray((first,))
    while left > 127:
        head.append(left & 127 | 128)
        left >>= 7
    head.append(left)
    return bytes(head) + body


def connack(code: int = 0, present: bool = False) -> bytes:
    return packet(0x20, bytes((present, code)))


def puback(pid: int) -> bytes:
    return packet(0x40, struct.pack(">H", pid))


def suback(pid: int, granted: int = 1) -> bytes:
    return packet(0x90, struct.pack(">HB", pid, granted))


def publish(topic: str, payload: bytes, pid: int = 0, qos: int = 1, retain: bool = False, size: int = 0) -> bytes:
    """A PUBLISH; `size` claims a longer payload than the one given."""
    name = topic.encode()
    body = struct.pack(">H", len(name)) + name + (struct.pack(">H", pid) if qos else b"")
    return packet(0x30 | qos << 1 | retain, body + payload, len(body) + max(size, len(payload)))


class Connection:
    """One connection of the device, seen from the broker's side. `received` holds every packet so far, in order."""

    def __init__(self, peer: socket.socket) -> None:
        self.socket = peer
        self.received: list[Packet] = []
        self.chunks: list[bytes] = []  # what each recv returned
        self._rest = b""
        self._pid = 100

    # ---- what the device says

    def _more(self, seconds: float) -> bool:
        """Take in what comes within `seconds`. False where nothing does; Gone at the end of the stream."""
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        except (ConnectionError, ssl.SSLError):
            raise Gone from None
        if not data:
            raise Gone
        self.chunks.append(data)
        self._rest += data
        return True

    def _whole(self) -> Packet | None:
        """The next packet that has come as a whole."""
        size = shift = 0
        at = 1
        while True:
            if at >= len(self._rest):
                return None
            size |= (self._rest[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not self._rest[at - 1] & 0x80:
                break
        if len(self._rest) < at + size:
            return None
        found = Packet(self._rest[0], self._rest[at : at + size])
        self._rest = self._rest[at + size :]
        self.received.append(found)
        return found

    def next(self, seconds: float = WAIT) -> Packet:
        """The next packet. Gone where the device has closed; AssertionError where nothing comes in time."""
        found = self._next_within(seconds)
        assert found, f"the device sent nothing for {seconds} s"
        return found

    def _next_within(self, seconds: float) -> Packet | None:
        deadline = time.monotonic() + seconds
        while True:
            if found := self._whole():
                return found
            left = deadline - time.monotonic()
            if left <= 0 or not self._more(left):
                assert not self._rest, f"half a packet: {self._rest.hex()}"
                return None

    def flight(self) -> list[Packet]:
        """What the device sends until its fence, or until it is quiet where it sends none."""
        found = [self.next()]
        while not is_fence(found[-1]):
            after = self._next_within(QUIET)
            if after is None:
                break
            found.append(after)
        return found

    def until(self, wanted: Callable[[Packet], bool], seconds: float = WAIT) -> Packet:
        """Read on to a packet that is `wanted`."""
        deadline = time.monotonic() + seconds
        while not wanted(found := self.next(max(0.01, deadline - time.monotonic()))):
            pass
        return found

    def silent(self, seconds: float) -> None:
        """For so long the device waits and says nothing."""
        found = self._next_within(seconds)
        assert found is None, f"the device did not wait: {found}"

    def listen(self) -> None:
        """Take what comes, and never say a word, until the device is gone."""
        with suppress(Gone):
            while self._next_within(WAIT):
                pass

    @property
    def segments(self) -> int:
        """TCP segments with data that have come so far."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        count: int = struct.unpack_from("I", info, _DATA_SEGS_IN)[0]
        return count

    def of(self, kind: int) -> list[Packet]:
        """The packets of one kind so far."""
        return [each for each in self.received if each.kind == kind]

    def told(self, leaf: str) -> list[Any]:
        """The payloads that came on a topic ending in `leaf`, as values."""
        return [json.loads(each.payload) for each in self.of(PUBLISH) if each.topic.endswith(leaf)]

    def results(self) -> list[dict[str, Any]]:
        """The results so far, in order."""
        return [entry for batch in self.told("/up/result") for entry in batch]

    @property
    def state(self) -> str:
        """The state's name, out of the wake report."""
        name: str = self.told("/up/wake")[0]["state"]
        return name

    def topic(self, leaf: str) -> str:
        """A topic of this device."""
        name: str = self.of(SUBSCRIBE)[0].body[4:-1].decode().removesuffix("/down/#")
        return f"{name}/{leaf}"

    # ---- what the broker says

    def send(self, *packets: bytes) -> None:
        """All in one write."""
        try:
            self.socket.settimeout(WAIT)
            self.socket.sendall(b"".join(packets))
        except (ConnectionError, ssl.SSLError):
            raise Left from None

    def welcome(self, flight: Sequence[Packet], present: bool = False) -> None:
        """CONNACK, SUBACK and the PUBACKs for what is in `flight`, in one write."""
        self.send(connack(0, present), *answers(flight))

    def command(self, payload: bytes, leaf: str = "down/cmd", qos: int = 1, retain: bool = False) -> int:
        """Deliver one message. Returns its packet id."""
        self._pid += 1
        self.send(publish(self.topic(leaf), payload, self._pid, qos, retain))
        return self._pid

    def return_fence(self, fence: Packet) -> None:
        """The copy of a fence: the queue's end."""
        self.command(fence.payload, "down/fence")

    def serve(self) -> None:
        """Acknowledge and give fences back until the device disconnects or closes."""
        with suppress(Gone):
            self._serve()

    def _serve(self) -> None:
        while True:
            each = self.next()
            if each.kind == DISCONNECT:
                return
            if is_fence(each):
                self.return_fence(each)
            if each.kind == PINGREQ:
                self.send(b"\xd0\x00")
            self.send(*answers([each]))

    def close(self) -> None:
        """End the stream in good order."""
        self.socket.close()

    def reset(self) -> None:
        """RST, as after a refused one-flight CONNECT."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def is_fence(each: Packet) -> bool:
    return each.kind == PUBLISH and each.topic.endswith("/down/fence")


def answers(flight: Sequence[Packet]) -> list[bytes]:
    """SUBACK and PUBACKs for what is in `flight`."""
    found = []
    for each in flight:
        if each.kind == SUBSCRIBE:
            found.append(suback(each.pid))
        elif each.kind == PUBLISH and each.qos:
            found.append(puback(each.pid))
    return found


def honest(*payloads: bytes | Callable[[str], bytes], present: bool = False) -> Callable[[Connection], None]:
    """A script: a broker that does all right, with these messages queued (a function gets the state's name)."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight, present)
        for payload in payloads:
            connection.command(payload if isinstance(payload, bytes) else payload(connection.state))
        if is_fence(flight[-1]):
            connection.return_fence(flight[-1])
        connection.serve()

    return script


Script = Callable[[Connection], None]


class Peer:
    """Listens on 127.0.0.1; the n-th connection gets the n-th script, all further ones the last. A context manager.

    Leaving it closes everything and raises what went wrong in a script, unless the test has failed already. With `tls`
    a connection counts once its handshake is through.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self.scripts = list(scripts)
        self._tls = tls
        self.connections: list[Connection] = []
        self._errors: list[BaseException] = []
        self._acceptor = Acceptor(self._begin)
        self._acceptor.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _MSS)
        self.port = self._acceptor.port
        self.url = f"mqtt://127.0.0.1:{self.port}"

    @property
    def last(self) -> Connection:
        assert self.connections, "the device never connected"
        return self.connections[-1]

    def take_little(self, size: int) -> None:
        """Let the connections' sockets hold no more than about `size` bytes unread."""
        self._acceptor.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def results(self) -> list[dict[str, Any]]:
        """Every result that came over any connection."""
        return [result for connection in self.connections for result in connection.results()]

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._acceptor.end()
        for connection in self.connections:
            connection.socket.close()
        if self._errors and kind is None:
            raise self._errors[0]

    def settled(self) -> Self:
        """Wait until whoever has connected is accepted and every script has ended; raise what went wrong in one."""
        for thread in self._acceptor.taken():
            thread.join(WAIT)
        if self._errors:
            raise self._errors[0]
        return self

    def _begin(self, accepted: socket.socket) -> None:
        if self._tls:
            try:
                accepted.settimeout(WAIT)
                accepted = self._tls.wrap_socket(accepted, server_side=True)
            except OSError:  # the device does not trust us, or is gone
                accepted.close()
                return
        connection = Connection(accepted)
        script = self.scripts[min(len(self.connections), len(self.scripts) - 1)]
        self.connections.append(connection)
        self._play(script, connection)

    def _play(self, script: Script, connection: Connection) -> None:
        try:
            script(connection)
        except Left:
            pass
        except BaseException as error:
            self._errors.append(error)
        finally:
            if script is not stays_open:
                connection.socket.close()


def stays_open(connection: Connection) -> None:
    """A script: accepts, and never says a word."""


def keeps_listening(connection: Connection) -> None:
    """A script: takes what comes, and never says a word."""
    connection.listen()
