"""Very many devices on one ledger in PostgreSQL: `python -m proofs.scale --light --devices 100000`.

Must stay true: broker, database and the two relays are real, each a process of its own; a commit waits for the disk;
devices are light (light_devices.py), but each of their wakes is one connection that keeps the protocol. A run in which
a wake failed, or a command was not done and answered just once, is an error and not a figure.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

from dormouse_host.broker.local import Mosquitto
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Ledger
from proofs.scale.asked import Broken, asked
from proofs.scale.devices import NAME
from proofs.scale.plant import BROKER, cpu, peak
from proofs.scale.shared import relay
from support.needs import need_mosquitto
from support.postgresql import PostgreSQL, need_postgresql
from support.waiting import until

RELAYS, PROCESSES, EACH = 2, 2, 2  # EACH: commands for each device
_SLICE = 5000  # orders, or devices, in one transaction
_KNOW = 15.0  # seconds after which relays know of each other
_LIMIT = 3600.0  # seconds that a phase may take
_TABLES = "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relnamespace = 2200::oid"
_ASKED = (("status",), ("status", NAME % 7), ("log", NAME % 7), ("send", NAME % 7, "say", "n=1"), ("relay", "list"))


class Devices:
    """The processes that they live in."""

    def __init__(self, broker: str, count: int, stack: ExitStack) -> None:
        edges = [count * at // PROCESSES for at in range(PROCESSES + 1)]
        self.cpu = 0.0
        self._workers = []
        for first, last in pairwise(edges):
            argv = [sys.executable, "-m", "proofs.scale.light_devices", broker, str(first), str(last)]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            worker = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            stack.callback(worker.wait)
            stack.callback(worker.kill)
            self._workers.append(worker)
        self._hear()

    def wake(self) -> tuple[int, int]:
        """One wake of each. How many commands were done so far, and how many of them more than once."""
        for worker in self._workers:
            assert worker.stdin
            worker.stdin.write("wake\n")
            worker.stdin.flush()
        return self._hear()

    def _hear(self) -> tuple[int, int]:
        said = []
        for worker in self._workers:
            assert worker.stdout
            said.append(json.loads(worker.stdout.readline()))
        if failed := sum(one["failed"] for one in said):
            raise Broken(f"{failed} wakes failed")
        self.cpu = sum(one["cpu"] for one in said)
        return sum(one["done"] for one in said), sum(one["twice"] for one in said)


class Site:
    """Ledger, broker, relays and devices, and what each phase of their work has taken."""

    def __init__(self, count: int, stack: ExitStack, say: Callable[[str], object]) -> None:
        self.count, self._say = count, say
        enter = stack.enter_context
        self.url = enter(enter(PostgreSQL(need_postgresql(), durable=True)).fresh())
        self.broker = Mosquitto(need_mosquitto(), [f"{key} {value}" for key, value in BROKER.items()])
        self.broker.start()
        stack.callback(self.broker.close)
        self.ledger = enter(Ledger(self.url))
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="dormouse-light-")))
        self.names = [NAME % at for at in range(count)]
        with self.phase("devices into the ledger", count):
            for at in range(0, count, _SLICE):
                self.ledger.add_devices(self.names[at : at + _SLICE])
        self.relays = [
            enter(relay(f"r{at}", self.url, self.broker.address.url, folder / f"r{at}")) for at in range(RELAYS)
        ]
        self.devices = Devices(self.broker.address.url, count, stack)
        time.sleep(_KNOW)

    @contextmanager
    def phase(self, what: str, count: int) -> Iterator[None]:
        """Say what a phase has taken for each of `count`."""
        before, began = self._cpu(), time.monotonic()
        yield
        seconds = time.monotonic() - began
        used = ", ".join(
            f"{who} {(now - was) / count * 1e3:.2f}"
            for (who, now), was in zip(self._cpu().items(), before.values(), strict=True)
            if now > was
        )
        self._say(
            f"  {what}: {seconds:.1f} s, {count / seconds:.0f} a second" + (f"; ms of CPU each: {used}" if used else "")
        )

    def _cpu(self) -> dict[str, float]:
        relays = getattr(self, "relays", ())
        devices = getattr(self, "devices", None)
        found = {"relays": sum(cpu(child.pid) for child in relays), "broker": cpu(self.broker.pid or 0)}
        return {**found, "devices": devices.cpu if devices else 0.0}

    def scalar(self, query: str) -> int:
        """A number out of the ledger."""
        with self.ledger.database.reading() as connection:
            return int(connection.exec_driver_sql(query).scalar() or 0)

    def tables(self) -> dict[str, int]:
        """Bytes of each table, with its indexes."""
        with self.ledger.database.reading() as connection:
            return dict(map(tuple, connection.exec_driver_sql(_TABLES)))

    def none_left(self, *statuses: str) -> None:
        """Wait until no command stands so."""
        wanted = ", ".join(f"'{status}'" for status in statuses)
        query = f"SELECT count(*) FROM (SELECT 1 FROM commands WHERE open AND status IN ({wanted}) LIMIT 1) AS found"
        until(lambda: self.scalar(query) == 0, _LIMIT)


def measure(count: int, each: int, say: Callable[[str], object]) -> None:
    """Say what so many devices take, phase by phase."""
    with ExitStack() as stack:
        site = Site(count, stack, say)
        with site.phase("first wake of each", count):
            site.devices.wake()
            until(lambda: site.scalar("SELECT count(*) FROM ends") == count, _LIMIT)
        before = site.tables()
        with site.phase(f"{each} commands for each into the ledger", count * each):
            orders = [Order(name, "say", f'{{"n":{n}}}') for name in site.names for n in range(each)]
            for at in range(0, len(orders), _SLICE):
                site.ledger.enter(orders[at : at + _SLICE])
        with site.phase("ledger to broker", count * each):
            site.none_left("queued", "publishing")
        with site.phase("wakes, until the last answer is stored", count * each):
            done, twice = site.devices.wake()
            site.none_left("sent", "delivered")
        answered = site.scalar("SELECT count(*) FROM commands WHERE status = 'succeeded'")
        if (done, twice, answered) != (count * each, 0, count * each):
            raise Broken(f"of {count * each} commands {done} were done, {twice} of them twice, {answered} answered")
        _sizes(site, before, each, say)
        _waits(site, say)
        _copies(site, say)


def _sizes(site: Site, before: dict[str, int], each: int, say: Callable[[str], object]) -> None:
    after = site.tables()
    devices = sum(before.values()) / site.count
    commands = (sum(after.values()) - sum(before.values())) / (site.count * each)
    largest = sorted(after, key=lambda name: -after[name])[:5]
    say(
        f"  ledger: {sum(after.values()) / 1e6:.0f} MB; {devices:.0f} bytes a device and wake, {commands:.0f} a command"
    )
    say("  largest: " + ", ".join(f"{name} {after[name] / 1e6:.0f} MB" for name in largest))
    memory = ", ".join(f"{peak(child.pid):.0f}" for child in site.relays)
    say(f"  most memory: relays {memory} MB, broker {peak(site.broker.pid or 0):.0f} MB")


def _waits(site: Site, say: Callable[[str], object]) -> None:
    """What a person waits for, as a process of its own, the better of two; the most memory that it had."""
    for words in _ASKED:
        seconds, memory, _ = min(asked(site.url, words) for _ in range(2))
        say(f"  dormouse {' '.join(words)}: {seconds:.2f} s, {memory:.0f} MB")


def _copies(site: Site, say: Callable[[str], object]) -> None:
    """A backup, and a prune of all that is final."""
    with tempfile.TemporaryDirectory(prefix="dormouse-light-") as folder:
        began = time.monotonic()
        with Path(folder, "dump").open("wb") as out:
            subprocess.run([need_postgresql() / "pg_dump", "-Fc", site.url], stdout=out, check=True, timeout=_LIMIT)
        size = Path(folder, "dump").stat().st_size
    say(f"  pg_dump -Fc: {time.monotonic() - began:.1f} s, {size / 1e6:.0f} MB")
    seconds, memory, told = asked(site.url, ("prune", "--before", "1s"))
    say(f"  dormouse prune --before 1s: {seconds:.1f} s, {memory:.0f} MB; {' '.join(told.split())}")
