"""One row: three wakes of one device, the middle one in bad company, and what must be true of them.

Must stay true: every row is judged by all the rules here; a case can add rules and take none away. Two commands and
three telemetry records have to come through in any case, each exactly once.
"""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dormouse_host.agent.process import Kind
from dormouse_host.broker.local import Mosquitto, free_port
from support.certificates import Authority, listener, server_context
from support.device_folder import COMES, Device, DeviceInterpreter, Host, Ran, command
from support.needs import need_mosquitto
from support.on_device import MEMORY

BUDGET = 2  # s
PATIENCE = 600  # ms, in the second wake
PATIENT = 5000  # ms, in the others
HEAP = "64k"  # with the agent in a ROMFS image, as for a board with little RAM
QUIET = "silent for|budget is used up"  # which of them comes first is a matter of the machine
TEXTS = ["21,5 °C", "漢字 🌙"]

APP = """
from dormouse import command, telemetry

@command("say", text=str)
def say(wake, text):
    wake.log("say", text=text)
    return {"said": text}

@telemetry()
def climate(wake):
    return {"unit": "°C"}
"""


class World:
    """What all rows share: a CA, a mosquitto with a plain and a TLS listener, and a name for each device."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = Authority(folder)
        self.pair = self.ca.sign("localhost", "127.0.0.1")
        (folder / "acl").write_text("topic deny dormouse/+/down/fence\ntopic readwrite #\n")
        self._count = 0
        self.lock = threading.Lock()
        self.stack = ExitStack()
        self.broker, self.secure_port = self.stack.enter_context(self.new_broker())

    @contextmanager
    def new_broker(self, settings: tuple[str, ...] = ()) -> Iterator[tuple[Mosquitto, int]]:
        """A mosquitto with a second listener for TLS, and that one's port."""
        port = free_port()
        lines = [
            "max_queued_messages 100000",
            *(each.format(folder=self.folder) for each in settings),
            *listener(port, self.pair),
        ]
        with Mosquitto(need_mosquitto(), lines) as broker:
            yield broker, port

    def name(self) -> str:
        """A client id that no other row has."""
        with self.lock:
            self._count += 1
            return f"hostile-{self._count}"

    def close(self) -> None:
        self.stack.close()


@contextmanager
def new_world() -> Iterator[World]:
    """A world that ends with the `with` block."""
    with tempfile.TemporaryDirectory(prefix="dormouse-hostile-") as folder:
        world = World(Path(folder))
        try:
            yield world
        finally:
            world.close()


@dataclass(frozen=True)
class Case:
    """One way of being hostile. `company(stage)` is a context manager around the second wake, which yields the port
    that the device connects to then. `reason`: words of the next report's `last.why`, or others after a `|`; None where
    nothing went wrong. `codes` are the exit codes that the wake may end with.
    """

    name: str
    company: Callable[["Stage"], Any]
    reason: str | None = None
    codes: tuple[int, ...] = (0,)
    tls: tuple[bool, ...] = (False, True)
    config: dict[str, Any] = field(default_factory=dict)
    budget: float = BUDGET
    check: Callable[["Stage"], list[str]] = lambda stage: []
    queue: Callable[["Stage"], list[bytes]] | None = None  # instead of the two commands: payloads to be said in order
    after: Callable[["Stage"], None] = lambda stage: None  # between the second wake and the third
    fence: bool = True  # does it work at the third wake?
    settings: tuple[str, ...] = ()  # of a broker of its own
    seconds: float = 40  # the longest that the second wake's process may take
    app: str = ""  # further lines of the device's program
    slow: bool = False


@dataclass
class Row:
    """What a case came to."""

    case: str
    interpreter: str
    tls: bool
    faults: list[str]
    awake: int = 0  # ms of the second wake, from when its budget began
    reason: str = ""
    output: str = ""

    @property
    def late(self) -> bool:
        """Is nothing wrong but the time, on a machine that others use?"""
        return len(self.faults) == 1 and self.faults[0].startswith("awake for")


