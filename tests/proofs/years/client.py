"""What the relay's Connection takes for paho: a client whose socket is the simulated broker.

Must stay true: what paho promises it, and no more: callbacks only inside `loop`, nothing resent by itself, nothing
read while `full`. Where a relay has nothing to do until something happens, its wait is as long as that takes.
"""

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from proofs.years.broker import Message

if TYPE_CHECKING:
    from proofs.years.host import RelayProcess

_OK = ReasonCode(PacketTypes.CONNACK, "Success")
_ACKED = ReasonCode(PacketTypes.PUBACK, "Success")
_GRANTED = ReasonCode(PacketTypes.SUBACK, "Granted QoS 1")
_TAKEN_OVER = ReasonCode(PacketTypes.DISCONNECT, "Session taken over")
_UNSAID = ReasonCode(PacketTypes.DISCONNECT, "Unspecified error")
_AT_ONCE = 0.0005  # seconds between relay and broker


class _Flags:
    def __init__(self, present: bool, told: bool) -> None:
        self.session_present = present
        self.is_disconnect_packet_from_server = told


class _Publish:
    def __init__(self, mid: int) -> None:
        self.mid = mid


class Peer:
    """The socket."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def close(self) -> None:
        """The connection is over."""
        self._client.close()


class Client:
    """paho.Client, as far as the relay uses it."""

    on_connect: Callable[..., None]
    on_subscribe: Callable[..., None]
    on_message: Callable[..., None]
    on_publish: Callable[..., None]
    on_disconnect: Callable[..., None]

    def __init__(self, relay: "RelayProcess", cid: str) -> None:
        self._relay, self.cid = relay, cid
        self._hub, self._broker = relay.hub, relay.broker
        self._came: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._open = False
        self._reason = _UNSAID
        self._told: dict[int, Message] = {}  # not acknowledged yet
        self._mid = 0
        self._last = 0.0
        self.full, self.broke = False, ""
        self.connect_timeout = 6.0
        relay.client = self

    def max_inflight_messages_set(self, _count: int) -> None:
        """The relay bounds it."""

    def username_pw_set(self, _user: str | None, _password: str | None) -> None:
        """None is asked for."""

    def socket(self) -> Peer:
        """To close it."""
        return Peer(self)

    def connect(self, _host: str, _port: int, _keepalive: int, **_how: Any) -> None:
        """Connect."""
        self._hub.wait(self._hub.now + _AT_ONCE)
        if not self._broker.up:
            raise ConnectionRefusedError(111, "Connection refused")
        self._open = True
        self._up(self._broker.connect, self)

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        """Subscribe, to the devices' topics alone."""
        ((topic, _),) = topics
        self._up(self._broker.subscribe, self, topic)
        self._up(self._down, self.on_subscribe, self, None, 1, [_GRANTED], None)

    def together(self) -> AbstractContextManager[None]:
        """Each by itself."""
        return nullcontext()

    def publish(self, topic: str, payload: bytes, _qos: int, properties: Any = None) -> _Publish:
        """Publish at QoS 1."""
        self._relay.step("publish")
        self._relay.host.on_publish(topic, payload)
        self._mid += 1
        seconds = getattr(properties, "MessageExpiryInterval", float("inf"))
        message = Message(topic, payload, 1, False, self._hub.now + seconds)
        first = self._broker.traits["puback_first"]
        if first:
            self._up(self._down, self.on_publish, self, None, self._mid, _ACKED, None)
        self._up(self._broker.publish, self, message)
        if not first:
            self._up(self._down, self.on_publish, self, None, self._mid, _ACKED, None)
        return _Publish(self._mid)

    def ack(self, mid: int, _qos: int) -> None:
        """PUBACK."""
        self._relay.step("confirm")
        self._relay.confirmed.append(self._told.pop(mid))
        self._up(self._broker.puback, self, mid)

    def disconnect(self) -> None:
        """In order."""
        self._up(self._broker.gone, self)

    def close(self) -> None:
        """At once."""
        if self._open:
            self._open = False
            self._hub.at(self._hub.now + _AT_ONCE, self._broker.gone, self)

    def loop(self, timeout: float) -> int:
        """One look: what came is told, after so long at most."""
        if not self._came and self._open:
            self._relay.wait(timeout)
        while self._came and not self.full:
            function, args = self._came.popleft()
            function(*args)
        if not self._open and not self._came:
            told = self._reason is _TAKEN_OVER
            self.on_disconnect(self, None, _Flags(False, told), self._reason, None)
            return int(paho.MQTT_ERR_CONN_LOST)
        return int(paho.MQTT_ERR_SUCCESS)

    # ---- both ways

    def _up(self, function: Callable[..., Any], *args: Any) -> None:
        self._last = max(self._last, self._hub.now + _AT_ONCE)
        self._hub.at(self._last, self._reach, function, args)

    def _reach(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self._open or function == self._broker.gone:
            function(*args)

    def _down(self, function: Callable[..., Any], *args: Any) -> None:
        if self._open:
            self._came.append((function, args))
            self._relay.notify()

    # ---- as the broker's peer

    def connack(self, present: bool) -> None:
        """Accepted."""
        self._down(self.on_connect, self, None, _Flags(present, False), _OK, None)

    def deliver(self, mid: int, message: Message, dup: bool) -> None:
        """A message."""
        self._told[mid] = message
        came = paho.MQTTMessage(mid, message.topic.encode())
        came.payload, came.qos, came.retain, came.dup = message.payload, message.qos, message.retain, dup
        self._down(self.on_message, self, None, came)

    def end(self, taken_over: bool) -> None:
        """The broker closes it."""
        if taken_over:
            self._reason = _TAKEN_OVER
        self._open = False
        self._relay.notify()
