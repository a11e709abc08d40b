"""A world of one run: broker, relays, ledger and devices; what is done to it, and how it comes to rest.

Must stay true: everything random comes from the seed and the case's name; every process and folder is gone when the
`with` block ends; every wait has an end, and the run goes on after it, so that what never settles is found by judging.
"""

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from dormouse_host import Fleet, processes
from dormouse_host.agent import process, toolchain
from dormouse_host.errors import HostError
from proofs.endtoend.book import Book
from proofs.endtoend.devices import Device
from proofs.endtoend.host import Broker, RelayProcess
from support.waiting import comes

ROUNDS = 40  # in which everything must be settled
IN_VAIN = 8  # rounds in a row without progress
CONNECT = 60.0  # seconds for a relay to be connected: its longest pause is 30
REST = 15.0  # … for the ledger to stop changing
_STILL = 0.3  # … without a change that count as rest
AT_ONCE = 3  # devices awake at the same time
KINDS = ("once", "once", "once", "again", "fail")
MEMORY = Path("/dev/shm")


@dataclass
class Order:
    """A command that was sent. `k` is its argument, by which its effects are known."""

    k: int
    device: str
    do: str
    expires: float | None = None
    after: str | None = None
    cancelled: bool = False


@dataclass(frozen=True)
class Build:
    """What to run: the project's own code, or a copy with a bug in it."""

    agent: Path | None = None
    host: Path | None = None


