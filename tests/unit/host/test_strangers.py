"""Ids that nobody registered, and devices that were removed: counted, and no devices; on both databases."""

import json
import time

import pytest
from sqlalchemy import func, select

from dormouse import protocol
from dormouse_host.address import BrokerAddress
from dormouse_host.ledger import schema, strangers
from dormouse_host.ledger.store import Incoming, Ledger
from dormouse_host.relay.relay import Relay
from support.postgresql import PostgreSQL, need_postgresql


@pytest.fixture(scope="module")
def server():
    with PostgreSQL(need_postgresql()) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request, tmp_path):
    """A ledger of each kind; what stood in the server's is gone."""
    if request.param == "sqlite":
        with Ledger(str(tmp_path / "ledger.db")) as made:
            yield made
        return
    with Ledger(request.getfixturevalue("server").url) as made:
        yield made
        with made.database.writing() as connection:
            for table in (schema.devices, schema.removed, schema.strangers, schema.commands, schema.reports):
                connection.execute(table.delete())


def report(device: str, wake: int = 1) -> Incoming:
    return Incoming(device, protocol.WAKE, json.dumps({"wake": wake, "state": "s1", "catalogue": "abc"}).encode())


def rows_of(ledger: Ledger, table) -> int:
    with ledger.database.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar() or 0


def test_an_id_that_is_not_registered_is_counted_and_no_device(ledger):
    said = ledger.take([report("ghost"), report("ghost", 2)], None, accept_new=False)
    assert said == ["ghost is not registered: dormouse devices add ghost"]
    assert ledger.take([report("ghost", 3)], None, accept_new=False) == [], "named once"
    assert ledger.views() == []
    assert rows_of(ledger, schema.commands) == rows_of(ledger, schema.reports) == 0
    assert ledger.strangers() == strangers.Strangers(("ghost",), 3)


def test_who_is_registered_is_a_device_beside_those_that_are_not(ledger):
    ledger.add_devices(["dev"])
    ledger.take([report("a"), report("dev"), report("z")], None, accept_new=False)
    assert [(view.id, view.state) for view in ledger.views()] == [("dev", "s1")]
    assert ledger.strangers().names == ("a", "z")
    ledger.add_devices(["a"])
    assert ledger.strangers().names == ("z",)
    ledger.take([report("a", 2)], None, accept_new=False)
    assert [view.state for view in ledger.views("a")] == ["s1"]


@pytest.mark.parametrize("accept_new", [False, True])
def test_a_removed_device_stays_removed_until_it_is_added(ledger, accept_new):
    """Its key went with it: what comes in its name is anybody's."""
    ledger.add_devices(["dev"])
    ledger.set_key("dev", "ab" * 32)
    ledger.remove_device("dev")
    ledger.take([report("dev")], None, accept_new=accept_new)
    assert ledger.views() == []
    assert ledger.strangers().messages == 1
    assert ledger.add_devices(["dev"]) == 1
    ledger.take([report("dev", 2)], None, accept_new=accept_new)
    assert [view.state for view in ledger.views()] == ["s1"]


def test_a_hundred_thousand_strangers_are_a_hundred_rows_and_hold_nobody_up(ledger):
    ledger.add_devices(["dev"])
    lines, began, slowest = 0, time.monotonic(), 0.0
    for first in range(0, 100_000, 500):
        batch = [report(f"ghost-{n}") for n in range(first, first + 499)] + [report("dev", first + 1)]
        before = time.monotonic()
        lines += len(ledger.take(batch, None, accept_new=False))
        slowest = max(slowest, time.monotonic() - before)
    assert [view.report["wake"] for view in ledger.views()] == [99_501]
    found = ledger.strangers()
    assert (len(found.names), found.messages, found.more) == (strangers.NAMED, 200 * 499, True)
    assert rows_of(ledger, schema.strangers) == strangers.NAMED + 1
    assert rows_of(ledger, schema.devices) == 1
    assert rows_of(ledger, schema.commands) == 1
    assert lines == strangers.NAMED
    assert slowest < 10, f"{slowest:.1f} s of {time.monotonic() - began:.1f}"


def test_without_a_credential_at_the_broker_new_ids_become_devices(tmp_path):
    """A trial needs no registration; a broker that knows its devices does."""
    with Ledger(str(tmp_path / "ledger.db")) as ledger:
        for user, said, accepts in ((None, None, True), ("relay", None, False), ("relay", True, True)):
            relay = Relay(ledger, BrokerAddress("x", 1, user), "dormouse", "r", accept_new=said)
            assert relay._accept_new is accepts