class Stage:
    """One row while it runs."""

    def __init__(self, world: World, case: Case, kind: Kind, tls: bool, folder: Path, stack: ExitStack) -> None:
        self.world, self.case, self.kind, self.tls = world, case, kind, tls
        self.stack = stack
        self.broker, self.secure_port = world.broker, world.secure_port
        if case.settings:
            self.broker, self.secure_port = stack.enter_context(world.new_broker(case.settings))
        self.id = world.name()
        config = {"id": self.id, **case.config}
        if tls:
            config["ca"] = "ca.der"
        self.device = Device(folder / "device", DeviceInterpreter(kind), "mqtt://127.0.0.1:9", APP + case.app, **config)
        (self.device.folder / "ca.der").write_bytes(world.ca.der)
        self.ran: list[Ran] = []
        self.host = stack.enter_context(Host(self.broker.address, self.id, keep=True))
        self.state = ""
        self.texts = list(TEXTS)
        self.notes: dict[str, Any] = {}  # what a case keeps for its check

    @property
    def context(self) -> Any:
        """For a server in the broker's place: its TLS, or None."""
        return server_context(self.world.pair) if self.tls else None

    def home(self) -> int:
        """The broker's own port."""
        return self.secure_port if self.tls else self.broker.address.port

    def say(self, number: int, text: str) -> bytes:
        """A command with an id."""
        return _utf8(command(self.state, number, "say", text=text))

    def wake(self, port: int, budget: float, seconds: float = 40, patience: int = PATIENT) -> Ran:
        """A wake with the broker at `port`."""
        scheme = "mqtts" if self.tls else "mqtt"
        total = max(600, budget + 60)
        self.device.configure(broker=f"{scheme}://127.0.0.1:{port}", budget=budget, total=total, patience=patience)
        with self.world.lock:  # compiling is not for several threads at once
            process = self.device.start(heap=HEAP, rom=True)
        with process:
            self.ran.append(process.end(seconds))
        return self.ran[-1]

    def results(self) -> list[dict[str, Any]]:
        """Every result that the host has."""
        return [entry for batch in self.host.heard("up/result") for entry in batch]


def _utf8(payload: bytes) -> bytes:
    """The same JSON with characters in place of escapes."""
    return json.dumps(json.loads(payload), ensure_ascii=False).encode()


def awake(ran: Ran) -> int:
    """Milliseconds from when the budget began to the end of the wake."""
    begun = [int(line.split()[1]) for line in ran.output.splitlines() if " connecting " in line]
    return int(ran.one("asleep")["ms"]) - (begun[0] if begun else 0)


def run(world: World, case: Case, kind: Kind, tls: bool) -> Row:
    """The row; what goes wrong in the case itself is a fault, too."""
    row = Row(case.name, kind, tls, [])
    with tempfile.TemporaryDirectory(prefix="dormouse-hostile-", dir=MEMORY) as folder:
        with ExitStack() as stack:
            stage = Stage(world, case, kind, tls, Path(folder), stack)
            try:
                _play(stage)
                row.faults = _judge(stage)
            except Exception as error:
                row.faults.append(f"{type(error).__name__}: {error}")
        if len(stage.ran) > 1:
            row.awake = awake(stage.ran[1])
        row.reason = stage.notes.get("why") or "-"
        row.output = "\n".join(ran.output for ran in stage.ran)
    return row


def _play(stage: Stage) -> None:
    case, host = stage.case, stage.host
    first = stage.wake(stage.home(), 20)
    assert first.code == 0, first.output
    stage.state = host.wait("up/wake")["state"]
    payloads = [stage.say(n, text) for n, text in enumerate(stage.texts, 1)]
    if case.queue:
        payloads = case.queue(stage)
    host.send(*payloads)
    with case.company(stage) as port:
        stage.wake(port, case.budget, case.seconds, case.config.get("patience", PATIENCE))
    case.after(stage)
    third = stage.wake(stage.home(), 60, 90)
    deadline = time.monotonic() + COMES
    while time.monotonic() < deadline and not _all_here(stage, third):
        time.sleep(0.02)


def _numbers(stage: Stage) -> list[int]:
    return sorted({record[0] for batch in stage.host.heard("up/telemetry") for record in batch["records"]})


def _all_here(stage: Stage, last: Ran) -> bool:
    ends = [end["wake"] for end in stage.host.heard("up/end")]
    stage.notes["report"] = stage.host.heard("up/wake")[-1]
    return _numbers(stage) == [1, 2, 3] and len(stage.results()) >= len(stage.texts) and 3 in ends


def _judge(stage: Stage) -> list[str]:
    """What is wrong with the row."""
    case = stage.case
    second, third = stage.ran[1:]
    end = stage.host.heard("up/end")[-1]
    found = []
    if awake(second) > 1100 * case.budget:
        found.append(f"awake for {awake(second)} ms, with a budget of {1000 * case.budget:g}")
    if second.code not in case.codes:
        found.append(f"exit code {second.code}")
    if third.code or third.one("asleep")["drained"] != case.fence or end["fence_dead"] == case.fence:
        found.append(f"the next wake: exit code {third.code}, {third.one('asleep')}")
    if _numbers(stage) != [1, 2, 3]:
        found.append(f"lost: telemetry, only {_numbers(stage)} came")
    said = second.said + third.said
    for text in stage.texts:
        if said.count(text) != 1:
            found.append(f"{'lost' if text not in said else 'twice'}: {text} was said {said.count(text)} times")
        values = {str(result.get("value")) for result in stage.results() if result["status"] == "succeeded"}
        if str({"said": text}) not in values:
            found.append(f"lost: the result of {text}")
    why = stage.notes["report"]["last"].get("why")
    stage.notes["why"] = why
    if (why is None) != (case.reason is None) or not any(
        words in (why or "") for words in (case.reason or "").split("|")
    ):
        found.append(f"the next report's reason is {why}, not {case.reason}")
    return found + case.check(stage)
