"""`dormouse demo --session-expiry`: what becomes of a sleeper that sleeps for longer than its broker keeps its session.

First a client of MQTT 5 in the device's place, which is told how long the broker grants it, and loses everything. Then
our device with ledger and relay, which loses its session likewise: the loss is noticed, and all of it is sent again.
Everything that is printed was seen in this run. The broker is one of our own, and it is stopped at the end.
"""

import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

from paho.mqtt import client as paho

from dormouse import protocol
from dormouse_host.address import BrokerAddress
from dormouse_host.agent import process, toolchain
from dormouse_host.agent.log import Event
from dormouse_host.broker.client import Client, Publisher, asked
from dormouse_host.broker.local import Mosquitto
from dormouse_host.errors import HostError
from dormouse_host.fleet import Fleet
from dormouse_host.lab.demo_device import DemoDevice
from dormouse_host.terminal import Console

LONGEST = 3600  # seconds of an expiry that a person waits for
_LONGER = 2.0  # seconds by which the sleep is longer: mosquitto looks once a second
_QUIET = 1.0  # seconds in which what is queued would have come
_WITHIN = 20.0  # seconds for an answer of broker, relay or ledger
_LOOK = 0.02
_TEXT = "Offline message "


def run(seconds: float, messages: int, kind: process.Kind, console: Console) -> None:
    """Run both parts. HostError with code 1 where one of them does not go as it has to."""
    expiry = max(1, math.ceil(seconds))
    program = toolchain.mosquitto()
    if program is None:
        raise HostError("the demo of session expiry needs MQTT 5, and so mosquitto: apt-get install mosquitto")
    with Mosquitto(program) as broker, tempfile.TemporaryDirectory(prefix="dormouse-demo-") as folder:
        console.line(f"Broker: {broker.name} on {broker.address}, started for this run")
        console.headline("A client of MQTT 5 in the device's place")
        lost = _client(broker.address, expiry, messages, console)
        console.headline("Our device, with ledger and relay, at the same broker")
        kept = _device(broker.address, Path(folder), expiry, messages, kind, console)
    console.line()
    head = ("", "session_present", "arrived after the sleep", "a wake later")
    console.table(head, [("MQTT 5 client", "0", f"{lost} of {messages}", "-"), ("Dormouse", "0", *kept)])
    if lost or kept[1] != f"{messages} of {messages}":
        raise HostError("it did not go as it has to: see the lines above")


# ---- a client of MQTT 5


class _Modern:
    """One connection with MQTT 5 under `name`: `granted` is the session's expiry in seconds."""

    def __init__(self, address: BrokerAddress, name: str, expiry: int) -> None:
        self.came: list[bytes] = []
        self.present = False
        self.granted = expiry
        self._up, self._down = threading.Event(), threading.Event()
        self._acked = threading.Event()
        self._expiry = expiry
        self._client = Client(name, protocol=paho.MQTTv5, reconnect_on_failure=False)
        self._client.on_connect = self._on_connect
        self._client.on_message = lambda _c, _d, message: self.came.append(bytes(message.payload))
        self._client.on_subscribe = lambda *_: self._acked.set()
        self._client.on_disconnect = lambda *_: self._down.set()
        self._address = address

    def _on_connect(self, _client: object, _data: object, flags: Any, _reason: object, properties: Any) -> None:
        self.present = bool(flags.session_present)
        self.granted = getattr(properties, "SessionExpiryInterval", self._expiry)  # absent: as it was asked for
        self._up.set()

    def __enter__(self) -> "_Modern":
        properties = asked(SessionExpiryInterval=self._expiry)
        self._client.connect(self._address.host, self._address.port, clean_start=False, properties=properties)
        self._client.loop_start()
        self._await(self._up, "CONNECT")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._down.wait(_WITHIN)
        self._client.loop_stop()

    def subscribe(self, topic: str) -> None:
        """At QoS 1."""
        self._client.subscribe(topic, 1)
        self._await(self._acked, "SUBSCRIBE")

    def _await(self, event: threading.Event, what: str) -> None:
        if not event.wait(_WITHIN):
            raise HostError(f"broker {self._address}: no answer to {what} in MQTT 5")


