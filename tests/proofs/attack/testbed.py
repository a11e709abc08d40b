"""What is attacked: a broker of `broker init`, `dormouse relay` as a process, devices that `provision` made.

Must stay true: everything that it wrote, printed or was started with is kept, so that secrets can be looked for in it;
every process ends with the `with` block.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn, Self

from dormouse_host import Fleet, processes
from dormouse_host.address import BrokerAddress
from dormouse_host.agent import toolchain
from dormouse_host.broker import access, credentials
from dormouse_host.broker.client import Publisher
from dormouse_host.broker_check.probe import Client, NoAnswer
from dormouse_host.cli import app
from support import made_broker
from support.device_folder import Device, DeviceInterpreter, Ran
from support.waiting import until

APP = """
from dormouse import command, telemetry

@command("open", s=int, note=(str, ""))
def valve(wake, s, note):
    wake.log("opened", s=s, note=note)
    return {"opened": s, "note": note}

@telemetry()
def climate(wake):
    return {"t": 1}
"""


class Testbed:
    """A broker of `broker init`, a ledger with its relay, and devices, to be attacked. A context manager."""

    __test__ = False  # its name begins as those of test classes do

    def __init__(self, db: str | None = None, *, loose: bool = False, accept_new: bool = False) -> None:
        """`db`: a database's URL instead of a file. `loose`: the broker's two locks are off, rights by user and client
        ids tied to them. `accept_new`: the relay makes devices of ids that nobody registered.
        """
        self._more = ["--accept-new"] if accept_new else []
        self._temporary = tempfile.TemporaryDirectory(prefix="dormouse-attack-")
        self.folder = Path(self._temporary.name)
        self.made = made_broker.make(self.folder / "broker")
        if loose:
            conf = self.made.configuration
            text = conf.read_text().replace("use_username_as_clientid true", "").replace("acl_file", "# acl_file")
            conf.write_text(text)
        self.broker = made_broker.MadeBroker(self.made)
        self.db = db or str(self.folder / "ledger.db")
        self.said: list[str] = []  # what commands of the line and devices printed
        self.arguments: list[str] = []  # what processes were started with, as /proc has it
        self.secrets: dict[str, str] = {}  # secret -> whose
        self.interpreter = DeviceInterpreter("micropython" if toolchain.micropython() else "cpython")
        self._relay: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.broker.start()
        said = access.read_environment(self.made.relay_file("main").read_text())
        self.secrets[said["MQTT_PASSWORD"]] = "the relay's password"
        with Fleet(self.db, make=True):
            pass
        around = {**os.environ, **said, "DORMOUSE_DB": self.db}
        argv = [sys.executable, "-m", "dormouse_host.cli", "relay", "--name", "main", *self._more]
        with (self.folder / "relay.log").open("wb") as log:
            self._relay = processes.start(argv, output=log, env=around)
        until(lambda: "info connected" in self.log("relay"))
        return self

    def __exit__(self, *_: object) -> None:
        if self._relay:
            processes.stop(self._relay)
        self.broker.close()
        self._temporary.cleanup()

    def log(self, of: str) -> str:
        """What the relay or the broker has logged."""
        return (self.folder / "relay.log" if of == "relay" else self.broker.log).read_text(errors="replace")

    @property
    def relay(self) -> int:
        """The process of the relay."""
        assert self._relay
        return self._relay.pid

    @property
    def fleet(self) -> Fleet:
        """The ledger; to be used with `with`."""
        return Fleet(self.db)

    # ---- devices

    def device(self, *, cert: bool = False, key: bool = False, **config: Any) -> Device:
        """A new device that has been let in, as a folder like a board's flash."""
        name = f"d{secrets.token_hex(3)}"
        files = credentials.provision(self.made, name, self.folder, cert=cert).folder
        with self.fleet as fleet:
            fleet.add(name)
            if key:
                fleet.ledger.set_key(name, credentials.sign(name, self.folder)[1])
        said = {**json.loads((files / "config.json").read_text()), **config}
        device = Device(self.folder / name, self.interpreter, said.pop("broker"), app=APP, **said)
        for file in files.glob("*.der"):
            (device.folder / file.name).write_bytes(file.read_bytes())
        device.secrets(**json.loads((files / "secrets.json").read_text()))
        for whose, value in self.secrets_of(device).items():
            self.secrets[value] = f"{whose} of a device"
        return device

    def secrets_of(self, device: Device) -> dict[str, str]:
        """What stands in its secrets.json, but its name."""
        said = json.loads((device.folder / "secrets.json").read_text())
        return {key: value for key, value in said.items() if key != "user"}

    def wake(self, device: Device, cause: str = "power") -> Ran:
        """One wake; what it printed and was started with is kept."""
        with device.start(cause) as process:
            self.arguments.append(Path(f"/proc/{process.child.pid}/cmdline").read_text())
            ran = process.end()
        self.said.append(ran.output)
        return ran

    def meet(self, device: Device) -> str:
        """The first wake, after which the ledger knows the device. Returns its state's name."""
        name = device.config["id"]
        assert self.wake(device).code == 0
        with self.fleet as fleet:
            until(lambda: any(view.id == name and view.state for view in fleet.status()))
            return str(fleet.status(name)[0].state)

    def send(self, device: Device, do: str = "open", **args: Any) -> str:
        """A command of the owner's, until the broker has it. Returns its name."""
        with self.fleet as fleet:
            name = fleet.send(device.config["id"], do, args).name
            until(lambda: fleet.result(name).status != "queued" and fleet.result(name).status != "publishing")
            return name

    def settled(self, name: str) -> str:
        """What became of it."""
        with self.fleet as fleet:
            until(lambda: fleet.result(name).final)
            return fleet.result(name).status

    def rotated(self, device: Device) -> None:
        """A new credential by `dormouse rotate`, on a device that wakes whenever it is waited for."""
        words = ("rotate", device.config["id"], "--folder", str(self.made.path), "--project", str(self.folder))
        for _ in range(5):
            if "has the new" in self.line(*words, "--within", "0s"):
                return
            self.settled_after_wake(self.under_way(device)["command"], device)
        raise AssertionError("it was not changed")

    def under_way(self, device: Device) -> dict[str, str]:
        """The new credential of a device, and the command with which it is sent, once that is at the broker."""
        said: dict[str, str] = json.loads(credentials.rotation(self.made, device.config["id"]).read_text())
        with self.fleet as fleet:
            until(lambda: fleet.result(said["command"]).status not in ("queued", "publishing"))
        return said

    def settled_after_wake(self, name: str, device: Device) -> str:
        """What became of it, once the device has woken."""
        self.wake(device)
        return self.settled(name)

    # ---- attackers

    def of_device(self, device: Device) -> BrokerAddress:
        """The broker with that device's credential."""
        said = json.loads((device.folder / "secrets.json").read_text())
        return BrokerAddress("127.0.0.1", self.made.ports[0], said["user"], said["password"], True, str(self.made.ca))

    def as_relay(self, topic: str, *payloads: bytes) -> None:
        """Publish with a stolen credential of a relay's, a second one that the first does not notice."""
        thief = self.made.relay_file("thief")
        if not thief.exists():
            access.add_relay(self.made, "thief")
            assert self.made.reload()
        with Publisher(self.broker.of_relay("thief")) as publisher:
            publisher.publish(topic, payloads)

    def refused(self, credential: BrokerAddress, client_id: str = "attacker") -> str | None:
        """How the broker refuses a client, or None where it lets it in."""
        try:
            with Client(credential, client_id, clean=True) as client:
                client.connect().close()
        except NoAnswer as error:
            return str(error)
        return None

    def line(self, *words: str) -> str:
        """What a command of the line prints, stderr included. Forked, because its imports take longer than it does."""
        path = self.folder / "printed"
        child = os.fork()
        if child == 0:
            _become(path, self.folder, {"DORMOUSE_DB": self.db}, words)
        os.waitpid(child, 0)
        text = path.read_text()
        self.said.append(text)
        return text


def _become(path: Path, folder: Path, environment: dict[str, str], words: tuple[str, ...]) -> NoReturn:
    """This process is `dormouse WORDS` from now on, and prints to a file."""
    code = 1
    try:
        signal.alarm(60)
        out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv = ["dormouse", *words]
        app.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
