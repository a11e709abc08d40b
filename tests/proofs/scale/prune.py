"""What a prune of many rows costs those who send meanwhile: how long each of their transactions waits."""

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from dormouse_host.ledger import schema
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Ledger

DEVICES = 20
ROWS = 500_000  # of five tables together
PAUSE = 0.02  # seconds between two sends
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Beside:
    """So many rows were pruned, in so many seconds; and how long each send took before that and meanwhile."""

    pruned: int
    seconds: float
    alone: list[float]
    meanwhile: list[float]

    def __str__(self) -> str:
        waits = [
            f"{statistics.median(some) * 1e3:.0f} ms, longest {max(some) * 1e3:.0f} ms"
            for some in (self.alone, self.meanwhile)
        ]
        speed = f"{self.pruned} rows in {self.seconds:.1f} s ({self.pruned / self.seconds:.0f} a second)"
        return f"{speed}; {len(self.meanwhile)} sends meanwhile: {waits[1]} (alone: {waits[0]})"


def measure(where: str, count: int = ROWS) -> Beside:
    """Prune a ledger of so many rows while another process sends to one of its devices and to a new one."""
    with Ledger(where) as ledger:
        fill(ledger, count // 5)
        ledger.add_devices(["other"])
        alone = _sending(where, lambda: time.sleep(2))[1]
        began = time.monotonic()
        deleted, meanwhile = _sending(
            where, lambda: sum(ledger.prune(time.time() - 60, dry=False, on_progress=lambda *_: None).values())
        )
        return Beside(deleted or 0, time.monotonic() - began, alone, meanwhile)


def _sending(where: str, work: Callable[[], int | None]) -> tuple[int | None, list[float]]:
    """What `work` returns, and how long each send took meanwhile."""
    mine, theirs = _SPAWN.Pipe()
    child = _SPAWN.Process(target=_send, args=(where, theirs))
    child.start()
    mine.recv()
    result = work()
    mine.send("over")
    waits: list[float] = mine.recv()
    child.join(60)
    return result, waits


def _send(where: str, told: Connection) -> None:
    waits = []
    with Ledger(where) as ledger:
        told.send("ready")
        while not told.poll(PAUSE):
            began = time.monotonic()
            ledger.enter([Order("other", "ping"), Order("d3", "ping")])
            waits.append(time.monotonic() - began)
    told.send(waits)


def fill(ledger: Ledger, count: int) -> None:
    """So many settled commands, results and records, a second each, and wakes; the devices have shown them all."""
    each = count // DEVICES
    of = [(f"d{n % DEVICES}", n // DEVICES + 1, float(n)) for n in range(count)]
    end = json.dumps({"acked": each, "windows": {"old": each}})

    def rows_of(**columns: Callable[[str, int, float], object]) -> list[dict[str, object]]:
        return [{name: make(*one) for name, make in columns.items()} for one in of]

    with ledger.database.writing() as c:
        c.execute(schema.devices.insert(), [{"id": f"d{n}", "added": 0.0, "state": "s1"} for n in range(DEVICES)])
        c.execute(
            schema.numbers.insert(), [{"device": f"d{n}", "ledger": "old", "number": each} for n in range(DEVICES)]
        )
        streams = [{"device": f"d{n}", "state": "s1", "whole": each} for n in range(DEVICES)]
        c.execute(schema.telemetry_streams.insert(), streams)
        command = {
            "name": lambda d, n, at: f"{d}.{n}",
            "device": lambda d, n, at: d,
            "ledger": lambda d, n, at: "old",
            "number": lambda d, n, at: n,
            "state": lambda d, n, at: "s1",
            "do": lambda d, n, at: "ping",
            "entered": lambda d, n, at: at,
            "settled": lambda d, n, at: at,
            "status": lambda d, n, at: "succeeded",
            "open": lambda d, n, at: False,
        }
        c.execute(schema.commands.insert(), rows_of(**command))
        result = {
            "device": lambda d, n, at: d,
            "at": lambda d, n, at: at,
            "id": lambda d, n, at: f"s1-old.{n}",
            "command": lambda d, n, at: f"{d}.{n}",
            "status": lambda d, n, at: "succeeded",
            "value": lambda d, n, at: '{"v":1}',
            "digest": lambda d, n, at: str(n),
        }
        c.execute(schema.results.insert(), rows_of(**result))
        mine = {"device": lambda d, n, at: d, "state": lambda d, n, at: "s1", "at": lambda d, n, at: at}
        record = {"number": lambda d, n, at: n, "time": lambda d, n, at: at, "record": lambda d, n, at: '{"v":1}'}
        c.execute(schema.telemetry.insert(), rows_of(**mine, **record))
        wake = {"wake": lambda d, n, at: n}
        c.execute(
            schema.reports.insert(), rows_of(**mine, **wake, seq=lambda d, n, at: n, report=lambda d, n, at: "{}")
        )
        kept = {"repeated": lambda d, n, at: True, "record": lambda d, n, at: end}
        c.execute(schema.ends.insert(), rows_of(**mine, **wake, **kept))