def _client(address: BrokerAddress, expiry: int, messages: int, console: Console) -> int:
    """How many messages came after a sleep that was longer than the session."""
    name = f"demo-{token_hex(3)}"
    topic = f"{protocol.ROOT}/{name}/down/cmd"
    with _Modern(address, name, expiry) as client:
        client.subscribe(topic)
        granted = client.granted
        console.step(f"Connected as {name}: asked to be remembered for {expiry} s, granted {granted} s")
    with Publisher(address) as publisher:
        publisher.publish(topic, [f"{_TEXT}{n}".encode() for n in range(1, messages + 1)], 1)
    console.step(f"Asleep; {messages} sent at QoS 1, each acknowledged by the broker")
    time.sleep(granted + _LONGER)
    with _Modern(address, name, 0) as client:
        time.sleep(_QUIET)
        came, present = len(client.came), client.present
    console.step(
        f"Awake after {granted + _LONGER:g} s: session_present={int(present)}, {came} of {messages}", done=False
    )
    return came


# ---- our device


def _device(
    address: BrokerAddress, folder: Path, expiry: int, messages: int, kind: process.Kind, console: Console
) -> tuple[str, str]:
    """How many commands came in the wake that found the session gone, and how many had come after the next one."""
    home = folder / "device"
    device = DemoDevice(home, f"demo-{token_hex(3)}", address, process.command(kind, home), clock="none")
    with _ledger(folder, address) as fleet:
        fleet.add(device.id)
        heard: list[str] = []
        seen: dict[str, Any] = {}

        def on_event(event: Event) -> None:
            if event.name == "say":
                heard.append(event.fields["text"])
            elif event.name == "connected":
                seen["present"] = event.fields["present"]

        device.wake(on_event, budget=8)
        console.step(f"First wake of {device.id}: MQTT 3.1.1, which has no word for how long a session lasts")
        with _Modern(address, device.id, expiry):
            pass
        console.step(f"The broker is made to forget it after {expiry} s: a MQTT 5 client of its id has asked for that")
        console.note("mosquitto's own setting for it, persistent_client_expiration, counts in hours")
        names = [fleet.send(device.id, "say", {"text": f"{_TEXT}{n}"}).name for n in range(1, messages + 1)]
        _until(lambda: all(fleet.result(name).status not in ("queued", "publishing") for name in names))
        console.step(f"Asleep; {messages} sent by the ledger, each acknowledged by the broker")
        time.sleep(expiry + _LONGER)
        device.wake(on_event, budget=8)
        first = f"{len(set(heard))} of {messages}"
        console.step(f"Awake after {expiry + _LONGER:g} s: session_present={int(seen['present'])}, {first}", done=False)
        _until(lambda: all(fleet.result(name).published > 1 or fleet.result(name).final for name in names))
        console.step("The device has reported the loss; the relay has published all of them again")
        device.wake(on_event, budget=8)
        views = [fleet.wait(name, _WITHIN) for name in names]
        done = sum(view.status == "succeeded" for view in views)
        once = heard == [f"{_TEXT}{n}" for n in range(1, messages + 1)]
        word = ", each exactly once and in order" if once else ""
        console.step(f"One wake later: {done} of {messages} succeeded{word}", done=once)
        return first, f"{done if once else 0} of {messages}"


@contextmanager
def _ledger(folder: Path, address: BrokerAddress) -> Iterator[Fleet]:
    """A ledger, and a relay that carries for it."""
    with Fleet(str(folder / "ledger.db")) as fleet:
        relay = fleet.relay(address, "demo")
        thread = threading.Thread(target=relay.run, name="relay", daemon=True)
        thread.start()
        try:
            yield fleet
        finally:
            relay.stop()
            thread.join(_WITHIN)


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + _WITHIN
    while not done():
        if time.monotonic() > end:
            raise HostError(f"the relay did not publish within {_WITHIN:g} s")
        time.sleep(_LOOK)
