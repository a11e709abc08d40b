"""One connection of the relay to the broker, and what came over it since the last look.

Must stay true: paho keeps nothing from one connection to the next, so that it never publishes by itself what the
ledger has not claimed again; what came in is acknowledged only by `confirm`; every wait has an end; no more is read
than one batch, before that is taken away (broker/client.py has the bounds of a packet).
"""

import math
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from dormouse import protocol
from dormouse_host.address import BrokerAddress, failure, secure
from dormouse_host.broker import client
from dormouse_host.errors import HostError
from dormouse_host.ledger.outbound import Ack, Outgoing
from dormouse_host.ledger.store import Incoming
from dormouse_host.relay.beside import Aside, Note

_CONNECT_WITHIN = 6.0  # seconds for TCP and CONNACK
_KEEPALIVE = 30  # seconds
_RECEIVE_MAXIMUM = 65535  # so that acknowledgements do not overtake reports
_NEVER = 0xFFFFFFFF  # session expiry: MQTT 5, section 3.1.2.11.2
_BATCH = 500  # messages that are stored in one transaction
_BATCH_SIZE = 1 << 20  # bytes of them: what JSON becomes in memory may take thirty times as much
_GROUP = 0.2  # seconds after the first of them, at most
_GAPS = 4  # times that what comes is apart on average: so long after the last of them, and
_SHORTEST, _LONGEST = 0.01, 0.05  # seconds at least and at most
_UNSUPPORTED = 132  # CONNACK: unsupported protocol version
_CREDENTIALS = (134, 135)  # bad user name or password, not authorised
_TAKEN_OVER = 142  # DISCONNECT: session taken over
_WILL_DELAY = 15  # seconds without the relay after which the broker publishes its will
_UNSAID = 128  # what paho calls a connection that was closed without a DISCONNECT


class Lost(Exception):
    """The connection is gone, or never was. `older`: an older MQTT may be what the broker understands; `cut`: the
    broker closed it without a reason, or for another client that took the session over.
    """

    def __init__(self, why: str, *, older: bool = False, cut: bool = False) -> None:
        super().__init__(why)
        self.older = older
        self.cut = cut


