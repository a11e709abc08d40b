"""What people look at, with many devices: `dormouse status`, the page's first page, and one device's page.

Must stay true: the ledger is filled by its own tables' inserts, the program and Chromium are the real ones, each in a
process of its own; a figure is the best of RUNS, after one that warms this machine's caches.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from dormouse_host.fleet import Fleet
from dormouse_host.ledger import schema
from support.pages_in_browser import Browser, Web

DEVICES, RECORDS, WAKES, COMMANDS = 10_000, 2_000_000, 40, 10
AIM = 1.0  # seconds
DEVICE = "sensor-00042"
FIRST = "the first page, to its rows"
RUNS = 3
_MANY = 20_000  # rows in one insert
_EVERY = 900  # seconds


def fill(where: str, devices: int = DEVICES, records: int = RECORDS, commands: int = COMMANDS) -> None:
    """A ledger in which so many devices have lived for some hours, each with so many commands."""
    now = time.time()
    with Fleet(where) as fleet:
        names = [f"sensor-{n:05}" for n in range(devices)]
        fleet.add(*names)
        for table, found in _tables(names, records // devices, commands, now).items():
            rows: list[dict[str, Any]] = []
            for row in found:
                rows.append(row)
                if len(rows) == _MANY:
                    _put(fleet, table, rows)
                    rows = []
            _put(fleet, table, rows)
        with fleet.ledger.database.writing() as connection:
            for n, name in enumerate(names):
                seen = now - n % _EVERY
                of_it = schema.devices.update().where(schema.devices.c.id == name)
                said = {"state": "s1", "wake": WAKES, "seen": seen, "next_due": seen + _EVERY}
                known = {"report": _report(n, WAKES), "catalogue": _CATALOGUE, "catalogue_hash": "5d1f9a07"}
                connection.execute(of_it.values(**said, **known))
        for n in range(20):
            fleet.group(f"house-{n:02}", names[n::20])


_CATALOGUE = json.dumps({"commands": [["water", [["s", "int"], ["note", ["str", ""]]], 60, False]], "telemetry": []})


def _put(fleet: Fleet, table: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        with fleet.ledger.database.writing() as connection:
            connection.execute(insert(schema.metadata.tables[table]), rows)


def _report(n: int, wake: int) -> str:
    phases = {"boot": 300, "join": 600, "connect": 60, "drain": 90, "confirm": 40}
    last = {"ended": "finished", "ms": 1400, "phases": phases, "flights": 3, "up": 700, "down": 90, "erases": 2}
    said = {"wake": wake, "state": "s1", "cause": "timer", "next": _EVERY, "battery": 4.1 - wake * 0.002}
    more = {
        "rssi": -50 - n % 40,
        "free": 90000,
        "agent": "0.1.0",
        "fw": "RPI_PICO_W 1.25.0",
        "limit": 2048,
        "catalogue": "5d1f9a07",
    }
    return json.dumps({**said, **more, "last": last})


def _tables(names: list[str], each: int, count: int, now: float) -> dict[str, Iterator[dict[str, Any]]]:
    begun = now - WAKES * _EVERY

    def telemetry() -> Iterator[dict[str, Any]]:
        for n, name in enumerate(names):
            for number in range(1, each + 1):
                at = begun + number * WAKES * _EVERY / each
                record = f'{{"temp":{18 + (n + number) % 9},"moist":{number % 40}}}'
                head = {"device": name, "state": "s1", "number": number}
                yield {**head, "time": at, "at": at + 60, "record": record}

    def reports() -> Iterator[dict[str, Any]]:
        for n, name in enumerate(names):
            for wake in range(1, WAKES + 1):
                head = {"device": name, "state": "s1", "wake": wake, "seq": wake}
                yield {**head, "at": begun + wake * _EVERY - n % _EVERY, "report": _report(n, wake)}

    def commands() -> Iterator[dict[str, Any]]:
        for n, name in enumerate(names):
            for number in range(1, count + 1):
                still = number == count and n % 10 == 0
                status = {"status": "sent", "open": True} if still else {"status": "succeeded", "open": False}
                head = {"name": f"c{n}x{number}", "device": name, "ledger": "k9fe", "number": number, "state": "s1"}
                times = {"entered": begun + number * 60, "settled": None if still else begun + number * 60 + 900}
                yield {**head, "do": "water", "args": '{"s":30}', **status, **times}

    def streams() -> Iterator[dict[str, Any]]:
        yield from ({"device": name, "state": "s1", "whole": each, "dropped": 0} for name in names)

    return {"telemetry": telemetry(), "reports": reports(), "commands": commands(), "telemetry_streams": streams()}


def best(run: Callable[[], float]) -> float:
    """Seconds, the least of RUNS."""
    run()
    return min(run() for _ in range(RUNS))


def program(*words: str) -> tuple[float, float]:
    """Seconds that `dormouse` takes from the start of its process to its end, and those of CPU among them."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-m", "dormouse_host.cli", *words], check=True, capture_output=True, timeout=120)
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(devices: int = DEVICES, records: int = RECORDS) -> dict[str, float]:
    """Seconds of each."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="dormouse-desk-") as folder:
        where = str(Path(folder) / "ledger.db")
        fill(where, devices, records)
        for what, words in (("status", ()), ("status DEVICE", (DEVICE,))):
            program("status", *words, "--db", where)
            runs = [program("status", *words, "--db", where) for _ in range(RUNS)]
            found[f"dormouse {what}"] = min(took for took, _ in runs)
            found[f"dormouse {what}, its CPU"] = min(cpu for _, cpu in runs)
        with Web(where) as web, Browser() as browser:
            found |= _pages(web, browser.page)
            found["the page's memory, MB"] = web.memory()
    return found


def _pages(web: Web, page: Any) -> dict[str, float]:
    def shown(path: str, what: str) -> float:
        began = time.monotonic()
        page.goto(web.url + path)
        page.wait_for_selector(what)
        return time.monotonic() - began

    def turned_round() -> float:
        """The order of the rows."""
        first = page.locator("td.c-device").first.inner_text()
        began = time.monotonic()
        page.get_by_role("button", name="Device", exact=True).click()
        page.wait_for_function("first => document.querySelector('td.c-device').innerText !== first", arg=first)
        return time.monotonic() - began

    found = {
        FIRST: best(lambda: shown("", "td.c-device a")),
        "a device's page, to its life": best(lambda: shown(f"device/{DEVICE}", "svg.lanes")),
    }
    shown("", "td.c-device a")
    return {**found, "sorting the table": best(turned_round)}


def main() -> int:
    """The exit code: 1 where status or the first page takes longer than the aim."""
    print(f"{DEVICES} devices, {RECORDS} records, {DEVICES * WAKES} wakes, {DEVICES * COMMANDS} commands", flush=True)
    found = measure()
    for what, seconds in found.items():
        print(f"  {what:<32} {seconds:7.2f}", flush=True)
    print(f"  load of this machine's {os.cpu_count()} cores: {os.getloadavg()[0]:.1f}", flush=True)
    return int(max(found["dormouse status"], found[FIRST]) > AIM)


if __name__ == "__main__":
    sys.exit(main())
