"""What the host does for a device costs the same however many there are, and however much is behind them.

Counted, not timed: other work on the machine changes nothing.
"""

import json
from binascii import crc32
from typing import Any

from sqlalchemy import event

from dormouse import protocol
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Incoming, Ledger


class Spoken:
    """What a ledger said to its database."""

    def __init__(self, ledger: Ledger) -> None:
        self.statements: list[tuple[str, Any]] = []
        self._engine = ledger.database.engine
        event.listen(self._engine, "before_cursor_execute", self._note)

    def _note(self, _connection, _cursor, statement, parameters, _context, many) -> None:
        self.statements.append((statement, parameters[0] if many else parameters))

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
        return {step.split()[1] for step in steps if step.startswith("SCAN") and " USING INDEX devices_due" not in step}


def message(device: str, leaf: str, value: object) -> Incoming:
    return Incoming(device, leaf, json.dumps(value).encode())


def end(wake: int, high: dict[str, list] | None = None) -> dict:
    record = {"wake": wake, "state": "s1", "present": True, "drained": True, "fence_dead": False, "acked": 3}
    return {**record, "windows": high or {}}


def whole_way(ledger: Ledger, devices: list[str], each: int) -> None:
    """Commands out and answers in, for every device; what a relay does, one batch after the other."""
    for at in range(0, len(devices), 100):
        some = devices[at : at + 100]
        said = [message(name, protocol.WAKE, {"wake": 1, "state": "s1", "next": 900}) for name in some]
        assert ledger.take(said, "c1") == []
    ledger.enter([Order(name, "say") for name in devices for _ in range(each)])
    published: dict[str, list] = {name: [] for name in devices}
    while outgoing := ledger.claim("r1", "c1", 500):
        for one in outgoing:
            published[one.device].append(one.payload)
        ledger.acknowledged([(one.n, True) for one in outgoing])
    for at in range(0, len(devices), 100):
        said = []
        for name in devices[at : at + 100]:
            answers = [
                {"id": json.loads(payload)["id"], "status": "succeeded", "crc": crc32(payload), "value": 1}
                for payload in published[name]
            ]
            said += [
                message(name, protocol.WAKE, {"wake": 2, "state": "s1", "next": 900, "end": end(1)}),
                message(name, protocol.RESULT, answers),
                message(name, protocol.TELEMETRY, {"state": "s1", "records": [[1, -5, {"v": 1}]]}),
                message(name, protocol.END, end(2, {ledger.name: [each, ""]})),
            ]
        assert ledger.take(said, "c1") == []


def test_no_statement_of_the_relay_reads_a_table_from_end_to_end(tmp_path):
    """SQLite uses a partial index only for a query that says the index's own words; nobody notices with ten devices."""
    with Ledger(str(tmp_path / "ledger.db")) as ledger:
        devices = [f"dev{at}" for at in range(50)]
        ledger.add_devices(devices)
        spoken = Spoken(ledger)
        whole_way(ledger, devices, 3)
        assert spoken.walks() <= {"ledger"}, "it has one row"
        assert ledger.counts()["succeeded"] == 150