class World(processes.Started):
    """Use as a context manager. `settings` are mosquitto's; `db` is a URL, a file of its own by default."""

    def __init__(
        self,
        case: str,
        seed: int,
        size: float,
        build: Build,
        *,
        devices: int = 5,
        settings: Sequence[str] = ("set_tcp_nodelay true", "autosave_interval 1", "autosave_on_changes true"),
        db: str | None = None,
        relays: Sequence[str] = ("one",),
        small_disk: bool = False,
    ) -> None:
        self.rng = random.Random(f"{seed}:{case}")
        self.size = size
        program = toolchain.mosquitto()
        if program is None:
            raise HostError("mosquitto is not installed: apt-get install mosquitto")
        self._folder = tempfile.TemporaryDirectory(prefix="endtoend-", dir=MEMORY if MEMORY.is_dir() else None)
        self.folder = Path(self._folder.name)
        self.broker = Broker(program, settings)
        self.book = Book(self.folder, db, small_disk=small_disk)
        self.db = self.book.db
        self.orders: dict[str, Order] = {}
        self.faults: dict[str, int] = {}
        self.wiped = False  # devices lose their flash: what was open there nobody will know
        self.put_back = False  # the ledger is an older copy: what it gave out since it does not know
        self.lossless = False  # the broker keeps all that it acknowledges: no record need be asked for again
        self.exact = False  # … and no relay dies: each command is published once
        self._build, self._relay_names, self._count = build, relays, devices
        self.relays: list[RelayProcess] = []
        self.devices: list[Device] = []

    def start(self) -> None:
        """Start the broker, the relays and the devices."""
        self.broker.start()
        self.fleet = Fleet(self.db)
        self.book.prepare()
        url, build = self.broker.address.url, self._build
        for name in self._relay_names:
            log = self.folder / f"relay-{name}.log"
            self.relays.append(RelayProcess(name, self.db, url, log, build.host, self.book.module))
        agent = build.agent or toolchain.agent_folder()
        for n in range(self._count):
            kind: process.Kind = "cpython" if n == self._count - 1 and n else "micropython"
            self.devices.append(Device(self.folder / f"d{n}", kind, url, agent))
        self.fleet.add(*(device.id for device in self.devices))

    def close(self) -> None:
        """End everything that was started."""
        for device in self.devices:
            device.close()
        for relay in self.relays:
            relay.kill()
        if hasattr(self, "fleet"):
            self.fleet.close()
        self.broker.close()
        self._folder.cleanup()

    # ---- what is done

    def times(self, count: int) -> int:
        """So many in a full run, fewer in a short one."""
        return max(2, round(count * self.size))

    def fault(self, what: str, count: int = 1) -> None:
        """Count one that was made."""
        self.faults[what] = self.faults.get(what, 0) + count

    def send(self, count: int, *devices: Device, plain: bool = False) -> None:
        """Send commands of every kind to devices at random; `plain`: none that expire or wait for another."""
        for _ in range(count):
            device = self.rng.choice(devices or self.devices)
            order = Order(len(self.orders) + 1, device.id, self.rng.choice(KINDS))
            if not plain and self.rng.random() < 0.15:
                order.expires = self.rng.choice([0.5, 1.0, 3600.0])
            earlier = self.query(f"SELECT name FROM commands WHERE device = '{device.id}' ORDER BY key DESC LIMIT 1")
            if not plain and earlier and earlier[0].name in self.orders and self.rng.random() < 0.15:
                order.after = earlier[0].name
            self.enter(order)

    def enter(self, order: Order, fleet: Fleet | None = None) -> None:
        """One command into the ledger. An agent with a planted bug may have said that it goes without its program: then
        the ledger refuses, and the hunt goes on.
        """
        try:
            sent = (fleet or self.fleet).send(
                order.device, order.do, {"k": order.k}, expires=order.expires, after=order.after
            )
        except HostError as error:
            if self._build.agent is None or "has no command" not in str(error):
                raise
            self.fault("not entered")
            return
        self.orders[sent.name] = order

    def cancel(self, share: float) -> None:
        """Cancel some of those that are open."""
        for row in self.query("SELECT name FROM commands WHERE open ORDER BY key"):
            if row.name in self.orders and self.rng.random() < share:
                self.fleet.cancel(row.name)
                self.orders[row.name].cancelled = True

    def awake(
        self, devices: Iterable[Device], meanwhile: Callable[[], object] | None = None, cause: str | None = None
    ) -> None:
        """Wake each of these devices once, a few at the same time; `meanwhile` is called while the first are awake."""
        waiting = list(devices)
        while waiting:
            now, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
            for device in now:
                device.start(cause or self.rng.choice(["power", "timer", "timer"]))
            if meanwhile:
                meanwhile()
                meanwhile = None
            for device in now:
                device.end()

    def some(self) -> list[Device]:
        """Devices at random, at least one."""
        return self.rng.sample(self.devices, self.rng.randint(1, len(self.devices)))

    def pause(self, least: float, most: float) -> None:
        """A random time in seconds."""
        time.sleep(self.rng.uniform(least, most))

    # ---- how it comes to rest

    def query(self, statement: str) -> list[Any]:
        """Rows of the ledger."""
        with self.fleet.ledger.database.reading() as connection:
            return list(connection.execute(text(statement)).all())

    def connect(self) -> None:
        """Every relay runs and is connected."""
        for relay in self.relays:
            relay.start()
        comes(lambda: all(relay.connected for relay in self.relays), CONNECT)

    def _picture(self) -> list[Any]:
        return [
            *self.query("SELECT count(*), sum(published), sum(puback), sum(seq) FROM commands, devices"),
            *self.query("SELECT (SELECT count(*) FROM telemetry), (SELECT count(*) FROM ends)"),
        ]

    def rest(self) -> None:
        """Until the ledger has not changed for a moment, and no relay has anything to look at."""
        last: list[Any] = []
        since = time.monotonic()

        def still() -> bool:
            nonlocal last, since
            now = self._picture()
            if now != last or self.query("SELECT 1 FROM devices WHERE due AND state IS NOT NULL LIMIT 1"):
                last, since = now, time.monotonic()
            return time.monotonic() - since > _STILL

        comes(still, REST)

    def greet(self) -> None:
        """Every device has told its state, and the broker keeps a session for it."""
        self.connect()
        self.awake(self.devices, cause="power")
        self.rest()

    def unsettled(self) -> int:
        """Commands without a final status."""
        return int(self.query("SELECT count(*) FROM commands WHERE open")[0][0])

    def gaps(self) -> int:
        """Records that are neither stored nor known to be gone, of those that the devices have."""
        missing = 0
        for device in self.devices:
            stored, dropped, _ = self.stream(device.id, device.state)
            missing += device.stored() - stored - dropped
        return missing

    def stream(self, device: str, state: str) -> tuple[int, int, int]:
        """Of a device's state: records stored, records counted as dropped, and the highest number stored."""
        where = f"device = '{device}' AND state = '{state}'"
        ((stored, highest),) = self.query(f"SELECT count(*), max(number) FROM telemetry WHERE {where}")
        dropped = self.query(f"SELECT dropped FROM telemetry_streams WHERE {where}")
        return stored, dropped[0][0] if dropped else 0, highest or 0

    def told(self, device: str, state: str) -> int:
        """Up to which record a device's end records said that the broker had acknowledged them."""
        where = f"device = '{device}' AND state = '{state}'"
        return max(
            (json.loads(row.record)["acked"] for row in self.query(f"SELECT record FROM ends WHERE {where}")), default=0
        )

    def published(self) -> int:
        """Publishes of commands so far."""
        return int(self.query("SELECT sum(published) FROM commands")[0][0] or 0)

    def settle(self) -> None:
        """Wake all devices, without faults, until nothing is left to wait for; then twice more, which must be quiet."""
        self.connect()
        open_before, vain = (0, 0), 0
        for _ in range(ROUNDS):
            self.rest()
            self.awake(self.devices, cause="power")
            self.rest()
            still_open = self.unsettled(), self.gaps()
            vain = vain + 1 if still_open == open_before else 0
            open_before = still_open
            if still_open == (0, 0) or vain == IN_VAIN:
                break
        before = self.published()
        for _ in range(2):
            self.awake(self.devices, cause="power")
            self.rest()
        self.needless = self.published() - before
