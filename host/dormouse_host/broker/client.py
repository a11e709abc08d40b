"""MQTT clients of the host: paho's with a bound on what a broker can make it keep, and one that publishes.

`Client`: no packet takes more memory than PACKET, however long it claims to be. Nothing queues in paho without end for
a broker that does not read. A message at QoS 2, which was not subscribed to, is not kept. A longer PUBLISH is read in
pieces and reaches `on_message` truncated, so that the session goes on and the reader reports what was wrong; anything
else that breaks a bound ends the connection, with a reason in `broke`.

`Publisher`: every wait has an end. What `publish` returned from was acknowledged by the broker (QoS 1) or written to
the socket (QoS 0). A lost connection is an error and never a silent resending, which would be a duplicate.
"""

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from dormouse_host import processes
from dormouse_host.address import BrokerAddress, failure, secure
from dormouse_host.errors import HostError

PACKET = 66_000  # bytes; the largest payload that the relay reads is 64 KiB
_PIECE = 16 * 1024  # bytes that are read at once of what is discarded
_ANSWERS = 70_000  # packets that may queue beside our own publishes: more than there are packet ids
_PUBLISH, _QOS, _QOS2 = 0x30, 0x06, 0x04  # first byte of a packet: MQTT 3.1.1, section 3.3.1
_QOS1, _RETAIN, _DUP = 0x02, 0x01, 0x08
_CONNECT_WITHIN = 6.0  # seconds for name, TCP and CONNACK together: bad input is reported within 10
_SILENCE = 6.0  # seconds without a PUBACK after which the broker counts as stuck
_CONNACK = 0x20  # MQTT 3.1.1, section 3.2.1
_SILENT = "no answer; is it reachable from here?"
_CLOSED = "it closed the connection without an answer to CONNECT"
_CREDENTIALS = (134, 135)  # what paho makes of CONNACK's return codes 4 and 5


class Message:
    """A message, as `on_message` takes it: paho's own costs more than all else that is done with it."""

    __slots__ = ("_topic", "mid", "payload", "qos", "retain")

    def __init__(self, topic: bytes, payload: bytes, mid: int, qos: int, retain: bool) -> None:
        self._topic, self.payload, self.mid, self.qos, self.retain = topic, payload, mid, qos, retain

    @property
    def topic(self) -> str:
        """UnicodeDecodeError where it is not UTF-8."""
        return self._topic.decode()


