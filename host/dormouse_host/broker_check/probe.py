"""A throw-away MQTT client for testing a broker: paho, driven step by step.

Every wait has an end, and what a broker sends without end is not kept. With `hold` nothing is acknowledged. After `cut`
all is as after a power cut: no DISCONNECT and no more PUBACKs. Packets may be sent before CONNACK, as a device does.
"""

import contextlib
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from dormouse_host.address import BrokerAddress, failure, secure
from dormouse_host.broker import client

WITHIN = 10.0  # seconds that a broker has for an answer
_LONGEST = 30.0  # seconds for all that is queued
MOST = 20_000  # messages that a connection accepts beside those that were published to it
_SIZE = 16 << 20  # bytes of them, and 64 for each that was published
_NEVER = 0xFFFFFFFF  # session expiry: MQTT 5, section 3.1.2.11.2


class NoAnswer(Exception):
    """The broker closed the connection, refused it, or did not answer."""

    def __init__(self, why: str, *, refused: bool = False) -> None:
        super().__init__(why)
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Came:
    """One message as it came."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int
    at: float  # time.monotonic()


@dataclass
class _Heard:
    connack: ReasonCode | None = None
    present: bool = False
    properties: Any = None
    subacks: dict[int, int] = field(default_factory=dict)  # message id -> granted
    pubacks: dict[int, int] = field(default_factory=dict)  # message id -> reason
    ended: str = ""


class Client:
    """One connection. A context manager: left open, it is cut."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        *,
        clean: bool = False,
        mqtt5: bool = False,
        hold: bool = False,
        most: int = MOST,
    ) -> None:
        """`hold`: acknowledge nothing. `most`: the limit of messages, above which the connection is cut."""
        self.came: list[Came] = []
        self.heard = _Heard()
        self._address, self._clean, self._mqtt5 = address, clean, mqtt5
        how: dict[str, Any] = {} if mqtt5 else {"clean_session": clean}
        self._most, self._size = most, 0
        self._client = client.Client(
            client_id,
            protocol=paho.MQTTv5 if mqtt5 else paho.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=hold,
            **how,
        )
        self._client.connect_timeout = WITHIN
        self._client.max_inflight_messages_set(0)
        self._client.max_queued_messages_set(0)
        self._client.username_pw_set(address.user, address.password)
        secure(self._client, address)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect

    # ---- what came

    def _on_connect(self, _client: object, _data: object, flags: Any, reason: ReasonCode, more: Any) -> None:
        self.heard.connack, self.heard.present, self.heard.properties = reason, bool(flags.session_present), more

    def _on_subscribe(self, _c: object, _d: object, mid: int, reasons: list[ReasonCode], _more: object) -> None:
        self.heard.subacks[mid] = reasons[0].value

    def _on_publish(self, _c: object, _d: object, mid: int, reason: ReasonCode, _more: object) -> None:
        self.heard.pubacks[mid] = reason.value

    def _on_message(self, _c: object, _d: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # brokers should not forward it, and some do
            topic = ""
        self.came.append(
            Came(topic, bytes(message.payload), message.qos, bool(message.retain), message.mid, time.monotonic())
        )
        self._size += len(message.payload) + len(topic)
        if len(self.came) > self._most or self._size > _SIZE + 64 * self._most:
            self._client.broke = f"it sent {len(self.came)} messages of {self._size} bytes, more than were published"
            self._client.full = True
            self.cut()

    def _on_disconnect(self, _c: object, _d: object, _flags: object, reason: ReasonCode, _more: object) -> None:
        self.heard.ended = str(reason)

    # ---- what it does

    def start(self) -> Self:
        """TCP, TLS and CONNECT, without waiting for CONNACK."""
        properties = None
        how: dict[str, Any] = {}
        if self._mqtt5:
            properties = client.asked(SessionExpiryInterval=0 if self._clean else _NEVER)
            how = {"clean_start": self._clean, "properties": properties}
        try:
            self._client.connect(self._address.host, self._address.port, 60, **how)
        except UnicodeError:
            raise NoAnswer("the name cannot be resolved") from None
        except OSError as error:
            raise NoAnswer(failure(error, self._address.ca)) from None
        return self

    def connect(self) -> Self:
        """Connect, and wait for CONNACK."""
        return self.start().finish()

    def finish(self) -> Self:
        """Wait for CONNACK."""
        self.until(lambda: self.heard.connack is not None, "CONNECT")
        reason = self.heard.connack
        if reason is not None and reason.is_failure:
            raise NoAnswer(f"connection refused: {reason}", refused=True)
        return self

    def until(self, done: Callable[[], bool], what: str, seconds: float = WITHIN) -> None:
        """Work until `done`. NoAnswer where it is not in time."""
        if not self.work(done, seconds):
            closed = self._client.broke or f"closed the connection at {what}"
            raise NoAnswer(f"no answer to {what}" if self.alive else closed)

    def work(self, done: Callable[[], bool], seconds: float) -> bool:
        """Receive until `done`, `seconds` at most. Is it done?"""
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            if left <= 0 or not self.alive:
                return done()
            if self._client.loop(min(left, 0.05)) != paho.MQTT_ERR_SUCCESS and not self.heard.ended:
                self.heard.ended = "connection lost"
        return True

    def settle(self, done: Callable[[], bool], quiet: float) -> None:
        """Receive until `done`, or until nothing came for `quiet` seconds; half a minute at most."""
        deadline = time.monotonic() + _LONGEST
        before = -1
        while before < len(self.came) and self.alive and time.monotonic() < deadline and not done():
            before = seen = len(self.came)
            self.work(lambda seen=seen: done() or len(self.came) > seen, quiet)  # type: ignore[misc]

    def rest(self, seconds: float) -> None:
        """Receive for so long."""
        self.work(lambda: False, seconds)

    @property
    def alive(self) -> bool:
        """Is the connection up, as far as is known?"""
        return not self.heard.ended

    def subscribe(self, topic: str, qos: int = 1) -> int:
        """Subscribe. Returns what was granted: a QoS, or 128 and above for a refusal."""
        return self.granted(self.ask(topic, qos))

    def ask(self, topic: str, qos: int = 1) -> int:
        """Send SUBSCRIBE without waiting. Returns its message id."""
        _, mid = self._client.subscribe(topic, qos)
        return mid or 0

    def granted(self, mid: int) -> int:
        """Wait for the SUBACK of that SUBSCRIBE and return its code."""
        self.until(lambda: mid in self.heard.subacks, "SUBSCRIBE")
        return self.heard.subacks[mid]

    def send(
        self, topic: str, payloads: Sequence[bytes], qos: int = 1, *, retain: bool = False, expiry: int | None = None
    ) -> list[int]:
        """Publish without waiting. Returns the message ids."""
        more = None
        if expiry is not None:
            more = Properties(PacketTypes.PUBLISH)
            more.MessageExpiryInterval = expiry
        return [self._client.publish(topic, payload, qos, retain, more).mid for payload in payloads]

    def publish(
        self, topic: str, payloads: Sequence[bytes], qos: int = 1, *, retain: bool = False, expiry: int | None = None
    ) -> list[int]:
        """Publish and wait for every PUBACK. Returns their reasons, 0 for accepted."""
        mids = self.send(topic, payloads, qos, retain=retain, expiry=expiry)
        self.until(lambda: all(mid in self.heard.pubacks for mid in mids), "PUBLISH", 2 * WITHIN + len(mids) / 100)
        return [self.heard.pubacks[mid] for mid in mids]

    def close(self) -> None:
        """DISCONNECT."""
        self._client.disconnect()
        self.work(lambda: False, 0.02)
        self.cut()

    def cut(self) -> None:
        """Drop the connection without DISCONNECT."""
        peer = self._client.socket()
        if isinstance(peer, socket.socket):
            with contextlib.suppress(OSError):
                peer.close()
        self.heard.ended = self.heard.ended or "cut"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()


def fresh() -> str:
    """A name that is not in use."""
    return f"check-{secrets.token_hex(4)}"
