"""What the host does for a device costs the same however many there are, and however much is behind them.

Counted, not timed: other work on the machine changes nothing.
"""

import json
import re
from binascii import crc32
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from dormouse import protocol
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.outbound import Ack
from dormouse_host.ledger.store import Incoming, Ledger
from proofs.scale import light, parts
from proofs.scale.plant import Settings
from proofs.scale.run import measure
from support.needs import need_mosquitto

EACH = 5  # commands for each device


class Spoken:
    """What a ledger said to its database."""

    def __init__(self, ledger: Ledger) -> None:
        self.statements: list[tuple[str, Any]] = []
        self.hundreds = 0  # of steps of SQLite's machine: what its work is made of, whatever else runs here
        self._engine = ledger.database.engine
        self._engine.dispose()  # the next connection is a new one, and counts
        event.listen(self._engine, "before_cursor_execute", self._note)
        if ledger.database.is_file:
            event.listen(self._engine, "connect", lambda raw, _: raw.set_progress_handler(self._step, 100))

    def _note(self, _connection, _cursor, statement, parameters, _context, many) -> None:
        several = many and isinstance(parameters, list)  # not where all rows are one statement
        self.statements.append((statement, parameters[0] if several else parameters))

    def _step(self) -> int:
        self.hundreds += 1
        return 0

    def walks(self) -> set[str]:
        """Tables that some statement read from end to end."""
        with self._engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw
            plans = {
                text: [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {text}", parameters)]
                for text, parameters in self.statements
                if text.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT")
            }
        steps = {step for plan in plans.values() for step in plan}
        own = re.compile(r"CONSTANT ROWS?$|-ROW VALUES CLAUSE$|VIRTUAL TABLE INDEX")  # the statement's own rows
        read = {step for step in steps if step.startswith("SCAN") and not own.search(step)}
        return {step.split()[1] for step in read if " USING INDEX devices_due" not in step}


def message(device: str, leaf: str, value: object) -> Incoming:
    return Incoming(device, leaf, json.dumps(value).encode())


def end(wake: int, high: dict[str, list] | None = None) -> dict:
    record = {"wake": wake, "state": "s1", "present": True, "drained": True, "fence_dead": False, "acked": wake // 2}
    return {**record, "windows": high or {}}


def whole_way(ledger: Ledger, devices: list[str], each: int, batch: int = 100) -> None:
    """Two wakes of every device, commands and answers in between; what a relay does, one batch after the other."""
    for at in range(0, len(devices), batch):
        some = devices[at : at + batch]
        said = [message(name, protocol.WAKE, {"wake": 1, "state": "s1", "next": 900}) for name in some]
        assert ledger.take(said, "c1") == []
    ledger.enter([Order(name, "say") for name in devices for _ in range(each)])
    published: dict[str, list] = {name: [] for name in devices}
    while outgoing := ledger.claim("r1", "c1", 500):
        for one in outgoing:
            published[one.device].append(one.payload)
        ledger.acknowledged([Ack(one.key, one.times, True) for one in outgoing])
    for at in range(0, len(devices), batch):
        said = []
        for name in devices[at : at + batch]:
            answers = [
                {"id": json.loads(payload)["id"], "status": "succeeded", "crc": crc32(payload), "value": 1}
                for payload in published[name]
            ]
            _, given, _ = protocol.split_id(answers[0]["id"])
            said += [
                message(name, protocol.WAKE, {"wake": 2, "state": "s1", "next": 900, "end": end(1)}),
                message(name, protocol.RESULT, answers),
                message(name, protocol.TELEMETRY, {"state": "s1", "records": [[1, -5, {"v": 1}]]}),
                message(name, protocol.END, end(2, {given: [each, f"s{each}"]})),
            ]
        assert ledger.take(said, "c1") == []


def test_no_statement_of_the_relay_reads_a_table_from_end_to_end(tmp_path):
    """SQLite uses a partial index only for a query that says the index's own words; nobody notices with ten devices."""
    with Ledger(str(tmp_path / "ledger.db")) as ledger:
        devices = [f"dev{at}" for at in range(50)]
        ledger.add_devices(devices)
        spoken = Spoken(ledger)
        whole_way(ledger, devices, 3)
        assert spoken.walks() - {"moved"} == set(), "which has a row at most"
        assert ledger.counts()["succeeded"] == 150


def cost(folder: Path, count: int, behind: int = 0) -> tuple[float, float]:
    """Statements, and hundreds of steps, for one command; each device has so many settled ones behind it."""
    with Ledger(str(folder / f"{count}-{behind}.db")) as ledger:
        devices = [f"dev{at}" for at in range(count)]
        ledger.add_devices(devices)
        ledger.enter([Order(name, "say") for name in devices for _ in range(behind)])
        with ledger.database.writing() as connection:
            connection.exec_driver_sql("UPDATE commands SET open = 0, status = 'succeeded'")
        spoken = Spoken(ledger)
        whole_way(ledger, devices, EACH)
        return len(spoken.statements) / (EACH * count), spoken.hundreds / (EACH * count)


@pytest.mark.parametrize(("batch", "most"), [(100, 0.15), (5, 0.9), (1, 3.6)])
def test_a_command_costs_few_statements(where, batch, most):
    """From the ledger to its result, ten for each device: what comes in together is read and written together."""
    with Ledger(where) as ledger:
        devices = [f"dev{at}" for at in range(100)]
        ledger.add_devices(devices)
        spoken = Spoken(ledger)
        whole_way(ledger, devices, 10, batch)
        assert ledger.counts()["succeeded"] == 1000
    assert len(spoken.statements) / 1000 <= most


def test_a_command_costs_the_same_with_four_times_the_devices(tmp_path):
    few, many = cost(tmp_path, 50), cost(tmp_path, 200)
    assert many[0] <= 1.2 * few[0], "statements"
    assert many[1] <= 1.2 * few[1], "work inside SQLite"


def test_a_command_costs_the_same_whatever_its_device_did_before(tmp_path):
    young, old = cost(tmp_path, 30), cost(tmp_path, 30, behind=300)
    assert old[0] <= 1.2 * young[0], "statements"
    assert old[1] <= 1.2 * young[1], "work inside SQLite"


def test_the_bench_brings_every_command_there_and_back_with_all_of_it_real():
    """What `make bench-host` does, small; a command lost or done twice is an error of its own."""
    need_mosquitto()
    figures = measure(30, EACH, Settings(processes=1))
    assert figures.published == 30 * EACH, "in quiet operation nothing is published twice"
    assert figures.peak < 150


def test_the_profile_finds_what_the_relay_spends_its_cpu_on(tmp_path):
    """`make bench-host ARGS="--profile"`, small."""
    need_mosquitto()
    told: list[str] = []
    parts.measure(30, 30, told.append, tmp_path)
    assert re.match(r"30 devices, 900 commands; 0\.\d\d ms of CPU for one", told[0]), told
    said = [re.match(r"  (.+): (\d+) %", line) for line in told]
    shares = {found[1]: int(found[2]) for found in said if found}
    assert shares["SQLAlchemy"] > 0, told
    assert 95 <= sum(shares.values()) <= 105, told


def test_light_devices_keep_the_protocol_with_two_relays_on_postgresql(monkeypatch):
    """`make bench-host ARGS="--light --devices 100000"`, with few of them: each command done and answered once."""
    need_mosquitto()
    monkeypatch.setattr(light, "_KNOW", 0.5)
    told: list[str] = []
    light.measure(30, 3, told.append)
    assert any(line.startswith("  wakes, until the last answer is stored") for line in told)
    assert told[-1].endswith("deleted")
