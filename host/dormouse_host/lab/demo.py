"""`dormouse demo`: a persistent session in three phases, with a real broker, a real publisher and a real device.

Every number of the closing table was counted in this run: what arrived is what the device logged, what was sent is what
the broker acknowledged. The broker that the demo started is stopped, and a foreign one is left as it was found.
"""

import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from time import sleep

from dormouse import codec, protocol
from dormouse_host.address import BrokerAddress, parse
from dormouse_host.agent import process, toolchain
from dormouse_host.agent.log import Event
from dormouse_host.broker.client import Publisher
from dormouse_host.broker.local import Embedded, LocalBroker, Mosquitto
from dormouse_host.errors import HostError
from dormouse_host.lab.demo_device import DemoDevice
from dormouse_host.terminal import Console

_WAIT = 2.0  # seconds between the last publish and the wake
_CONTRAST_WAIT = 0.5  # the same in the runs for contrast: enough for QoS 0 to arrive
_HEAD = ("clean_session", "QoS", "arrived", "session_present", "proven by", "round trips", "ms awake")
_TEST = "Test message"
_OFFLINE = "Offline message "
_LINGER = 4.0  # seconds that the first wake waits for the test message at most
_PROOF = {
    "fence": "the fence came back behind the last message",
    "second fence": "the second fence came back behind the last message",
    "quiet": "not proven: no fence came back, then silence",
}


@dataclass(frozen=True)
class Variant:
    """The two settings that decide whether messages queue for a sleeping device."""

    clean: bool
    qos: int

    def __str__(self) -> str:
        """As the closing lines name it."""
        return f"clean_session={self.clean}, QoS {self.qos}"


@dataclass
class Outcome:
    """The outcome of the third phase of one variant."""

    variant: Variant
    sent: int
    arrived: list[int] = field(default_factory=list)  # message numbers, in the order of arrival
    present: bool | None = None  # session_present of the first wake
    drained: bool = False
    how: str = ""  # how the last wake's drain ended, in the device's words; empty where its budget ended it
    wakes: int = 0
    turns: int = 0  # round trips, TCP's handshake included
    ms: int = 0  # awake

    @property
    def complete(self) -> bool:
        """Every message exactly once and in order."""
        return self.arrived == list(range(1, self.sent + 1))

    @property
    def count(self) -> str:
        """`3 of 3`: different messages that arrived, of those sent."""
        return f"{len(set(self.arrived))} of {self.sent}"

    @property
    def missing(self) -> list[int]:
        """The numbers that did not arrive."""
        return sorted(set(range(1, self.sent + 1)) - set(self.arrived))

    @property
    def repeated(self) -> list[int]:
        """The numbers that arrived more than once."""
        return sorted(number for number, times in Counter(self.arrived).items() if times > 1)

    @property
    def late(self) -> list[int]:
        """The numbers that arrived first after a higher one."""
        late, highest, seen = [], 0, set[int]()
        for number in self.arrived:
            if number < highest and number not in seen:
                late.append(number)
            seen.add(number)
            highest = max(highest, number)
        return late

    def fault(self) -> str:
        """What is wrong in one line, or an empty text."""
        kinds = (("missing", self.missing), ("more than once", self.repeated), ("out of order", self.late))
        found = [f"{name}: {ranges(numbers)}" for name, numbers in kinds if numbers]
        if not found:
            return ""
        return "; ".join([f"{self.count} messages arrived", *found, *self._cause()])

    def _cause(self) -> list[str]:
        if not self.missing:
            return []
        if not self.how:
            return ["the device could not drain its queue within its budget"]
        if self.variant.clean:
            return ["with clean_session=True the broker deletes the session at the disconnect"]
        if self.present is False:
            return ["the broker lost the session (session_present=0)"]
        if self.variant.qos == 0:
            return ["QoS 0 is not queued for a sleeping device"]
        if self.arrived and self.missing[0] > max(self.arrived):
            kept = len(set(self.arrived))
            return [
                f"the broker acknowledged all {self.sent} but kept the first {kept}: "
                "its max_queued_messages is reached (mosquitto's default is 1000)"
            ]
        return []


def ranges(numbers: Sequence[int]) -> str:
    """`1, 3–7, 9` for ascending numbers."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("–".join(map(str, part)) for part in parts)


# ---- one device through the three phases


class Run:
    """The three phases of one variant. They are printed on `console`; `outcome` is that of the third one."""

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
        self._known = False  # has it a session at the broker?

    def _topic(self, leaf: str) -> str:
        topic: str = protocol.topic(protocol.ROOT, self._device.id, leaf)
        return topic

    def _publish(self, publisher: Publisher, texts: list[str], qos: int) -> None:
        commands = [codec.encode({"do": "say", "args": {"text": text}}) for text in texts]
        publisher.publish(self._topic(protocol.CMD), commands, qos)

    def subscribe(self) -> None:
        """Phase 1: a wake that subscribes and gets one message while connected."""
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
        """Phase 2: messages for a device without a process."""
        count, qos = self.outcome.sent, self._variant.qos
        self._console.headline(f"Phase 2: the device is asleep, {_messages(count)} sent")
        with Publisher(self._address) as publisher:
            self._console.step(f"Publisher connected to {self._address}")
            self._publish(publisher, [f"{_OFFLINE}{n}" for n in range(1, count + 1)], qos)
        answer = "each acknowledged by the broker" if qos else "without acknowledgement"
        self._console.step(f"Sent {count} to {self._topic(protocol.CMD)} at QoS {qos}, {answer}")

    def wait(self, seconds: float) -> None:
        """The rest of phase 2."""
        sleep(seconds)
        self._console.step(f"Waited {seconds:g} seconds; no device process exists")

    def receive(self) -> None:
        """Phase 3: a wake, and more while the device's budget ends them before its queue is empty."""
        say, outcome = self._console, self.outcome
        say.headline("Phase 3: a new device process with the same id wakes")
        before = -1
        while not outcome.how and len(outcome.arrived) > before:
            before = len(outcome.arrived)
            self._device.wake(self._on_wake, budget=self._budget)
            if not outcome.how:
                say.note(f"The wake ended after {self._budget:g} seconds with messages still queued")
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
        """Remove the device's session and retained wake report from the broker."""
        if not self._known:
            return
        with Publisher(self._address, self._device.id) as device:  # a clean session ends the kept one (MQTT-3.1.2-6)
            device.publish(self._topic(protocol.WAKE), [b""], retain=True)


