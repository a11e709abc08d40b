"""What prune and export cost, counted and not timed: other work on the machine changes nothing."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, text

from dormouse_host.ledger import pruning, schema
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Ledger

NOW = 1_790_000_000.0
COMMANDS, DEVICES = 8_000, 20


def fill(ledger: Ledger, count: int = COMMANDS) -> None:
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


@pytest.fixture
def ledger(where):
    with Ledger(where, lambda: NOW) as opened:
        fill(opened)
        yield opened


def prune(ledger: Ledger) -> dict[str, int]:
    return dict(ledger.prune(NOW - 1, dry=False, on_progress=lambda *_: None))


def test_prune_reads_no_table_from_end_to_end_and_little_in_one_transaction(ledger):
    """Whatever it deletes; what it looks at and lets stay costs as little."""
    said: list[tuple[str, Any]] = []
    sizes: list[int] = []
    engine = ledger.database.engine
    if not ledger.database.is_file:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))

    def note(_connection, cursor, statement, parameters, _context, many) -> None:
        if statement.split()[0] in ("SELECT", "DELETE", "UPDATE"):
            said.append((statement, parameters[0] if many else parameters))
            sizes.append(len(parameters) if many else cursor.rowcount if statement.startswith("DELETE FROM c") else 0)

    event.listen(engine, "after_cursor_execute", note)
    each = COMMANDS // DEVICES
    assert prune(ledger) == {
        "commands": DEVICES * (each - 256),
        "results": DEVICES * (each - 256),
        "telemetry": DEVICES * each,
        "wakes": DEVICES * (each - pruning.WAKES),
    }
    assert max(sizes) <= pruning.SLICE
    event.remove(engine, "after_cursor_execute", note)
    with engine.connect() as connection:
        if not ledger.database.is_file:
            connection.execute(text("SET enable_seqscan = off"))  # it is left where there is no other way
        plans = {}
        for statement, parameters in dict(said).items():
            explain = "EXPLAIN QUERY PLAN " if ledger.database.is_file else "EXPLAIN "
            plan = connection.exec_driver_sql(explain + statement, parameters)
            plans[statement] = [str(row[-1]) for row in plan]
    large = ("commands", "command_events", "results", "telemetry", "ends", "reports")
    walked = [
        step
        for plan in plans.values()
        for step in plan
        if any(step.strip(" ->").startswith((f"SCAN {name}", f"Seq Scan on {name} ")) for name in large)
        and " USING " not in step
    ]
    assert walked == []


@pytest.mark.proof
def test_a_send_has_its_turn_between_two_slices_of_a_prune(ledger, where):
    """It waits for one slice at most: the longest of its waits is a small part of the prune."""
    ledger.add_devices(["other"])
    waits: list[float] = []
    over = threading.Event()

    def send() -> None:
        with Ledger(where) as mine:
            while not over.is_set():
                began = time.monotonic()
                mine.enter([Order("other", "ping"), Order("d3", "ping")])
                waits.append(time.monotonic() - began)

    sending = threading.Thread(target=send)
    sending.start()
    began = time.monotonic()
    prune(ledger)
    took = time.monotonic() - began
    over.set()
    sending.join(60)
    print(f"{len(waits)} sends in {took:.1f} s of pruning, the longest waited {max(waits):.2f} s")
    assert len(waits) > 10
    assert max(waits) < took / 3


@pytest.mark.parametrize("what", ["telemetry", "results"])
def test_an_export_is_one_statement_however_long_it_is(ledger, what):
    statements: list[str] = []
    event.listen(ledger.database.engine, "before_cursor_execute", lambda _c, _u, said, *_: statements.append(said))
    assert sum(1 for _ in ledger.export(what, 0)) == COMMANDS
    assert len([said for said in statements if "FROM" in said]) == 1


def test_a_result_costs_about_as_much_as_a_record_in_an_export(sqlite_file):
    """In steps of SQLite's machine: a result's command is looked up by its key."""
    steps = {}
    with Ledger(sqlite_file, lambda: NOW) as ledger:
        fill(ledger, 4000)
        count = [0]

        def step() -> int:
            count[0] += 1
            return 0

        ledger.database.engine.dispose()
        event.listen(ledger.database.engine, "connect", lambda raw, _: raw.set_progress_handler(step, 100))
        for what in ("telemetry", "results"):
            count[0] = 0
            assert sum(1 for _ in ledger.export(what, 0)) == 4000
            steps[what] = count[0]
    assert steps["results"] < 3 * steps["telemetry"]
    with Ledger(sqlite_file, lambda: NOW) as ledger:
        commands = {row["command"] for row in ledger.export("results", 3990)}
    assert commands == {f"d{n % DEVICES}.200" for n in range(3990, 4000)}
