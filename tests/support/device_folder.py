"""A device of the tests: a folder like a board's flash, one process per wake, and what its log told.

Must stay true: a wake's process is gone when `wake` returns; a traceback of the agent's fails the test whatever the
test looks for; nothing of the test's own environment decides why a device boots.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from dormouse_host.address import BrokerAddress
from dormouse_host.agent import process
from dormouse_host.agent.log import Event, parse

HUNG = 40  # seconds after which a wake's process counts as hung
COMES = 30  # seconds for what another process is to send: only a test that fails waits so long
BUDGET = 10  # seconds for a wake that a fault ends: none needs so many; the machine may be busy
LEDGER = "test"

APP = """
from dormouse import command, telemetry

@command("say", text=str)
def say(wake, text):
    wake.log("say", text=text)
    return {"said": text}
"""


class DeviceInterpreter:
    """One of the two interpreters, to run a device's wakes with."""

    def __init__(self, kind: process.Kind) -> None:
        self.kind = kind

    def command(
        self, device_dir: str | Path, heap: str = process.BOARD_HEAP, *, rom: bool = False
    ) -> tuple[list[str], dict[str, str]]:
        """argv and environment of one wake of the device in that folder; `rom`: from a ROMFS image."""
        return process.command(self.kind, device_dir, heap, rom=rom)


@dataclass(frozen=True)
class Ran:
    """One wake that is over. `code` is its exit code; `seconds` counts from the process's start to its end."""

    code: int
    events: list[Event]
    output: str
    seconds: float

    def all(self, name: str) -> list[dict[str, Any]]:
        """The fields of every event of that name."""
        return [event.fields for event in self.events if event.name == name]

    def one(self, name: str) -> dict[str, Any]:
        """The fields of the only event of that name."""
        found = self.all(name)
        assert len(found) == 1, f"{len(found)} × {name} in\n{self.output}"
        return found[0]

    def in_time(self, budget: float) -> bool:
        """Did the wake end within its budget and a tenth? A second more, for this machine may be busy."""
        return bool(self.one("asleep")["ms"] <= 1100 * budget + 1000)

    @property
    def said(self) -> list[str]:
        """What the command `say` was told, in order."""
        return [fields["text"] for fields in self.all("say")]


def failed(ran: Ran, code: int, budget: float = BUDGET) -> dict:
    """The only error of a wake that ended with `code`, in time."""
    assert ran.code == code, ran.output
    assert ran.in_time(budget)
    assert ran.events[-1].name == "asleep"
    return ran.one("error")


def command(state: str | None, number: int, do: str, ledger: str = LEDGER, /, **args: object) -> bytes:
    """A command's payload; `state` is None for one without an id."""
    message: dict[str, Any] = {} if state is None else {"id": f"{state}-{ledger}.{number}", "u": f"u{number}"}
    message.update(do=do)
    if args:
        message.update(args=args)
    return json.dumps(message).encode()


def say(text: str) -> bytes:
    """A command without an id."""
    return command(None, 0, "say", text=text)


class Device:
    """A device with id `dev`. `app` is its app.py; further keys go into config.json."""

    def __init__(self, folder: Path, interpreter, broker: str, app: str = APP, **config: object) -> None:
        self.folder = folder
        self.interpreter = interpreter
        self.config: dict[str, Any] = {"id": "dev", "broker": broker, **config}
        folder.mkdir(exist_ok=True)
        (folder / "app.py").write_text(app)
        self.configure()

    def configure(self, **changed: object) -> None:
        """Write config.json, with these keys changed for good."""
        self.config.update(changed)
        (self.folder / "config.json").write_text(json.dumps(self.config))

    def secrets(self, **values: str) -> None:
        (self.folder / "secrets.json").write_text(json.dumps(values))

    def start(
        self, cause: str = "power", heap: str = process.BOARD_HEAP, then: str = "", *, rom: bool = False
    ) -> "Process":
        """A wake that runs on. `cause` is the boot's; `then` is Python for the same process when the wake is over;
        `rom`: with the agent in a ROMFS image.
        """
        argv, environment = self.interpreter.command(self.folder, heap, rom=rom)
        if then:
            run = f"import sys; from dormouse.ports.posix import main; code = main({str(self.folder)!r})"
            argv = [*argv[: argv.index("-m")], "-c", f"{run}; {then}; sys.exit(code)"]
        return Process(argv, {**environment, "DORMOUSE_CAUSE": cause})

    def wake(self, cause: str = "power", **how: Any) -> Ran:
        """One wake from start to end."""
        with self.start(cause, **how) as process:
            return process.end()


