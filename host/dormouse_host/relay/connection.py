"""One connection of the relay to the broker, and what came over it since somebody looked.

Must stay true: paho keeps nothing from one connection to the next, so that it never publishes by itself what the
ledger has not claimed again; what came in is acknowledged only by `confirm`; every wait has an end.
"""

import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from dormouse import protocol
from dormouse_host import tls
from dormouse_host.errors import HostError
from dormouse_host.ledger.outward import Ack, Outgoing
from dormouse_host.ledger.store import Incoming
from dormouse_host.url import BrokerAddress

_CONNECT_WITHIN = 6.0  # seconds for TCP and CONNACK
_KEEPALIVE = 30  # seconds
_RECEIVE_MAXIMUM = 65535  # so that acknowledgements do not overtake reports
_BATCH = 500  # messages that are stored in one transaction
_GROUP = 0.01  # seconds after the first of them
_UNSUPPORTED = 132  # CONNACK: unsupported protocol version
_CREDENTIALS = (134, 135)  # bad user name or password, not authorised
_TAKEN_OVER = 142  # DISCONNECT: session taken over
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

    def __init__(self, address: BrokerAddress, client_id: str, root: str, *, mqtt5: bool) -> None:
        """Connect and subscribe. Lost where that fails, HostError where trying again is of no use."""
        self.mqtt5 = mqtt5
        self.present = False
        self.room = _BATCH  # publishes that may be on their way at once
        self._root = root
        self._connack: ReasonCode | None = None
        self._suback: ReasonCode | None = None
        self._ended, self._cut = "", False
        self._came: list[tuple[int, Incoming]] = []
        self._acks: list[Ack] = []
        self._flying: dict[int, Outgoing] = {}  # by paho's message id
        how = {} if mqtt5 else {"clean_session": False}
        version = paho.MQTTv5 if mqtt5 else paho.MQTTv311
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=version,
            reconnect_on_failure=False,
            manual_ack=True,
            **how,  # type: ignore[arg-type]
        )
        self._client.connect_timeout = _CONNECT_WITHIN
        tls.secure(self._client, address)
        self._client.max_inflight_messages_set(0)  # `room` bounds it
        self._client.username_pw_set(address.user, address.password)
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

    def _connect(self, address: BrokerAddress) -> None:
        try:
            if self.mqtt5:
                asked = Properties(PacketTypes.CONNECT)
                asked.SessionExpiryInterval = 0xFFFFFFFF  # never
                asked.ReceiveMaximum = _RECEIVE_MAXIMUM
                self._client.connect(address.host, address.port, _KEEPALIVE, clean_start=False, properties=asked)
            else:
                self._client.connect(address.host, address.port, _KEEPALIVE)
        except UnicodeError as error:
            raise Lost(str(error)) from None
        except OSError as error:
            raise Lost(tls.reason(error)) from None
        self._connack = self._answer(lambda: self._connack, "CONNECT")
        if self._connack.is_failure:
            if self._connack.value in _CREDENTIALS:
                raise HostError(f"broker {address}: connection refused: {self._connack}", 2)
            raise Lost(f"refused: {self._connack}", older=self.mqtt5 and self._connack.value == _UNSUPPORTED)
        topics = f"{self._root}/+/up/#"
        self._client.subscribe(topics, 1)
        self._suback = self._answer(lambda: self._suback, "SUBSCRIBE")
        if self._suback.is_failure:
            raise HostError(f"broker {address}: the subscription to {topics} is refused: {self._suback}", 2)

    def _answer(self, answer: Callable[[], ReasonCode | None], what: str) -> ReasonCode:
        """The broker's answer to a packet, once it has come."""
        deadline = time.monotonic() + _CONNECT_WITHIN
        while time.monotonic() < deadline:
            lost = self._client.loop(0.1) != paho.MQTT_ERR_SUCCESS
            reason = answer()
            if reason is not None:
                return reason
            if lost:
                raise Lost(f"closed without an answer to {what}", older=self.mqtt5)
        raise Lost(f"no answer to {what}", older=self.mqtt5)

    # ---- paho's callbacks: they only write down

    def _on_connect(self, _client: object, _data: object, flags: Any, reason: ReasonCode, more: Any) -> None:
        self._connack, self.present = reason, bool(flags.session_present)
        self.room = min(_BATCH, getattr(more, "ReceiveMaximum", _BATCH) or _BATCH)

    def _on_subscribe(
        self, _client: object, _data: object, _mid: int, reasons: list[ReasonCode], _more: object
    ) -> None:
        self._suback = reasons[0]

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        try:
            device, _, leaf = message.topic[len(self._root) + 1 :].partition("/")
        except UnicodeDecodeError:  # no broker should forward it, and some do
            device, leaf = "", "topic that is not UTF-8"
        came = Incoming(device, leaf, bytes(message.payload), bool(message.retain))
        self._came.append((message.mid if message.qos else 0, came))

    def _on_publish(self, _client: object, _data: object, mid: int, reason: ReasonCode, _more: object) -> None:
        sent = self._flying.pop(mid, None)
        if sent is not None:
            self._acks.append(Ack(sent.n, sent.times, not reason.is_failure))

    def _on_disconnect(self, _client: object, _data: object, flags: Any, reason: ReasonCode, _more: object) -> None:
        taken_over = reason.value == _TAKEN_OVER
        self._cut = taken_over or (reason.value == _UNSAID and not flags.is_disconnect_packet_from_server)
        self._ended = "another relay took over this session" if taken_over else str(reason)

    # ---- what the relay does

    @property
    def flying(self) -> int:
        """Publishes without a PUBACK."""
        return len(self._flying)

    def wait(self, seconds: float) -> tuple[Sequence[tuple[int, Incoming]], Sequence[Ack]]:
        """What came in, with the ids to confirm, and the PUBACKs, after at most so long without any. Lost if it is.

        What follows within _GROUP is one group with the first, and stored with one COMMIT. No device waits for that:
        its PUBACKs are the broker's.
        """
        until, first = time.monotonic() + seconds, True
        while (before := len(self._came) + len(self._acks)) < _BATCH:
            if self._client.loop(max(0.0, until - time.monotonic())) != paho.MQTT_ERR_SUCCESS:
                raise Lost(self._ended or "connection lost", cut=self._cut)
            if first and len(self._came) + len(self._acks) > before:
                until, first = time.monotonic() + _GROUP, False
            if time.monotonic() >= until or (self._acks and not self._flying and not self._came):
                break  # without a word of a device there is nothing to wait for but PUBACKs
        came, self._came = self._came, []
        acks, self._acks = self._acks, []
        return came, acks

    def confirm(self, mids: Iterable[int]) -> None:
        """Acknowledge what is stored. 0 stands for QoS 0."""
        for mid in mids:
            if mid:
                self._client.ack(mid, 1)

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Send commands that the ledger has marked as publishing."""
        for one in outgoing:
            expiry = None
            if self.mqtt5 and one.lifetime is not None:
                expiry = Properties(PacketTypes.PUBLISH)
                expiry.MessageExpiryInterval = min(one.lifetime, 0xFFFFFFFF)
            topic = protocol.topic(self._root, one.device, protocol.CMD)
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