class Client(paho.Client):
    """paho's client with bounds, and with callbacks of version 2. With `manual_ack` what has come whole is read by this
    class: many packets with one call, each as `Message`.
    """

    def __init__(self, client_id: str = "", **how: Any) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id, **how)
        self.broke = ""  # which bound the broker broke, in words
        self.full = False  # while set nothing more is read, so that what came is processed first
        self._joined: bytearray | None = None  # what leaves together
        self._read, self._at = b"", 0  # what came, and how far it is processed
        self._failed: OSError | None = None  # while it was read

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is acknowledged and published at QoS 1 meanwhile leaves in few writes, not one for each packet."""
        if self._out_packet:  # the broker does not read as fast as that: `_check` counts each
            yield
            return
        self._joined = bytearray()
        try:
            yield
        finally:
            joined, self._joined = bytes(self._joined), None
            for at in range(0, len(joined), _PIECE):
                self._packet_queue(_PUBLISH, joined[at : at + _PIECE], 0, 1)

    def _packet_queue(self, command: int, packet: bytes | bytearray, mid: int, qos: int, *more: Any) -> MQTTErrorCode:
        if self._joined is None:
            return super()._packet_queue(command, packet, mid, qos, *more)
        self._joined += packet
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _loop(self, timeout: float = 1.0) -> MQTTErrorCode:
        if self._at < len(self._read) and not self.full:  # paho's select would not see it
            return self.loop_read()
        return super()._loop(timeout)

    def _packet_read(self) -> MQTTErrorCode:
        if self.full:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        if self._manual_ack and self._in_packet["command"] == 0 and self._take_messages():
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        return super()._packet_read()

    def _take_messages(self) -> bool:
        """Hand on the messages at QoS 0 and 1 that have come whole. Were there any? All else is paho's work."""
        if self._at == len(self._read):
            try:
                self._fill()
            except OSError as error:
                self._failed = error
                return False
        before, data = self._at, self._read
        is_v5 = self._protocol == paho.MQTTv5
        while not self.full and len(self._out_packet) <= _ANSWERS + len(self._out_messages):
            found = _message(data, self._at, is_v5)
            if found is None:
                break
            message, self._at = found
            self.on_message(self, None, message)  # type: ignore[misc,arg-type]
        if self._at == before:
            return False
        for name in ("_last_bytes_received", "_last_msg_in"):  # as this release of paho calls it
            if hasattr(self, name):
                setattr(self, name, time.monotonic())
        return True

    def _fill(self) -> None:
        self._read, self._at = super()._sock_recv(_PIECE), 0

    def _take(self, size: int) -> bytes:
        if self._failed:
            error, self._failed = self._failed, None
            raise error
        if self._at == len(self._read):
            self._fill()
        taken = self._read[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def _sock_recv(self, size: int) -> bytes:
        packet = self._in_packet
        if not packet["have_remaining"]:  # first byte or length
            return self._take(size)
        self._check(packet["command"], packet["remaining_length"])
        room = PACKET - len(packet["packet"])
        if room > 0:
            return self._take(min(size, room))
        data = self._take(min(size, _PIECE))
        if len(data) > 1:  # paho takes b"" for the end of the connection: one byte stands for the piece
            packet["to_process"] -= len(data) - 1
        return data[:1]

    def _check(self, command: int, length: int) -> None:
        publish = command & 0xF0 == _PUBLISH
        if publish and command & _QOS == _QOS2:
            self.broke = "it sent a message at QoS 2, without a subscription to it"
        elif not publish and length > PACKET:
            self.broke = f"it sent a packet of {length} bytes"
        elif len(self._out_packet) > _ANSWERS + len(self._out_messages):
            self.broke = "it sends without end and reads no answers"
        if self.broke:
            raise ConnectionError(self.broke)


def _message(data: bytes, at: int, is_v5: bool) -> tuple[Message, int] | None:
    """The PUBLISH at QoS 0 or 1 that begins there, and where it ends. None where there is none, or no whole one, or one
    that is longer than PACKET, malformed, or without a topic.
    """
    try:
        first = data[at]
        if first & ~(_QOS1 | _RETAIN | _DUP) != _PUBLISH:
            return None
        length, at = _length(data, at + 1)
        end = at + length
        if length > PACKET or end > len(data):
            return None
        begin = at + 2
        at = begin + (data[at] << 8 | data[at + 1])
        topic, mid, qos = data[begin:at], 0, int(first & _QOS1 != 0)
        if qos:
            mid, at = data[at] << 8 | data[at + 1], at + 2
        if is_v5:
            length, at = _length(data, at)
            at += length
    except IndexError:
        return None
    if not topic or at > end or (qos and not mid):
        return None
    return Message(topic, data[at:end], mid, qos, bool(first & _RETAIN)), end


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A number of MQTT's, and where it ends. IndexError where it has no end."""
    length = 0
    for shift in (0, 7, 14, 21):
        byte = data[at]
        at += 1
        length |= (byte & 127) << shift
        if byte < 128:
            return length, at
    raise IndexError


def asked(**values: int) -> Properties:
    """The properties of an MQTT 5 CONNECT: these, and the largest packet that the broker may send."""
    properties = Properties(PacketTypes.CONNECT)
    properties.MaximumPacketSize = PACKET
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _within(seconds: float, work: Callable[[], object]) -> bool:
    """Run `work`. Did it end in time? Its error is raised here.

    In a thread, because neither getaddrinfo nor a connect to several addresses takes a deadline.
    """
    errors: list[OSError | UnicodeError] = []

    def guarded() -> None:
        try:
            work()
        except (OSError, UnicodeError) as error:  # UnicodeError where a host name is too long
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    return not thread.is_alive()


def advice(address: BrokerAddress) -> str:
    """What to do about a broker that refuses these credentials, in words that show none but the user's name."""
    if address.user is None:
        return "it requires user and password: set MQTT_USERNAME and MQTT_PASSWORD"
    return f"user {address.user!r} or the password is wrong: set MQTT_PASSWORD, as relay-NAME.env of broker init does"


class Publisher(processes.Started):
    """One MQTT 3.1.1 connection. A context manager: connects on entering, disconnects on leaving."""

    def __init__(self, address: BrokerAddress, client_id: str = "", *, clean: bool = True) -> None:
        """A clean session, or the one that the broker has; an empty `client_id` lets the broker choose one."""
        self.present = False  # had the broker a session, and was it not to be a clean one?
        self._address = address
        self._changed = threading.Condition()
        self._acked = 0
        self._lost = False
        self._connack: ReasonCode | None = None
        self._client = Client(
            client_id,
            clean_session=clean,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = _CONNECT_WITHIN
        secure(self._client, address)
        self._client.username_pw_set(address.user, address.password)
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect

    def _on_connect(self, _client: object, _data: object, flags: Any, reason: ReasonCode, _more: object) -> None:
        self._connack, self.present = reason, bool(flags.session_present)

    def _on_publish(self, *_: Any) -> None:
        with self._changed:
            self._acked += 1
            self._changed.notify_all()

    def _on_disconnect(self, *_: Any) -> None:
        with self._changed:
            self._lost = True
            self._changed.notify_all()

    def _error(self, what: str, code: int = 1) -> HostError:
        return HostError(f"broker {self._address}: {what}", code)

    def start(self) -> None:
        """Connect and wait for CONNACK. HostError with code 2 where the credentials or the name are wrong, else 1."""
        deadline = time.monotonic() + _CONNECT_WITHIN
        address = self._address
        try:
            if not _within(_CONNECT_WITHIN, lambda: self._client.connect(address.host, address.port)):
                raise self._error(_SILENT)
            while self._connack is None:
                self._read_connack(deadline)
        except socket.gaierror as error:
            code = 1 if error.errno == socket.EAI_AGAIN else 2
            raise self._error(f"the name cannot be resolved ({error.strerror})", code) from None
        except UnicodeError:
            raise self._error("the name cannot be resolved (too long)", 2) from None
        except TimeoutError:
            raise self._error(_SILENT) from None
        except (ConnectionResetError, BrokenPipeError):
            raise self._error(_CLOSED) from None
        except OSError as error:
            raise self._error(failure(error, address.ca)) from None
        if self._connack.is_failure:
            raise self._refused(self._connack)
        self._client.loop_start()

    def _read_connack(self, deadline: float) -> None:
        """Look at the first bytes before paho does: they show what is wrong with the peer."""
        peer = self._client.socket()
        if not isinstance(peer, socket.socket):
            raise self._error(_CLOSED)
        if not select.select([peer], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise self._error("it accepts connections but does not answer CONNECT; is it an MQTT broker?")
        if not isinstance(peer, ssl.SSLSocket):  # where MSG_PEEK is impossible
            head = peer.recv(24, socket.MSG_PEEK)
            if not head:
                raise self._error(_CLOSED)
            if head[0] != _CONNACK:
                raise self._error(f"not an MQTT broker, its answer begins with {head.decode('latin-1')!a}")
        self._client.loop_read()

    def _refused(self, reason: ReasonCode) -> HostError:
        if reason.value not in _CREDENTIALS:
            return self._error(f"connection refused: {reason}")
        return self._error(f"connection refused: {reason}; {advice(self._address)}", 2)

    def publish(self, topic: str, payloads: Iterable[bytes], qos: int = 1, *, retain: bool = False) -> int:
        """Publish the payloads in order and wait for every PUBACK. Returns their number."""
        before = self._acked
        count = 0
        for payload in payloads:
            self._client.publish(topic, payload, qos, retain)
            count += 1
        with self._changed:
            while self._acked - before < count:
                if self._lost or not self._changed.wait(_SILENCE):
                    lost = self._client.broke or "the connection was lost"
                    why = lost if self._lost else f"no PUBACK for {_SILENCE:g} s"
                    raise self._error(f"{why} after {self._acked - before} of {count} messages were acknowledged")
        return count

    def close(self) -> None:
        """Disconnect; no error where the connection is lost already."""
        self._client.disconnect()
        with contextlib.suppress(RuntimeError):  # a signal interrupted paho while it started its thread
            self._client.loop_stop()
