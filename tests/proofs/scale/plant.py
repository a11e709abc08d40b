"""A host with many devices, all of it real: mosquitto, a ledger, a relay's process, processes with devices in them.

Must stay true: nothing of it outlives the `with` block; every wait has a deadline; what a process used is read from
the kernel, and what devices did from themselves.
"""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from dormouse_host.agent import toolchain
from dormouse_host.broker import local
from dormouse_host.broker.local import Mosquitto
from dormouse_host.fleet import Fleet
from dormouse_host.processes import start, stop
from proofs.scale import counted_relay
from proofs.scale.devices import NAME

# As `dormouse broker run` has it, but for two: what a fleet needs (docs/results.md, "Many devices").
BROKER = {
    **{key: value for key, _, value in (line.partition(" ") for line in local.TRIAL_SETTINGS)},
    "max_inflight_messages": "0",
    "max_queued_messages": "100000",
}
_TESTS = Path(__file__).resolve().parents[2]
_TICK = os.sysconf("SC_CLK_TCK")
_BESIDE = Path("/dev/shm")  # in memory: a board's flash is not this machine's disk


@dataclass(frozen=True)
class Used:
    """What something took, in seconds: of the clock, and of CPU of the relay, the broker and the devices. And what the
    relay asked of its database.
    """

    seconds: float
    relay: float
    broker: float
    devices: float
    statements: int
    commits: int

    def __sub__(self, before: "Used") -> "Used":
        return Used(*(getattr(self, name) - getattr(before, name) for name in self.__dataclass_fields__))

    def __add__(self, more: "Used") -> "Used":
        return Used(*(getattr(self, name) + getattr(more, name) for name in self.__dataclass_fields__))


@dataclass
class Settings:
    """`broker`: what its configuration says otherwise; `constants`: see counted_relay.py."""

    broker: Mapping[str, str] = field(default_factory=dict)
    constants: Sequence[str] = ()
    processes: int = 3


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    return sum(_times(pid))


def user_cpu(pid: int) -> float:
    """… outside the kernel."""
    return _times(pid)[0]


def _times(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / _TICK, int(fields[12]) / _TICK


def peak(pid: int) -> float:
    """The most memory that a process has had, in MB of 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError("no VmHWM")


class Plant:
    """`count` devices that have never been awake, their broker and their host. A context manager."""

    def __init__(self, count: int, settings: Settings | None = None) -> None:
        self.count = count
        self.settings = settings or Settings()
        self.names = [NAME % at for at in range(count)]
        self._workers: list[subprocess.Popen[str]] = []
        self._used = [0.0] * self.settings.processes
        self.effects = self.twice = 0
        self.relay: subprocess.Popen[bytes] | None = None
        self._watchers: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix="dormouse-scale-")
        self._flash = tempfile.TemporaryDirectory(
            prefix="dormouse-scale-", dir=_BESIDE if os.access(_BESIDE, os.W_OK) else None
        )
        folder = Path(self._temporary.name)
        self.db, self._counts, self._log = folder / "ledger.db", folder / "counts", folder / "relay.log"
        program = toolchain.mosquitto()
        if program is None:
            raise SystemExit("mosquitto is not installed: apt-get install mosquitto")
        lines = [f"{key} {value}" for key, value in {**BROKER, **self.settings.broker}.items()]
        self.broker = Mosquitto(program, lines)
        try:
            self.broker.start()
            self.fleet = Fleet(str(self.db))
            self.fleet.add(*self.names)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_relay()
        self.stop_watchers()
        for worker in self._workers:
            worker.kill()
            worker.wait()
        self.fleet.close()
        self.broker.close()
        self._flash.cleanup()
        self._temporary.cleanup()

    # ---- the relay

    def start_relay(self, settings: str = "") -> None:
        """Start it with this dormouse.toml, and wait until it is connected."""
        (self.db.parent / "dormouse.toml").write_text(settings)
        argv = [sys.executable, "-m", "proofs.scale.counted_relay", str(self._counts), *self.settings.constants, "--"]
        argv += ["relay", "--name", "scale", "--db", str(self.db), "--broker", self.broker.address.url]
        with self._log.open("wb") as log:
            self.relay = start(argv, output=log, env=self._environment())
        self.until(lambda: " connected " in self._log.read_text(), 30)

    def start_watchers(self) -> None:
        """Others look on from now on."""
        argv = [sys.executable, "-m", "proofs.scale.watchers", str(self.db)]
        self._watchers = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=self._environment())
        assert self._watchers.stdout
        self._watchers.stdout.readline()

    def stop_watchers(self) -> None:
        """Nobody looks on any more."""
        if self._watchers:
            self._watchers.kill()
            self._watchers.wait()
            self._watchers = None

    def stop_relay(self) -> None:
        """End it in order."""
        if self.relay:
            stop(self.relay)
            self.relay = None

    def _environment(self) -> dict[str, str]:
        path = [str(_TESTS), str(toolchain.umqtt_folder()), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}

    # ---- the devices

    def start_devices(self) -> None:
        """Make every device, asleep."""
        processes = self.settings.processes
        edges = [self.count * at // processes for at in range(processes + 1)]
        for first, last in pairwise(edges):
            argv = [sys.executable, "-m", "proofs.scale.devices", self._flash.name, self.broker.address.url]
            self._workers.append(
                subprocess.Popen(
                    [*argv, str(first), str(last)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=self._environment(),
                )
            )
        self._hear()

    def wake_all(self) -> int:
        """One wake of every device. Returns how many did not end well."""
        for worker in self._workers:
            assert worker.stdin
            worker.stdin.write("wake\n")
            worker.stdin.flush()
        return self._hear()

    def _hear(self) -> int:
        said: list[dict[str, Any]] = []
        for worker in self._workers:
            assert worker.stdout
            said.append(json.loads(worker.stdout.readline()))
        self._used = [one["cpu"] for one in said]
        self.effects, self.twice = sum(one["effects"] for one in said), sum(one["twice"] for one in said)
        return sum(one["failed"] for one in said)

    # ---- what is measured

    def used(self) -> Used:
        """Everything used so far."""
        statements, commits = counted_relay.read(self._counts)
        broker = cpu(self.broker.pid) if self.broker.pid else 0.0
        relay = cpu(self.relay.pid) if self.relay else 0.0
        return Used(time.monotonic(), relay, broker, sum(self._used), statements, commits)

    @contextmanager
    def measured(self) -> Iterator[list[Used]]:
        """What the block uses; it is in the list once the block is over."""
        before = self.used()
        result: list[Used] = []
        yield result
        result.append(self.used() - before)

    def scalar(self, query: str) -> Any:
        """One value out of the ledger."""
        with self.fleet.ledger.database.reading() as connection:
            return connection.exec_driver_sql(query).scalar()

    def until(self, true: Callable[[], bool], seconds: float, pause: float = 0.05) -> None:
        """Wait until something is so; RuntimeError with the relay's last words where it does not come to that."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline or (self.relay and self.relay.poll() is not None):
                raise RuntimeError(f"it did not come to that: {self._log.read_text()[-400:]}")
            time.sleep(pause)

    def megabytes(self) -> float:
        """The ledger's file, with all in it that its log holds, in MB."""
        with closing(sqlite3.connect(self.db, timeout=20)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.db.stat().st_size / 1e6
