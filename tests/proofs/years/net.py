"""TCP between a device and the broker: latency, loss as lateness, resets, refusals, and silence on a half-open line.

Must stay true: bytes of one direction arrive in order and once or not at all; a device reads nothing that has not
arrived yet. The class `Net` is what the device takes for `socket` and `select`.
"""

import errno
import random
from typing import TYPE_CHECKING

from proofs.years import mqtt
from proofs.years.broker import Message

if TYPE_CHECKING:
    from proofs.years.board import Board

POLLIN, POLLOUT, POLLERR, POLLHUP = 1, 4, 8, 16
JOIN = 0.3  # seconds that Wi-Fi takes


class Net:
    """A device's modules `socket` and `select`."""

    AF_INET, SOCK_STREAM = 2, 1
    POLLIN, POLLOUT, POLLERR, POLLHUP = POLLIN, POLLOUT, POLLERR, POLLHUP

    def __init__(self, board: "Board") -> None:
        self._board = board

    def getaddrinfo(self, host: str, port: int, *_: int) -> list[tuple]:
        """One address."""
        return [(2, 1, 6, "", (host, port))]

    def socket(self, *_: int) -> "Line":
        """A new connection."""
        return Line(self._board)

    def poll(self) -> "Poll":
        """A poll object."""
        return Poll()


class Poll:
    """select.poll of one stream."""

    def register(self, stream: "Line", events: int) -> None:
        """Watch it."""
        self._stream, self._events = stream, events

    modify = register

    def poll(self, ms: int = -1) -> list[tuple["Line", int]]:
        """Wait for an event, so long at most."""
        board, stream = self._stream.board, self._stream
        board.catch_up()
        until = board.hub.now + ms / 1000
        while not (found := stream.state(self._events)):
            if board.hub.now >= until:
                return []
            board.idle(until)
        return [(stream, found)]


