"""What comes or is said twice is stored once, on both databases."""

import json

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from dormouse_host.cli import app
from dormouse_host.ledger import rows, schema
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Ledger
from support.reports import end, records, report


@pytest.fixture
def ledger(where):
    with Ledger(where) as opened:
        yield opened


def test_insert_once_counts_the_new_rows_alone(ledger):
    """One row, several, more than one statement takes, and a row that comes twice in one call."""

    def rows_of(*numbers: int) -> list[dict]:
        return [{"id": f"d{number}", "added": 1.0} for number in numbers]

    with ledger.database.writing() as connection:

        def insert(values: dict | list[dict]) -> int:
            return rows.insert_once(connection, schema.devices, values)

        assert [insert(rows_of(1)[0]), insert(rows_of(1)[0])] == [1, 0]
        assert [insert(rows_of(1, 2, 3)), insert(rows_of(1, 2, 3))] == [2, 0]
        assert insert(rows_of(4, 4, 5)) == 2
        assert insert(rows_of(*range(3000))) == 2995
        assert insert(rows_of(*range(3001))) == 1


def test_a_report_that_comes_again_changes_nothing(ledger):
    """State A, then state B; then the broker delivers the report of A once more, as it does with retained ones."""
    ledger.add_devices(["dev"])
    old = report(7, "a")
    assert ledger.take([old], "c") == []
    assert ledger.take([report(1, "b")], "c") == []
    command = ledger.enter([Order("dev", "ping")])[0]
    while outgoing := ledger.claim("r", "c", 10):
        if any(json.loads(one.payload)["u"] == command for one in outgoing):
            break
    assert ledger.take([records(1, 2, 9, state="b")], "c") == []

    assert ledger.take([old], "c") == []

    assert ledger.devices("dev")[0].state == "b"
    assert ledger.command(command).status == "publishing"
    assert ledger.take([records(3, 4, 5, state="b")], "c") == []
    assert ledger.take([report(2, "b", end(1, state="b", acked=9))], "c") == []
    assert [record["number"] for record in ledger.export("telemetry", 0)] == [1, 2, 9, 3, 4, 5]
    assert ledger.devices("dev")[0].dropped == 0


def test_a_retained_report_of_before_is_not_a_sign_of_life(where):
    with Ledger(where, lambda: 1000.0) as ledger:
        assert ledger.take([report(1)], "c") == []
    with Ledger(where, lambda: 2000.0) as ledger:
        assert ledger.take([report(1)], "c") == []
        assert ledger.devices("dev")[0].seen == 1000.0


def test_devices_that_are_added_are_counted(where):
    said = []
    for names in (["pg-01"], ["pg-01"], ["pg-02", "pg-01", "pg-03"]):
        done = CliRunner().invoke(app.app, ["devices", "add", *names], env={"DORMOUSE_DB": where})
        said.append(done.stdout.strip())
    assert said == ["1 added", "0 added", "2 added"]


def test_other_counts_are_right_too(ledger):
    """Keys, relays and signs of life are counted by the database."""
    ledger.add_devices(["dev"])
    ledger.set_key("dev", "00" * 32)
    ledger.set_key("dev", None)
    instance = ledger.register("r")
    assert ledger.keep_alive("r", instance)
    assert not ledger.keep_alive("r", "another")
    ledger.release("r", "another")
    with ledger.database.reading() as connection:
        assert connection.execute(select(schema.relays.c.name)).scalars().all() == ["r"]
    ledger.release("r", instance)
    assert ledger.relays() == []