class Process:
    """A device process; it ends with the `with` block."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self._began = time.monotonic()
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self.child = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout
        for line in self.child.stdout:
            with self._changed:
                self._lines.append(line.decode(errors="replace").rstrip())
                self._changed.notify_all()

    def until(self, name: str, seconds: float = COMES) -> None:
        """Wait for an event of that name."""

        def seen() -> bool:
            events = [parse(line) for line in self._lines]
            return any(event and event.name == name for event in events)

        with self._changed:
            assert self._changed.wait_for(seen, seconds), f"no {name} in {seconds} s:\n" + "\n".join(self._lines)

    def cut(self) -> None:
        """The power goes."""
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def end(self, seconds: float = HUNG) -> Ran:
        """Wait for the end of the wake."""
        try:
            code = self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError("the wake hung:\n" + "\n".join(self._lines)) from None
        took = time.monotonic() - self._began
        self._reader.join(COMES)
        output = "\n".join(self._lines)
        assert "Traceback" not in output, output
        return Ran(code, [event for event in map(parse, self._lines) if event], output, took)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        self._reader.join(COMES)


class Host:
    """What sends commands to a device and hears it, on a real broker. A context manager."""

    def __init__(self, address: BrokerAddress, device: str = "dev", keep: bool = False) -> None:
        """With `keep` the broker holds what comes while this is away; it is always there again within a second."""
        self.messages: list[tuple[str, Any, bool]] = []  # (leaf, value, retained), in order of arrival
        self._prefix = f"dormouse/{device}/"
        self._ready = threading.Event()
        self._changed = threading.Condition()
        name = f"host-of-{device}-{os.getpid()}"
        self._client = paho.Client(CallbackAPIVersion.VERSION2, name, clean_session=not keep)
        self._client.on_connect = lambda client, *_: client.subscribe(self._prefix + "up/#", 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.connect(address.host, address.port)
        self._client.loop_start()
        assert self._ready.wait(COMES)

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            leaf = message.topic.removeprefix(self._prefix)
            self.messages.append((leaf, json.loads(message.payload.partition(b"\n")[0]), message.retain))
            self._changed.notify_all()

    def send(self, *payloads: bytes, leaf: str = "down/cmd", qos: int = 1, retain: bool = False) -> None:
        """Publish, and wait for the broker's PUBACKs."""
        for info in [self._client.publish(self._prefix + leaf, each, qos, retain) for each in payloads]:
            info.wait_for_publish(COMES)
            assert info.is_published()

    def heard(self, leaf: str) -> list[Any]:
        """What has come on `leaf` so far, the retained copy apart."""
        return [value for name, value, retained in self.messages if name == leaf and not retained]

    def wait(self, leaf: str, count: int = 1) -> Any:
        """The `count`-th message on `leaf`."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heard(leaf)) >= count, COMES), self.messages
        return self.heard(leaf)[count - 1]

    def some(self, leaf: str, fits: Callable[[Any], bool]) -> Any:
        """The first message on `leaf` that fits."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(fits, self.heard(leaf))), COMES), self.heard(leaf)
        return next(filter(fits, self.heard(leaf)))

    def results(self, count: int) -> list[dict[str, Any]]:
        """The results, of which there must be `count`."""

        def found() -> list[dict[str, Any]]:
            return [entry for batch in self.heard("up/result") for entry in batch]

        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= count, COMES)
        assert len(found()) == count, found()
        return found()

    def answers(self, count: int) -> dict[str, dict[str, Any]]:
        """What `count` commands came to, by their ids; a device says it again where no acknowledgement reached it."""

        def found() -> dict[str, dict[str, Any]]:
            return {entry["id"]: entry for batch in self.heard("up/result") for entry in batch}

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, COMES), found()
        every = [entry for batch in self.heard("up/result") for entry in batch]
        assert all(entry == found()[entry["id"]] for entry in every), every
        return found()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
