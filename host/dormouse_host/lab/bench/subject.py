"""A device on disk, ours or one of the two scripts: prepared, given records and commands, and woken.

The broker has a session for it before anything is measured. What a wake carried is counted at the broker, result by
result and record by record.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from paho.mqtt import client as paho

from dormouse import codec, protocol
from dormouse_host.address import BrokerAddress
from dormouse_host.agent import process, toolchain
from dormouse_host.broker import client
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds
from dormouse_host.lab.bench.cases import OURS, Style

_HERE = Path(__file__).parent
_WITHIN = 500.0  # seconds for one wake: (1000, 10) of the plain script takes more than 200
_LEDGER = 250  # numbers of one ledger: no more than 256 may be open
_BLOCKS = 64
_PROGRAM = 32  # bytes that the flash of an ESP32 programs at once


class Collector:
    """Counts everything that a device sends, by a client of ours. A context manager."""

    def __init__(self, address: BrokerAddress, device: str) -> None:
        self.results: dict[str, int] = {}
        self.records: dict[int, int] = {}
        self.state = ""
        self._changed = threading.Condition()
        self._client = client.Client(f"bench-{device}")
        self._client.on_message = self._take
        self._client.connect(address.host, address.port)
        self._client.subscribe(protocol.topic(protocol.ROOT, device, "up/#"), 1)
        self._client.loop_start()

    def _take(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        said = json.loads(message.payload)
        with self._changed:
            if message.topic.endswith(protocol.RESULT):
                for result in said:
                    self.results[result["id"]] = self.results.get(result["id"], 0) + 1
            elif message.topic.endswith(protocol.TELEMETRY):
                for record in said["records"]:
                    self.records[record[0]] = self.records.get(record[0], 0) + 1
            elif message.topic.endswith(protocol.WAKE):
                self.state = said["state"]
            self._changed.notify_all()

    def publish(self, device: str, commands: int) -> None:
        """Queue commands for the sleeping device; the broker has acknowledged each when this returns."""
        topic = protocol.topic(protocol.ROOT, device, protocol.CMD)
        state = self.state or "plain"
        expires = int(time.time()) + 86400  # as long as today's: the digits are among the bytes that are counted
        told = []
        for n in range(commands):
            name = f"{state}-led{n // _LEDGER}.{n % _LEDGER + 1}"
            command = {"id": name, "u": f"q4{n:04d}", "do": "water", "args": {"s": 30}, "exp": expires}
            told.append(self._client.publish(topic, codec.encode(command), 1))
        for info in told:
            info.wait_for_publish(30)

    def wait(self, commands: int, records: int, seconds: float = 60) -> None:
        """HostError unless so many results and records arrived, each once."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.results) >= commands and len(self.records) >= records, seconds)
            twice = [*self.results.values(), *self.records.values()]
            if (len(self.results), len(self.records)) != (commands, records) or any(n != 1 for n in twice):
                raise HostError(
                    f"of {commands} commands and {records} records {len(self.results)} and {len(self.records)} came"
                )

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Subject:
    """A device in `folder`. `heap`: of its interpreter."""

    def __init__(self, folder: Path, style: Style, device: str) -> None:
        self.folder, self.style, self.id = folder, style, device
        self.heap = process.BOARD_HEAP
        self.rom = False  # is the agent run from a ROMFS image?
        self.held = 0  # bytes of its heap that are taken before the wake begins
        self._records = 0
        folder.mkdir(parents=True)
        self.ours = style in OURS
        self.ca = b""  # of the broker that it connects to, in DER; empty: in clear
        if self.ours:
            shutil.copyfile(_HERE / "app.py", folder / "app.py")

    def configure(self, address: BrokerAddress) -> None:
        """Write config.json of our agent."""
        if self.ca:
            (self.folder / "ca.der").write_bytes(self.ca)
        config = {
            "id": self.id,
            "broker": f"{'mqtts' if self.ca else 'mqtt'}://{address.host}:{address.port}",
            "ca": "ca.der" if self.ca else "",
            "connect_every": 604800,
            "sample_every": 60,  # so that a wake by the timer samples and does not connect
            "budget": 120,
            "total": 240,
            "patience": 20000,
        }
        (self.folder / "config.json").write_text(json.dumps(config))

    def prime(self, address: BrokerAddress, records: int) -> None:
        """Run a first wake, so that the broker has the session; then all records but those that the next wake takes."""
        self._records = records
        if self.ours:
            self.configure(address)
            self._ours("pin")
            for _ in range(records - 1):
                self._ours("timer")
        else:
            self._script(address, 0)

    def wake(self, address: BrokerAddress) -> int:
        """One wake that connects to `address`. Returns its socket writes."""
        if self.ours:
            self.configure(address)
            line = [line for line in self._ours("pin").splitlines() if " asleep " in line][-1]
            return int(json.loads(line.split(" ", 3)[3])["flights"])
        return int(self._script(address, self._records).split()[-1])

    def _ours(self, cause: str) -> str:
        argv, environment = process.command("micropython", self.folder, self.heap, rom=self.rom)
        return run(argv, {**environment, "DORMOUSE_CAUSE": cause, "BENCH_HELD": str(self.held)})

    def _script(self, address: BrokerAddress, records: int) -> str:
        arguments = [str(_HERE / "plain.py"), self.id, str(address.port), self.style, str(records)]
        return run(*process.interpreter("micropython", arguments, [compiled_agent()], self.heap))

    def on_flash(self, cause: str = "pin") -> tuple[int, float, int]:
        """As `wake`, with the state on simulated flash: erases, milliseconds of flash, bytes of heap in use at most."""
        image = self.folder / "flash.img"
        if not image.exists():
            image.write_bytes(b"\xff" * _BLOCKS * 4096)
        arguments = [str(_HERE / "nor.py"), str(image), str(_BLOCKS), str(self.folder), str(_PROGRAM)]
        path = [compiled_agent(), kinds.folder() / "virtual"]
        argv, environment = process.interpreter("micropython", arguments, path, self.heap)
        words = dict(
            line.split(" ", 1)
            for line in run(argv, {**environment, "DORMOUSE_CAUSE": cause}).splitlines()
            if line.startswith(("flash ", "memory "))
        )
        erases, ms = words["flash"].split()
        return int(erases), float(ms), int(words["memory"])


def compiled_agent() -> Path:
    """The folder with the agent and umqtt.simple as they are flashed."""
    from dormouse_host.agent import mpy

    return mpy.bundle(toolchain.agent_folder())


def run(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """A process's output. HostError with its last line where it fails."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            argv, env={**os.environ, **environment}, capture_output=True, text=True, timeout=_WITHIN, check=False
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"a wake did not end within {time.monotonic() - began:.0f} s") from None
    if done.returncode:
        raise HostError(f"a wake failed: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
    return done.stdout
