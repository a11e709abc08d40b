"""A client that keeps what comes on some topics."""

import json
import threading
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from dormouse_host.address import BrokerAddress


class Subscriber:
    """A context manager. `came`: (topic, payload, retained) in order; `latest`: topic -> payload, none once cleared."""

    def __init__(self, address: BrokerAddress, *topics: str) -> None:
        self.came: list[tuple[str, bytes, bool]] = []
        self.latest: dict[str, bytes] = {}
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(address.user, address.password)
        self._client.on_message = self._take
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect(address.host, address.port)
        self._client.subscribe([(topic, 1) for topic in topics])

    def _take(self, _client: Any, _data: Any, message: Any) -> None:
        self.came.append((message.topic, message.payload, bool(message.retain)))
        if message.payload:
            self.latest[message.topic] = message.payload
        else:
            self.latest.pop(message.topic, None)

    def json(self, topic: str) -> Any:
        """The latest payload of a topic; None where there is none."""
        return json.loads(self.latest[topic]) if topic in self.latest else None

    def __enter__(self) -> "Subscriber":
        self._client.loop_start()
        assert self._subscribed.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
