"""The views on PostgreSQL: what they have, and that no device's words make one fail."""

import re

import pytest
from sqlalchemy import insert, text

from dormouse_host import Fleet
from dormouse_host.ledger import schema
from dormouse_host.ledger.migrations.views_0004 import VIEWS
from support import pages
from support.reports import NOW, Clock, answer, records, report


@pytest.fixture
def fleet(postgresql_url):
    with Fleet(postgresql_url, clock=Clock()) as opened:
        opened.add("dev")
        yield opened


def rows(fleet: Fleet, query: str) -> list[tuple]:
    with fleet.ledger.database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_each_has_what_people_plot(fleet):
    last = {"ended": "finished", "ms": 3500, "erases": 2}
    fleet.ledger.take([report(1, battery=3.7, rssi=-60, last=last, agent="0.1.0"), records(1, 2)], "c")
    name = fleet.send("dev", "ping").name
    fleet.clock.now += 5
    (sent,) = fleet.ledger.claim("r", "c", 10)
    fleet.ledger.take([answer(sent)], "c")
    fleet.send("dev", "ping")
    seconds = "extract(epoch FROM {})"
    query = f"SELECT {seconds.format('time')}, device, name, value, number FROM dormouse_readings ORDER BY number"
    assert rows(fleet, query) == [(NOW, "dev", "v", 1.0, 1), (NOW, "dev", "v", 2.0, 2)]
    query = "SELECT wake, battery_volts, rssi_dbm, last_awake_seconds, last_erases, last_ended FROM dormouse_wakes"
    assert rows(fleet, query) == [(1, 3.7, -60.0, 3.5, 2.0, "finished")]
    query = "SELECT id, command, status, final, seconds, published FROM dormouse_commands ORDER BY entered"
    assert rows(fleet, query)[0] == (name, "ping", "succeeded", True, 5.0, 1)
    due = seconds.format("next_wake")
    query = f"SELECT device, {due}, battery_volts, agent, pending, dropped_records FROM dormouse_devices"
    assert rows(fleet, query) == [("dev", NOW + 900, 3.7, "0.1.0", 1, 0)]


ODD = [
    '{"v":1}',
    '{"v":1e400,"w":2}',
    '{"v":' + "9" * 400 + "}",
    '{"v":1e-400}',
    '{"v":0.' + "0" * 400 + "1}",
    '{"v":-1.5e-7}',
    '{"a\\u0000":1}',
    '{"v":"\\ud800"}',
    '{"v":"1","w":true,"x":null,"y":[1],"z":{"v":1}}',
    "[1]",
    "5",
    '"{"',
    "null",
    '{"last":5,"battery":"3.7","next":"soon"}',
    '{"last":{"ms":"x","ended":[1]},"battery":[],"rssi":1e999}',
]


def test_nothing_that_a_device_may_send_makes_a_view_fail(fleet):
    with fleet.ledger.database.writing() as c:
        for n, odd in enumerate(ODD):
            time = (NOW, -1e15, 9e15, 1e300)[n % 4]
            c.execute(insert(schema.telemetry).values(device="d", state="s", number=n, time=time, at=NOW, record=odd))
            c.execute(insert(schema.reports).values(device="d", state="s", wake=n, seq=n, at=time, report=odd))
            c.execute(insert(schema.devices).values(id=f"d{n}", added=NOW, report=odd, next_due=time))
    found = {}
    for name in VIEWS:
        found[name] = rows(fleet, f"SELECT * FROM {name}")
    values = {(number, value) for _, _, _, value, _, number, _ in found["dormouse_readings"]}
    assert {(0, 1.0), (1, None), (1, 2.0), (2, None), (5, -1.5e-7)} <= values
    assert not {number for number, _ in values} & {6, 7, 8, 9, 10, 11, 12}
    assert len(found["dormouse_wakes"]) == len(ODD)


def test_their_columns_are_those_that_are_documented(fleet):
    there = rows(
        fleet, "SELECT table_name, column_name FROM information_schema.columns WHERE table_name LIKE 'dormouse\\_%'"
    )
    there = [pair for pair in there if pair[0] != "dormouse_schema"]
    documented = [
        (row[0].strip("`"), column)
        for row in pages.table(pages.page("operating"), "view")
        for column in re.findall(r"`(\w+)`", row[1])
    ]
    assert sorted(there) == sorted(documented)