def _messages(count: int) -> str:
    return "1 message is" if count == 1 else f"{count} messages are"


# ---- all three variants


_VARIANTS = (Variant(clean=False, qos=1), Variant(clean=True, qos=1), Variant(clean=False, qos=0))


@dataclass(frozen=True)
class Options:
    """The options of the command line. `device`: `micropython`, `cpython`, or None for the best available."""

    url: str | None = None
    messages: int = 3
    variant: Variant = _VARIANTS[0]
    device: process.Kind | None = None
    budget: float = 8


def run(
    options: Options,
    environment: Mapping[str, str],
    console: Console,
    on_end: Callable[[list[Outcome]], object] = lambda outcomes: None,
) -> None:
    """Run the demo; `on_end` gets the outcomes. HostError with code 1 unless every message arrived once, in order."""
    foreign = parse(options.url, environment) if options.url else None
    if foreign and foreign.tls:
        raise HostError("the demo's device has no CA for TLS: use mqtt://", 2)
    kind, described = interpreter(options.device)
    with _broker(foreign) as (address, broker), tempfile.TemporaryDirectory(prefix="dormouse-demo-") as folder:
        console.line(f"Broker: {broker}")
        console.line(f"Device: {described}")
        made = f"demo-{token_hex(3)}"

        def prepare(variant: Variant, device_id: str, console: Console) -> Run:
            home = Path(folder, device_id)
            home.mkdir()
            command = process.command(kind, home)
            device = DemoDevice(home, device_id, address, command, clean_session=variant.clean)
            return Run(device, address, variant, options.messages, options.budget, console)

        told = prepare(options.variant, made, console)
        contrasts = [variant for variant in _VARIANTS if variant != options.variant]
        others = [prepare(each, f"{made}-{n}", Console(quiet=True)) for n, each in enumerate(contrasts, 1)]
        with _left_as_found([told, *others] if foreign else [], console):
            _tell(told)
            _contrast(others, console)
    console.line()
    outcomes = [each.outcome for each in (told, *others)]
    console.table(_HEAD, [_row(outcome) for outcome in outcomes])
    on_end(outcomes)
    if told.outcome.fault():
        raise HostError(told.outcome.fault())


def _tell(run: Run) -> None:
    """The run that is printed step by step."""
    run.subscribe()
    run.send()
    run.wait(_WAIT)
    run.receive()


def _contrast(runs: list[Run], console: Console) -> None:
    """The other variants, in a line each."""
    console.headline("For contrast, the same with")
    for run in runs:
        run.subscribe()
        run.send()
    runs[-1].wait(_CONTRAST_WAIT)
    for run in runs:
        run.receive()
        console.step(f"{run.outcome.variant}: {run.outcome.count} arrived", done=run.outcome.complete)
        if run.outcome.arrived and not run.outcome.variant.qos:
            console.note("This broker queues QoS 0 too, which MQTT does not require (3.1.1, section 4.3.1)")


@contextmanager
def _left_as_found(runs: list[Run], console: Console) -> Iterator[None]:
    """Remove from a foreign broker what the runs left there. If it refuses, report that and stop."""
    try:
        yield
    finally:
        try:
            for run in runs:
                run.clean_up()
        except HostError as error:
            console.note(f"A session and a wake report remain at the broker: {error}")


def interpreter(wanted: process.Kind | None) -> tuple[process.Kind, str]:
    """The interpreter of the device and its description: MicroPython where available, unless `wanted`."""
    if wanted != "cpython":
        found = toolchain.require_micropython() if wanted else toolchain.micropython()
        if found:
            return "micropython", str(found)
    return "cpython", f"CPython {platform.python_version()}"


@contextmanager
def _broker(foreign: BrokerAddress | None) -> Iterator[tuple[BrokerAddress, str]]:
    """The broker's address and description; one of our own, stopped at the end, where none is given."""
    if foreign:
        yield foreign, str(foreign)
        return
    program = toolchain.mosquitto()
    own: LocalBroker = Mosquitto(program) if program else Embedded()
    with own:
        why = "" if program else " because mosquitto is not installed"
        yield own.address, f"{own.name} on {own.address}, started for this run{why}"


def _row(outcome: Outcome) -> tuple[str, ...]:
    present = "?" if outcome.present is None else str(int(outcome.present))
    return (
        str(outcome.variant.clean),
        str(outcome.variant.qos),
        outcome.count,
        present,
        outcome.how if outcome.drained else "nothing",
        str(outcome.turns),
        str(outcome.ms),
    )