class Line:
    """The device's socket, and the broker's end of it (`Peer`). `fault`: (kind, bytes after which it strikes)."""

    def __init__(self, board: "Board") -> None:
        self.board, self.hub, self.broker = board, board.hub, board.broker
        self.rng: random.Random = board.rng
        self.cid = ""
        self.arrived = bytearray()  # at the device
        self.taken = bytearray()  # at the broker
        self.established = self.ended = self.closed = False
        self.error = 0  # errno, once the device can see it
        self.silent = False  # nothing passes any more
        self.latency = board.latency * self.rng.uniform(0.8, 1.3) / 2
        self._last = {True: 0.0, False: 0.0}  # arrival of the last byte up and down
        self.fault, board.fault = board.fault, None
        self.open_at_broker = False
        board.lines.append(self)

    # ---- the device's end

    def setblocking(self, _on: bool) -> None:
        """It never blocks."""

    def setsockopt(self, *_: int) -> None:
        """Nagle's algorithm is not modelled."""

    def connect(self, _address: object) -> None:
        """Begin to connect."""
        kind = self.fault[0] if self.fault else ""
        when = self.hub.now + self.board.lag + 2 * self.latency
        if kind == "refused" or not self.broker.up:
            self.hub.at(when, self._fail, errno.ECONNREFUSED)
        elif kind == "silent":
            self.silent = True
        else:
            self.hub.at(when, self._establish)
        raise OSError(errno.EINPROGRESS, "in progress")

    def _establish(self) -> None:
        self.established = True
        self.open_at_broker = True
        self.board.heard()

    def _fail(self, number: int) -> None:
        if not self.closed:
            self.error = number
            self.board.heard()

    def trips(self, seconds: float) -> float:
        """How many round trips at most are so many seconds, but for those that it takes to join."""
        return (seconds - JOIN) / (2 * self.latency)

    def state(self, events: int) -> int:
        """Which of these events are there?"""
        if self.error:
            return POLLERR | events
        found = POLLOUT if events & POLLOUT and self.established else 0
        return found | (POLLIN if events & POLLIN and (self.arrived or self.ended) else 0)

    def recv(self, size: int) -> bytes:
        """Of a connection that failed."""
        if self.error:
            raise OSError(self.error, "failed")
        return b""

    def readinto(self, buffer: bytearray) -> int | None:
        """What has arrived, None where that is nothing, 0 at the end."""
        if self.arrived:
            n = min(len(buffer), len(self.arrived))
            buffer[:n] = self.arrived[:n]
            del self.arrived[:n]
            return n
        if self.error:
            raise OSError(self.error, "reset")
        return 0 if self.ended else None

    def write(self, data: memoryview) -> int:
        """Send; what a dead line swallows nobody tells."""
        self.board.operation("send", 0)
        if self.error or self.ended:
            raise OSError(self.error or errno.EPIPE, "reset")
        sent = bytes(data)
        self._pass(True, sent)
        self.board.operation("sent", 0)
        return len(sent)

    def close(self) -> None:
        """The device is through with it; what it sent still arrives."""
        if not self.closed:
            self.closed = True
            self._schedule(True, self._broker_sees_end)

    def vanish(self) -> None:
        """The device lost its power: no FIN, and the broker learns it late."""
        self.closed = self.silent = True
        self.hub.at(self.hub.now + 1000, self._broker_sees_end)

    # ---- what passes

    def _schedule(self, up: bool, function, *args) -> None:
        now = self.hub.now + (self.board.lag if up else 0)
        late = self.rng.random()
        delay = self.latency * (1 + 0.3 * late)
        while self.rng.random() < self.board.loss:
            delay += 0.25
        when = max(self._last[up], now + delay)
        self._last[up] = when
        self.hub.at(when, function, *args)

    def _pass(self, up: bool, data: bytes) -> None:
        if self.silent:
            return
        if self.fault and self.fault[0] in (("reset up", "mute up") if up else ("reset down", "mute down")):
            kind, left = self.fault
            if left < len(data):
                data = data[:left]
                self.silent = True
                self.fault = None
                if kind[:5] == "reset":
                    self.hub.at(self.hub.now + self.latency, self._broker_sees_end)
                    self.hub.at(self.hub.now + self.latency, self._fail, errno.ECONNRESET)
                else:
                    self.hub.at(self.hub.now + 1000, self._broker_sees_end)
            else:
                self.fault = kind, left - len(data)
        if data:
            self._schedule(up, self._to_broker if up else self._to_device, data)

    def _to_device(self, data: bytes) -> None:
        if not self.closed:
            self.arrived += data
            self.board.heard()

    def _broker_sees_end(self) -> None:
        if self.open_at_broker:
            self.open_at_broker = False
            self.broker.gone(self)

    # ---- the broker's end

    def _to_broker(self, data: bytes) -> None:
        if not self.open_at_broker:
            return
        self.taken += data
        for first, body in mqtt.packets(self.taken):
            if self.open_at_broker:
                self._packet(first, body)

    def _packet(self, first: int, body: bytes) -> None:
        broker, kind = self.broker, first & 0xF0
        if kind == 0x10:
            self.cid = mqtt.text(body, 10)[0].decode()
            broker.connect(self)
        elif kind == 0x80:
            topics = mqtt.text(body, 2)[0].decode()
            self._pass(False, b"\x90\x03" + body[:2] + b"\x01")
            broker.subscribe(self, topics)
        elif kind == 0x30:
            self._publish(first, body)
        elif kind == 0x40:
            broker.puback(self, body[0] << 8 | body[1])
        elif kind == 0xC0:
            self._pass(False, b"\xd0\0")
        elif kind == 0xE0:
            self._broker_sees_end()

    def _publish(self, first: int, body: bytes) -> None:
        name, at = mqtt.text(body, 0)
        qos = first >> 1 & 3
        answer = b""
        if qos:
            answer = b"\x40\x02" + body[at : at + 2]
            at += 2
        topic = name.decode()
        self.board.watch.said(self.board, topic, body[at:])
        before = self.broker.traits["puback_first"]
        if before and answer:
            self._pass(False, answer)
        if not (self.broker.traits["acl"] and topic.endswith("/down/fence")):
            self.broker.publish(self, Message(topic, body[at:], qos, bool(first & 1), float("inf")))
        if not before and answer:
            self._pass(False, answer)

    def connack(self, present: bool) -> None:
        """Accepted."""
        self._pass(False, bytes((0x20, 2, present, 0)))

    def deliver(self, mid: int, message: Message, dup: bool) -> None:
        """Send it a message."""
        data = mqtt.publish(message.topic, message.payload, message.qos, mid, retain=message.retain, dup=dup)
        self._pass(False, data)

    def end(self, _taken_over: bool) -> None:
        """The broker ends the connection."""
        self.open_at_broker = False
        if not self.silent:
            self._schedule(False, self._end)

    def _end(self) -> None:
        self.ended = True
        self.board.heard()
