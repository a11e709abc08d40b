"""What prune, export and sending to many cost, counted and not timed: other work on the machine changes nothing."""

import json
import sys
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import event, text

from dormouse_host import Fleet
from dormouse_host.errors import HostError
from dormouse_host.ledger import database, pruning, queries
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.queries import DeviceView
from dormouse_host.ledger.store import Ledger
from proofs.scale.prune import DEVICES, fill

NOW = 1_790_000_000.0
COMMANDS = 6_000


@pytest.fixture
def ledger(where):
    with Ledger(where, lambda: NOW) as opened:
        fill(opened, COMMANDS)
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
        "telemetry": DEVICES * each - 1,  # the newest stays
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


def test_a_prune_holds_nothing_between_two_slices(ledger, where, monkeypatch):
    """Another process sends meanwhile, to a device whose records are deleted; `make bench-host` has the waits."""
    monkeypatch.setattr(database, "_PATIENCE", 1)
    monkeypatch.setitem(database._LIMITS, "options", "-c lock_timeout=1s")
    sent: list[str] = []
    with Ledger(where) as other:
        total = ledger.prune(NOW - 1, dry=False, on_progress=lambda *_: sent.extend(other.enter([Order("d3", "ping")])))
    assert len(sent) >= sum(total.values()) / pruning.SLICE
    assert ledger.counts()["queued"] == len(sent)


@pytest.mark.parametrize("what", ["telemetry", "results"])
def test_an_export_is_one_statement_however_long_it_is(ledger, what):
    statements: list[str] = []
    event.listen(ledger.database.engine, "before_cursor_execute", lambda _c, _u, said, *_: statements.append(said))
    assert sum(1 for _ in ledger.export(what, 0)) == COMMANDS
    assert len([said for said in statements if "FROM" in said]) == 1


def test_a_result_costs_about_as_much_as_a_record_in_an_export(sqlite_file):
    """In steps of SQLite's machine, and in calls of Python's."""
    steps, calls = Counter[str](), Counter[str]()
    with Ledger(sqlite_file, lambda: NOW) as ledger:
        fill(ledger, 4000)
        ledger.database.engine.dispose()
        what = ""

        def step() -> int:
            steps[what] += 1
            return 0

        def call(_frame: object, kind: str, _of: object) -> None:
            calls[what] += kind in ("call", "c_call")

        event.listen(ledger.database.engine, "connect", lambda raw, _: raw.set_progress_handler(step, 100))
        for what in ("first", "telemetry", "results"):
            export = ledger.export("telemetry" if what == "first" else what, 0)
            sys.setprofile(call)
            rows = sum(1 for _ in export)
            sys.setprofile(None)
            assert rows == 4000
    assert steps["results"] < 1.2 * steps["telemetry"]
    assert calls["results"] < 1.2 * calls["telemetry"]


def test_an_exported_result_names_its_command(ledger):
    commands = {row["command"] for row in ledger.export("results", COMMANDS - 10)}
    assert commands == {f"d{n % DEVICES}.{COMMANDS // DEVICES}" for n in range(COMMANDS - 10, COMMANDS)}


def test_who_sends_to_many_reads_nothing_of_the_others(where):
    """However many it is for: more than one statement takes, and in an order of the sender's."""
    with Fleet(where) as fleet:
        every = [f"d{n:04}" for n in range(1300)]
        fleet.add(*every)
        fleet.group("north", every[::2])
        asked = [*every[1200:], *every[:1100:2], every[7]]
        read: list[str] = []
        view_of = queries.device_view

        def noted(row: Any, *more: Any) -> DeviceView:
            read.append(row.id)
            return view_of(row, *more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(queries, "device_view", noted)
            sent = fleet.send_many(asked, "ping")
        assert [one.device for one in sent] == asked
        assert sorted(read) == sorted(asked)
        views = fleet.ledger.views(asked)
        assert [view.id for view in views] == sorted(asked)
        assert [view for view in fleet.status() if view.id in asked] == views
        with pytest.raises(HostError, match="nosuch"):
            fleet.send_many([*asked, "nosuch"], "ping")


def test_a_batch_is_cancelled_in_statements_for_all_of_it(where):
    """Some hundred at once; what has ended stays."""
    with Fleet(where) as fleet:
        every = [f"d{n:04}" for n in range(1100)]
        fleet.add(*every)
        sent = fleet.send_many(every, "ping")
        fleet.cancel(sent[7].name)
        said: list[str] = []
        engine = fleet.ledger.database.engine
        event.listen(engine, "before_cursor_execute", lambda _c, _u, what, *_: said.append(what))
        told: list[int] = []
        views = fleet.cancel_batch(sent[0].batch or "", told.append)
        assert {view.status for view in views} == {"cancelled"}
        assert len(views) == 1100
        assert told == [500, 1000, 1099]
        assert len(said) < 50
        assert fleet.cancel_batch(sent[0].batch or "", told.append) == views
        assert len(told) == 3


def test_devices_one_after_the_other_are_those_of_status_and_never_all_in_memory(where, monkeypatch):
    """Also in groups; an unknown group is told before the first is asked for."""
    alive, most = 0, 0

    class Counted(DeviceView):
        def __init__(self, *fields: Any) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            super().__init__(*fields)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    with Fleet(where) as fleet:
        every = [f"d{n:04}" for n in range(1300)]
        fleet.add(*every)
        fleet.group("north", every[::2])
        assert list(fleet.each_status()) == fleet.status()
        assert list(fleet.each_status("north")) == fleet.status(group="north")
        with pytest.raises(HostError, match="no group nosuch"):
            fleet.each_status("nosuch")
        rows: list[int] = []
        monkeypatch.setattr(queries, "DeviceView", Counted)
        parse = json.loads

        def noted(text: str) -> Any:
            rows.append(text.count("{}"))
            return parse(text)

        monkeypatch.setattr(json, "loads", noted)
        assert [view.id for view in fleet.each_status()] == every
        assert most <= 2
        assert max(rows) <= 200
        assert sum(rows) == 1300
        views = fleet.each_status()
        next(views)
        views.close()  # who leaves early leaves nothing open
        assert fleet.ledger.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
