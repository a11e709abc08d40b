"""Findings of a broker check, and the case that the probes work on.

A row says what was seen, never what a document promises. A probe that could not run says so. Only topics of throw-away
ids are used, so that no other traffic is touched.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dormouse import protocol
from dormouse_host import files, probes
from dormouse_host.address import BrokerAddress, parse
from dormouse_host.broker import access, credentials, folder
from dormouse_host.broker.folder import BrokerFolder
from dormouse_host.broker_check.probe import MOST, Client, NoAnswer, fresh
from dormouse_host.errors import HostError

Grade = Literal["ok", "note", "warning", "broken", "not tried"]
SEVERITY = {"broken": 4, "warning": 3}  # the worst row decides the exit code; 0 where no row is listed here


@dataclass(frozen=True)
class Row:
    """One finding. `means`: the consequence; `setting`: what changes it, by broker. Both are empty if all is well.
    `profile`: keys of the broker's profile with which devices and relay work there.
    """

    key: str
    what: str
    seen: str
    grade: Grade
    means: str = ""
    setting: str = ""
    profile: dict[str, Any] = field(default_factory=dict)


@dataclass
class Case:
    """A broker under test. `devices`: its address with credentials of devices, whose user names are their ids.

    `slow`: a factor on the time that the broker has to deliver.
    """

    host: BrokerAddress
    devices: Sequence[BrokerAddress] = ()
    root: str = protocol.ROOT
    depth: int = 2000
    restart: Callable[[], object] | None = None
    slow: float = 1.0
    some: int = 300  # commands that queue for one device: as many as the relay lets wait, more than any window
    asleep: float | None = None  # seconds after which a sleeper is looked for
    forgets: float | None = None  # seconds after which this broker forgets one, by its own configuration; inf: never
    mqtt5: bool = False  # set by a probe
    overtakes: bool = False  # … as is this: live messages overtake stored ones
    used: list[tuple[BrokerAddress, str]] = field(default_factory=list)  # sessions to end afterwards

    def device(self, n: int = 0) -> "Device":
        """The n-th throw-away device, with its own credential, or with the host's credential and a new name."""
        if n < len(self.devices):
            address = self.devices[n]
            return Device(self, address, address.user or "")
        return Device(self, self.host, fresh())

    def client(
        self, *, mqtt5: bool | None = None, clean: bool = True, client_id: str | None = None, hold: bool = False
    ) -> Client:
        """A client in the relay's place. One at a time: the broker may give one credential one client id."""
        mqtt5 = self.mqtt5 if mqtt5 is None else mqtt5
        name = client_id or fresh()
        if not clean:
            self.used.append((self.host, name))
        return Client(self.host, name, clean=clean, mqtt5=mqtt5, hold=hold, most=self.most)

    @property
    def most(self) -> int:
        """Messages that a client accepts: each published one twice."""
        return MOST + 2 * self.depth

    def clean_up(self) -> None:
        """End every session that was kept."""
        for address, name in dict.fromkeys(self.used):
            with suppress(NoAnswer), Client(address, name, clean=True) as client:
                client.connect().close()


@dataclass
class Device:
    """A throw-away device: its address and its id."""

    case: Case
    address: BrokerAddress
    id: str

    def topic(self, leaf: str) -> str:
        """One of its topics."""
        text: str = protocol.topic(self.case.root, self.id, leaf)
        return text

    @property
    def all_down(self) -> str:
        """Its one subscription."""
        return self.topic("down/#")

    def client(self, *, clean: bool = False, hold: bool = False) -> Client:
        """A connection under its id, as MQTT 3.1.1 has it."""
        self.case.used.append((self.address, self.id))
        return Client(self.address, self.id, clean=clean, hold=hold, most=self.case.most)

    def sleep(self) -> "Device":
        """Start a new session, subscribe and go to sleep; the broker should keep the session."""
        if self.case.devices:  # its id is no new one
            with self.client(clean=True) as client:
                client.connect().close()
        with self.client() as client:
            client.connect().subscribe(self.all_down)
            client.close()
        return self

    def wake(self, client: Client, nonce: bytes, more: int = 0) -> None:
        """The first flight as the agent sends it, all before CONNACK; `more` publishes beside the report."""
        client.start()
        mid = client.ask(self.all_down)
        client.send(self.topic(protocol.WAKE), [probes.payload(True)])
        client.send(self.topic(protocol.TELEMETRY), [probes.payload(True)] * more)
        client.send(self.topic(protocol.FENCE), [nonce])
        client.finish()
        client.granted(mid)

    def drained(self, client: Client, nonce: bytes, seconds: float = 10.0) -> list[bytes] | None:
        """The commands that came before the fence's copy; None where that never came."""
        fence, cmd = self.topic(protocol.FENCE), self.topic(protocol.CMD)

        def back() -> bool:
            return any(m.topic == fence and m.payload == nonce for m in client.came)

        if not client.work(back, self.case.slow * seconds):
            return None
        at = next(n for n, m in enumerate(client.came) if m.topic == fence and m.payload == nonce)
        return [m.payload for m in client.came[:at] if m.topic == cmd]

    def commands(self, client: Client) -> list[bytes]:
        """All commands that have come so far."""
        return [m.payload for m in client.came if m.topic == self.topic(protocol.CMD)]


@contextmanager
def trial(made: BrokerFolder, depth: int) -> Iterator[Case]:
    """A case for the broker of a folder, with temporary credentials. HostError where the broker does not run."""
    name, project = fresh(), Path(tempfile.mkdtemp(prefix="dormouse-check-"))
    devices = [fresh(), fresh()]
    try:
        with made.alone():  # which is told of it with the devices
            access.let_relay_in(made, name)
        host = _address(access.read_environment(files.read(made.relay_file(name))))
        for device in devices:
            told = credentials.provision(made, device, project).told
        if not told:
            raise HostError(f"the broker does not run here; start it: {made.command}", 2)
        secrets = [
            json.loads((project / credentials.DEVICES / device / "secrets.json").read_text()) for device in devices
        ]
        forgets = folder.session_expiry(made.configuration)
        yield Case(host, [replace(host, **one) for one in secrets], made.root, depth, forgets=forgets)
    finally:
        with suppress(HostError):  # it never was
            access.remove_relay(made, name)
        with made.alone():
            for device in devices:
                folder.remove_password(made.passwd, device)
            made.reload()
        shutil.rmtree(project)


def _address(said: dict[str, str]) -> BrokerAddress:
    return parse(said["DORMOUSE_BROKER"], said)


def numbered(count: int) -> list[bytes]:
    """Payloads that are numbered."""
    return [probes.payload(n) for n in range(count)]


def is_denied(client: Client, act: Callable[[], object]) -> bool:
    """Did the broker refuse it openly, by closing the connection or by an error code?"""
    try:
        act()
    except NoAnswer:
        return True
    return not client.alive