class Connection:
    """A persistent session of the broker's under the relay's fixed client id."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        root: str,
        *,
        mqtt5: bool,
        topics: Sequence[str] = (),
        will: Note | None = None,
    ) -> None:
        """Connect and subscribe, also to `topics`, whose messages `asides` has. Lost where that fails, HostError where
        trying again is of no use.
        """
        self.mqtt5 = mqtt5
        self.present = False
        self.room = _BATCH  # publishes that may be on their way at once
        self._root = root
        self._address = address
        self._connack: ReasonCode | None = None
        self._suback: ReasonCode | None = None
        self.refused: list[str] = []  # those of `topics` that the broker refuses
        self._more = list(topics)
        self._asides: list[tuple[int, Aside]] = []
        self._notes: dict[int, Note] = {}  # on their way, by paho's message id
        self._told: list[tuple[Note, bool]] = []
        self._ended, self._cut = "", False
        self._came: list[tuple[int, Incoming]] = []
        self._size = 0  # bytes of what came
        self._acks: list[Ack] = []
        self._latest, self._apart = (
            0.0,
            0.0,
        )  # when something came last, and how far apart that is on average, in seconds
        self._flying: dict[int, Outgoing] = {}  # by paho's message id
        how = {} if mqtt5 else {"clean_session": False}
        version = paho.MQTTv5 if mqtt5 else paho.MQTTv311
        self._client = client.Client(
            client_id,
            protocol=version,
            reconnect_on_failure=False,
            manual_ack=True,
            **how,
        )
        self._client.connect_timeout = _CONNECT_WITHIN
        secure(self._client, address)
        self._client.max_inflight_messages_set(0)  # `room` bounds it
        self._client.username_pw_set(address.user, address.password)
        if will is not None:
            self._set_will(will)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect
        try:
            self._connect(address)
        except BaseException:
            self.drop()
            raise

    def _set_will(self, will: Note) -> None:
        delayed = None
        if self.mqtt5:
            delayed = Properties(PacketTypes.WILLMESSAGE)
            delayed.WillDelayInterval = _WILL_DELAY
        self._client.will_set(will.topic, will.payload, 1, will.retain, delayed)

    def _connect(self, address: BrokerAddress) -> None:
        try:
            if self.mqtt5:
                asked = client.asked(SessionExpiryInterval=_NEVER, ReceiveMaximum=_RECEIVE_MAXIMUM)
                self._client.connect(address.host, address.port, _KEEPALIVE, clean_start=False, properties=asked)
            else:
                self._client.connect(address.host, address.port, _KEEPALIVE)
        except UnicodeError as error:
            raise Lost(str(error)) from None
        except OSError as error:
            raise Lost(failure(error, address.ca)) from None
        self._answer(lambda: self._connack, "CONNECT")
        if self._connack is None:
            raise Lost("it sent messages before CONNACK")
        if self._connack.is_failure:
            if self._connack.value in _CREDENTIALS:
                why = f"connection refused: {self._connack}; {client.advice(address)}"
                raise HostError(f"broker {address}: {why}", 2)
            raise Lost(f"refused: {self._connack}", older=self.mqtt5 and self._connack.value == _UNSUPPORTED)
        self._client.subscribe([(topic, 1) for topic in (self._topics, *self._more)])
        self._answer(lambda: self._suback, "SUBSCRIBE")
        self._check_subscription()

    @property
    def _topics(self) -> str:
        return f"{self._root}/+/up/#"

    def _check_subscription(self) -> None:
        """HostError where it is refused. Messages of the session may fill a batch before the answer has come."""
        if self._suback is not None and self._suback.is_failure:
            raise HostError(f"broker {self._address}: the subscription to {self._topics} is refused: {self._suback}", 2)

    def _answer(self, answer: Callable[[], ReasonCode | None], what: str) -> None:
        """Wait for the broker's answer to a packet, or until as much has come before it as may wait to be stored."""
        deadline = time.monotonic() + _CONNECT_WITHIN
        while time.monotonic() < deadline:
            lost = self._client.loop(0.1) != paho.MQTT_ERR_SUCCESS
            if answer() is not None or self._client.full:
                return
            if lost:
                broke = self._client.broke
                raise Lost(broke or f"closed without an answer to {what}", older=self.mqtt5 and not broke)
        raise Lost(f"no answer to {what}", older=self.mqtt5)

    # ---- paho's callbacks: they only write down

    def _on_connect(self, _client: object, _data: object, flags: Any, reason: ReasonCode, more: Any) -> None:
        self._connack, self.present = reason, bool(flags.session_present)
        self.room = min(_BATCH, getattr(more, "ReceiveMaximum", _BATCH) or _BATCH)

    def _on_subscribe(
        self, _client: object, _data: object, _mid: int, reasons: list[ReasonCode], _more: object
    ) -> None:
        self._suback = reasons[0]
        self.refused = [topic for topic, reason in zip(self._more, reasons[1:], strict=False) if reason.is_failure]

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        try:
            if self._more and not message.topic.startswith(f"{self._root}/"):
                self._asides.append((message.mid if message.qos else 0, Aside(message.topic, bytes(message.payload))))
                self._size += len(message.payload)
                self._client.full = self._is_full
                return
            device, _, leaf = message.topic[len(self._root) + 1 :].partition("/")
        except UnicodeDecodeError:  # no broker should forward it, and some do
            device, leaf = "", "topic that is not UTF-8"
        came = Incoming(device, leaf, bytes(message.payload), bool(message.retain))
        self._came.append((message.mid if message.qos else 0, came))
        self._size += len(message.payload) + len(device) + len(leaf)
        self._client.full = self._is_full

    @property
    def _is_full(self) -> bool:
        return len(self._came) + len(self._asides) >= _BATCH or self._size >= _BATCH_SIZE

    def _on_publish(self, _client: object, _data: object, mid: int, reason: ReasonCode, _more: object) -> None:
        if (note := self._notes.pop(mid, None)) is not None:
            self._told.append((note, not reason.is_failure))
            return
        sent = self._flying.pop(mid, None)
        if sent is not None and sent.key:  # whether a chunk came, the device's end record tells
            self._acks.append(Ack(sent.key, sent.times, not reason.is_failure))

    def _on_disconnect(self, _client: object, _data: object, flags: Any, reason: ReasonCode, _more: object) -> None:
        taken_over = reason.value == _TAKEN_OVER
        self._cut = taken_over or (reason.value == _UNSAID and not flags.is_disconnect_packet_from_server)
        self._ended = "another relay took over this session" if taken_over else str(reason)

    # ---- what the relay does

    @property
    def flying(self) -> int:
        """Publishes without a PUBACK."""
        return len(self._flying) + len(self._notes)

    @property
    def noted(self) -> int:
        """Those of them that are notes."""
        return len(self._notes)

    def wait(self, seconds: float, *, hold: bool = False) -> tuple[Sequence[tuple[int, Incoming]], Sequence[Ack]]:
        """What came in, with the ids to confirm, and the PUBACKs, after at most so long without any. Lost if it is.

        What follows closely is one group with the first, and stored with one COMMIT: a relay that has more to do spends
        less on each message. No device waits for that: its PUBACKs are the broker's. `hold`: nothing is read
        meanwhile, because what came is not stored yet.
        """
        if hold:
            time.sleep(seconds)
            return [], []
        until, latest = time.monotonic() + seconds, math.inf
        while not self._client.full and (before := len(self._came) + len(self._acks)) < _BATCH:
            if self._client.loop(max(0.0, until - time.monotonic())) != paho.MQTT_ERR_SUCCESS:
                broke = self._client.broke
                raise Lost(broke or self._ended or "connection lost", cut=self._cut and not broke)
            now = time.monotonic()
            if new := len(self._came) + len(self._acks) - before:
                latest = min(latest, now + _GROUP)
                until = min(latest, now + self._gap(now, new))
            if now >= until or (self._acks and not self._flying and not self._came):
                break  # without a word of a device there is nothing to wait for but PUBACKs
            if self._asides or (self._told and not self._notes):
                break
        self._check_subscription()
        came, self._came, self._size, self._client.full = self._came, [], 0, False
        acks, self._acks = self._acks, []
        return came, acks

    def _gap(self, now: float, new: int) -> float:
        """Seconds to wait for the next message after these: a broker that waits for PUBACKs sends none."""
        apart = min((now - self._latest) / new, _LONGEST)
        self._apart += (apart - self._apart) / 8
        self._latest = now
        return min(max(_GAPS * self._apart, _SHORTEST), _LONGEST)

    def asides(self) -> Sequence[tuple[int, Aside]]:
        """What came on other topics, with the ids to confirm."""
        found, self._asides = self._asides, []
        return found

    def told(self) -> Sequence[tuple[Note, bool]]:
        """The notes that the broker has answered since, and whether it took them."""
        found, self._told = self._told, []
        return found

    def note(self, notes: Sequence[Note]) -> None:
        """Publish notes."""
        with self._client.together():
            for note in notes:
                sent = self._client.publish(note.topic, note.payload, 1, note.retain)
                self._notes[sent.mid] = note

    def confirm(self, mids: Iterable[int]) -> None:
        """Acknowledge what is stored. 0 stands for QoS 0."""
        with self._client.together():
            for mid in mids:
                if mid:
                    self._client.ack(mid, 1)

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Send commands that the ledger has marked as publishing."""
        with self._client.together():
            for one in outgoing:
                expiry = None
                if self.mqtt5 and one.lifetime is not None:
                    expiry = Properties(PacketTypes.PUBLISH)
                    expiry.MessageExpiryInterval = min(one.lifetime, 0xFFFFFFFF)
                topic = protocol.topic(self._root, one.device, one.leaf)
                sent = self._client.publish(topic, one.payload, 1, properties=expiry)
                self._flying[sent.mid] = one

    def close(self) -> None:
        """Disconnect in order; the broker keeps the session."""
        self._client.disconnect()
        self.drop()

    def drop(self) -> None:
        """Give the connection up."""
        peer = self._client.socket()
        if isinstance(peer, socket.socket):
            peer.close()
