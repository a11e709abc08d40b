"""One device going through the demo's three phases: it subscribes, it sleeps while messages are sent, it wakes.

Must stay true: a phase says only what its processes showed: what arrived is what the device logged, what was sent is
what the broker acknowledged; and the device process of one phase is gone before the next begins.
"""

from time import sleep

from dormouse import codec, protocol
from dormouse_host.address import BrokerAddress
from dormouse_host.broker.client import Publisher
from dormouse_host.console import Console
from dormouse_host.errors import HostError
from dormouse_host.lab.demo_device import DemoDevice, Event
from dormouse_host.lab.demo_outcome import Outcome, Variant

_TEST = "Test message"
_OFFLINE = "Offline message "
_LINGER = 4.0  # seconds that the first wake stays for the test message; it ends as soon as that has come
_PROOF = {
    "fence": "the fence came back behind the last message",
    "second fence": "the second fence came back behind the last message",
    "quiet": "not proven: no fence came back, and then nothing else either",
}


class Run:
    """The three phases with one variant. `console` tells them; `outcome` is what the third one showed."""

    def __init__(
        self,
        device: DemoDevice,
        address: BrokerAddress,
        variant: Variant,
        messages: int,
        budget: float,
        console: Console,
    ) -> None:
        self.outcome = Outcome(variant, messages)
        self._device = device
        self._address = address
        self._variant = variant
        self._budget = budget
        self._console = console
        self._known = False  # to the broker

    def _topic(self, leaf: str) -> str:
        topic: str = protocol.topic(protocol.ROOT, self._device.id, leaf)
        return topic

    def _publish(self, publisher: Publisher, texts: list[str], qos: int) -> None:
        commands = [codec.encode({"do": "say", "args": {"text": text}}) for text in texts]
        publisher.publish(self._topic(protocol.CMD), commands, qos)

    def subscribe(self) -> None:
        """Phase 1: one wake that subscribes and gets one message while it is connected."""
        say = self._console
        say.headline("Phase 1: the device connects and subscribes")
        with Publisher(self._address) as publisher:
            heard = []

            def on_event(event: Event) -> None:
                fields = event.fields
                if event.name == "connected":
                    self._known = True
                    say.step(
                        f"Connected as {self._device.id} with clean_session={self._variant.clean}, "
                        f"session_present={int(fields['present'])}"
                    )
                elif event.name == "drained":
                    say.step(f"Subscribed to {self._topic('down/#')} at QoS 1")
                    self._publish(publisher, [_TEST], 1)
                elif event.name == "say":
                    heard.append(fields["text"])
                    say.message(f"Received: {fields['text']}")
                elif event.name == "asleep":
                    say.step(f"Disconnected; the device's process ends after {fields['ms']} ms awake")

            self._device.wake(on_event, budget=self._budget, linger=min(_LINGER, self._budget / 2))
        if _TEST not in heard:
            raise HostError(f"device {self._device.id} connected but did not get the test message")

    def send(self) -> None:
        """Phase 2: messages for a device that has no process."""
        count, qos = self.outcome.sent, self._variant.qos
        self._console.headline(f"Phase 2: the device is asleep, {_messages(count)} sent")
        with Publisher(self._address) as publisher:
            self._console.step(f"Publisher connected to {self._address}")
            self._publish(publisher, [f"{_OFFLINE}{n}" for n in range(1, count + 1)], qos)
        answer = "each acknowledged by the broker" if qos else "acknowledged by nobody"
        self._console.step(f"Sent {count} to {self._topic(protocol.CMD)} at QoS {qos}, {answer}")

    def wait(self, seconds: float) -> None:
        """The rest of phase 2."""
        sleep(seconds)
        self._console.step(f"Waited {seconds:g} seconds; no device process exists")

    def receive(self) -> None:
        """Phase 3: one wake, and further ones while the device's budget ends them before its queue is empty."""
        say, outcome = self._console, self.outcome
        say.headline("Phase 3: a new device process with the same id wakes")
        before = -1
        while not outcome.how and len(outcome.arrived) > before:
            before = len(outcome.arrived)
            self._device.wake(self._on_wake, budget=self._budget)
            if not outcome.how:
                say.note(f"The wake's {self._budget:g} seconds were used up before its queue was empty")
        say.step(f"Queue empty: {_PROOF.get(outcome.how, 'no')}", done=outcome.drained)
        say.step(f"Asleep again after {outcome.turns} round trips and {outcome.ms} ms awake")
        once = ", each exactly once and in order" if outcome.complete else ""
        say.step(f"{outcome.count} messages arrived{once}", done=outcome.complete)

    def _on_wake(self, event: Event) -> None:
        outcome, fields = self.outcome, event.fields
        if event.name == "connected":
            if outcome.present is None:
                outcome.present = fields["present"]
            meaning = "the broker kept the session" if fields["present"] else "the broker knows no session"
            self._console.step(f"Connected as {self._device.id}, session_present={int(fields['present'])}: {meaning}")
        elif event.name == "say":
            text = fields["text"]
            if text.startswith(_OFFLINE):
                outcome.arrived.append(int(text.removeprefix(_OFFLINE)))
                self._console.message(f"Received offline message: {text}")
            else:
                self._console.note(f"Received again: {text}")
        elif event.name == "drained":
            outcome.how = fields["how"]
        elif event.name == "asleep":
            outcome.drained = fields["drained"]
            outcome.turns += fields["turns"]
            outcome.ms += fields["ms"]
            outcome.wakes += 1

    def clean_up(self) -> None:
        """Take the device's session and its retained wake report off the broker, if it ever came so far."""
        if not self._known:
            return
        with Publisher(self._address, self._device.id) as device:  # a clean session ends the kept one (MQTT-3.1.2-6)
            device.publish(self._topic(protocol.WAKE), [b""], retain=True)


def _messages(count: int) -> str:
    return "1 message is" if count == 1 else f"{count} messages are"
