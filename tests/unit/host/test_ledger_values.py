"""What a device may say, and what a person may write, means the same on both databases, whatever the values are."""

import copy
import json
import math
import time
from binascii import crc32
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import pytest
from sqlalchemy import text

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.errors import HostError
from dormouse_host.ledger import messages, outbound, queries
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Incoming, Ledger

NOW = 1_790_000_000.0
TEXTS = ["\0", "a\0b", "\ud800", "x\udfffy", "\ud83d\ude00", "é" * 30, "x" * 40, "y" * 30_000, "'; DROP TABLE devices"]
NUMBERS = [0, -1, 2**31 - 1, 2**31, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e308]
NASTY: list[object] = [*TEXTS, *NUMBERS, float("nan"), float("inf"), True, None, [], {}, [[[[]]]], {"a": {"b": "\0"}}]
_END = {
    "wake": 1,
    "state": "s1",
    "present": True,
    "drained": True,
    "acked": 2,
    "windows": {"abc": [3, "s2.f"]},
}
SAID = {
    protocol.WAKE: {"wake": 2, "state": "s1", "next": 900, "limit": 2048, "catalogue": "c0ffee", "end": _END},
    protocol.END: _END,
    protocol.TELEMETRY: {"state": "s1", "records": [[1, 1_790_000_000, {"v": 1}], [2, -5, {"v": [1.5, "x"]}]]},
    protocol.RESULT: [
        {"id": "s1-abc.7", "status": "succeeded", "crc": 5, "value": {"ran": 30}},
        {"do": "water", "status": "failed", "crc": 5, "why": "dry"},
    ],
}


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Each place in a value that another value can stand in."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def put(value: object, path: tuple, nasty: object) -> object:
    if not path:
        return nasty
    changed = copy.deepcopy(value)
    inside = changed
    for key in path[:-1]:
        inside = inside[key]  # type: ignore[index]
    inside[path[-1]] = nasty  # type: ignore[index]
    return changed


def named(value: object, path: tuple, nasty: object) -> object:
    """The same, and the nasty one is the name of a value."""
    return put(value, path, {nasty: 1}) if isinstance(nasty, str) else put(value, path, [nasty, nasty])


def variants(leaf: str) -> list[bytes]:
    said = SAID[leaf]
    found = [change(said, path, nasty) for path in places(said) for nasty in NASTY for change in (put, named)]
    found += [json.loads("[" * depth + "]" * depth) for depth in (5, 50, 900)]
    return [json.dumps(one).encode() for one in found] + [b"1e999", b'{"wake":1e999}', b"[" * 60_000]


def everything(ledger: Ledger) -> object:
    """All that can be read from a ledger, but for names that are made up."""
    kinds = [list(ledger.export(what, 0)) for what in ("telemetry", "results", "wakes")]
    lines = [(line.kind, line.at) for line in ledger.timeline("dev", 10_000)]
    devices = [(view.id, view.state, view.report, view.limit, view.dropped) for view in ledger.devices()]
    return kinds, lines, devices, ledger.counts()


@pytest.mark.parametrize("leaf", SAID)
def test_nothing_a_device_says_costs_another_its_message(leaf, sqlite_file, postgresql_url):
    """All variants in one batch, between good messages of another device; each database says and stores the same."""
    found = []
    for where in (sqlite_file, postgresql_url):
        with Ledger(where, lambda: NOW) as ledger:
            batch = [Incoming("dev", leaf, payload) for payload in variants(leaf)]
            good = [Incoming("good", leaf, json.dumps(SAID[leaf]).encode()) for leaf in SAID]
            wrong = ledger.take([*good[:2], *batch, *good[2:]], "c")
            assert {row["device"] for row in ledger.export("telemetry", 0)} >= {"good"}
            json.dumps(everything(ledger))
            assert not any("database" in line for line in wrong), "found before it comes to that"
            found.append((wrong, everything(ledger)))
    assert found[0] == found[1]


def test_what_a_database_refuses_all_the_same_costs_only_its_own_message(where, monkeypatch):
    """The net below: whatever text gets through the parser by mistake."""
    monkeypatch.setattr(messages, "_text", lambda value: value)
    bad = json.dumps([{"do": "\ud800\0", "status": "failed", "crc": 1}]).encode()
    good = json.dumps(SAID[protocol.TELEMETRY]).encode()
    with Ledger(where) as ledger:
        batch = [Incoming(f"d{n}", protocol.TELEMETRY, good) for n in range(4)]
        wrong = ledger.take([*batch, Incoming("d2", protocol.RESULT, bad)], "c")
        assert [line.partition(":")[0] for line in wrong] == ["d2/up/result"]
        assert len(list(ledger.export("telemetry", 0))) == 8


@pytest.mark.parametrize("do", ["a\0b", "\udcff", "a\nb", "", "x" * 41])
def test_a_command_has_a_name_that_every_database_takes(where, do):
    with Fleet(where) as fleet:
        fleet.add("dev")
        with pytest.raises(HostError, match=r"name has 1 to 40|not expressible") as caught:
            fleet.send("dev", do)
        assert caught.value.code == 2
        assert fleet.ledger.counts() == {}


@pytest.mark.parametrize("value, why", [("\ud800", "half a character"), (["x\udfffy"], "half"), (10**400, "too long")])
def test_what_no_device_would_read_is_refused_before_it_is_stored(where, value, why):
    """It was stored, sent, and rejected at the next wake; signed or not, the device reads the same."""
    with Fleet(where) as fleet:
        fleet.add("dev")
        with pytest.raises(HostError, match=f"water: .*{why}") as caught:
            fleet.send("dev", "water", {"v": value})
        assert caught.value.code == 2
        assert fleet.ledger.counts() == {}
        for good in ("🌱 süß \0", 10**300, -(2**64), [1e308, None, {"a": True}]):
            assert fleet.result(fleet.send("dev", "water", {"v": good}).name).args == {"v": good}


@pytest.mark.parametrize("name", ["\udcff", "a\udcff"])
def test_half_a_character_in_a_question_is_an_error_of_one_line(where, name):
    """As from a command line that is not UTF-8."""
    with Fleet(where) as fleet:
        fleet.add("dev")
        for ask in (fleet.result, fleet.status, fleet.log, fleet.cancel, fleet.members):
            with pytest.raises(HostError) as caught:
                ask(name)
            assert (caught.value.code, "\n" in str(caught.value)) == (2, False)


_VIEWS = text("SELECT viewname FROM pg_views WHERE schemaname = 'public'")


def test_what_is_listed_is_in_the_order_of_bytes(where):
    """Whatever PostgreSQL's own order is: for this test one that begins with small letters."""
    names = ["a_b", "aB", "aa", "Ab", "dev", "Dev2", "a-b", "b"]
    with Ledger(where, lambda: NOW) as ledger:
        if "://" in where:
            with ledger.database.writing() as connection:
                for view in connection.execute(_VIEWS).scalars().all():  # they hold the types of their columns
                    connection.execute(text(f"DROP VIEW {view}"))
                for column in ("devices.id", "telemetry.device", "relays.name", "groups.name"):
                    table, _, name = column.partition(".")
                    connection.execute(text(f'ALTER TABLE {table} ALTER COLUMN {name} TYPE text COLLATE "en-x-icu"'))
        for name in names:
            ledger.add_devices([name])
            ledger.register(name)
            ledger.set_group(name, ["a_b"])
            batch = json.dumps({"state": "s1", "records": [[1, 0, {}]]}).encode()
            ledger.take([Incoming(name, protocol.TELEMETRY, batch)], "c")
        assert [view.id for view in ledger.devices()] == sorted(names)
        assert [relay.name for relay in ledger.relays()] == sorted(names)
        assert list(ledger.devices("a_b")[0].groups) == sorted(names)
        assert [row["device"] for row in ledger.export("telemetry", 0)] == sorted(names)


def test_names_are_told_apart_by_case(where):
    with Ledger(where) as ledger:
        assert ledger.add_devices(["dev", "Dev", "DEV"]) == 3
        ledger.set_group("g", ["dev"])
        ledger.set_group("G", ["Dev"])
        assert (ledger.members("g"), ledger.members("G")) == (["dev"], ["Dev"])
        (name,) = ledger.enter([Order("Dev", "ping")])
        with pytest.raises(HostError, match="no command"):
            ledger.command(name.upper())


def test_a_reader_sees_one_moment(where):
    """What is committed between two of its statements is not in the second one's answer."""
    with Ledger(where) as ledger:
        ledger.add_devices(["dev"])
        with ledger.database.reading() as connection:
            reader = queries.Queries(lambda **_: nullcontext(connection))
            assert [view.id for view in reader.devices()] == ["dev"]
            with Ledger(where) as other:
                other.add_devices(["new"])
                other.enter([Order("dev", "ping")])
            assert [(view.id, view.pending) for view in reader.devices()] == [("dev", 0)]
            assert reader.timeline("dev", 10) == []


@pytest.mark.parametrize("depth", range(1, protocol.DEPTH_LIMIT + 1))
def test_a_value_as_deep_as_a_device_may_send_is_understood(depth):
    """In a result and in a record: what stands around it takes nothing of the depth."""
    value: object = 1
    for _ in range(depth):
        value = [value]
    entry = {"id": "s1-l1.1", "status": "succeeded", "crc": 1, "value": value}
    answer = messages.results(json.dumps([entry]).encode()).answers[0]
    assert (answer.value, json.loads(answer.value_text or "")) == (value, value)


def test_large_numbers_come_back_as_they_were(where):
    """A command's number and a record's up to their limits, and an answer's CRC-32 above 2^31."""
    with Ledger(where, lambda: NOW) as ledger:
        most = 2**53 - 1
        batch = {"state": "s1", "records": [[most, 1_790_000_000, {"v": 2**53}]]}
        report = {"wake": most, "state": "s1", "limit": 2**31 - 1, "next": 2**31 - 1}
        said = {protocol.WAKE: report, protocol.TELEMETRY: batch, protocol.END: {**_END, "acked": most}}
        messages = [Incoming("dev", leaf, json.dumps(value).encode()) for leaf, value in said.items()]
        assert ledger.take(messages, "c") == []
        (name,) = ledger.enter([Order("dev", "ping", expires=int(NOW) + 10 * 366 * 86400)])
        (sent,) = [one for one in ledger.claim("r", "c", 10) if json.loads(one.payload)["u"] == name]
        answer = [{"id": json.loads(sent.payload)["id"], "status": "succeeded", "crc": crc32(sent.payload)}]
        assert ledger.take([Incoming("dev", protocol.RESULT, json.dumps(answer).encode())], "c") == []
        assert ledger.command(name).status == "succeeded"
        (record,) = ledger.export("telemetry", 0)
        assert (record["number"], record["values"]) == (most, {"v": 2**53})
        view = ledger.devices("dev")[0]
        assert (view.report["wake"], view.limit, view.next_due) == (most, 2**31 - 1, NOW + 2**31 - 1)


@pytest.mark.parametrize("most", [0, -1])
def test_a_limit_that_is_none_is_refused(where, most):
    """SQLite takes -1 for all, PostgreSQL for an error, and a list's last 0 are all of it."""
    with Fleet(where) as fleet:
        fleet.add("dev")
        fleet.send("dev", "ping")
        for ask in (fleet.recent, partial(fleet.log, "dev"), partial(fleet.latest, "dev")):
            with pytest.raises(HostError, match=f"a limit of {most}: expected 1 or more"):
                ask(most)
            assert len(ask(1)) <= 1


def test_an_expiry_that_is_no_number_is_told_as_that(where):
    with Fleet(where) as fleet:
        fleet.add("dev")
        with pytest.raises(HostError, match="the expiry is no number of seconds"):
            fleet.send("dev", "ping", expires=math.nan)
        assert fleet.recent() == []


def test_two_that_register_one_name_at_once_are_told_so(postgresql_url):
    """The second waits for the first, and finds it alive: no error of the database."""
    with Ledger(postgresql_url) as one, Ledger(postgresql_url) as two, ThreadPoolExecutor() as pool:
        with one.database.writing() as connection:
            outbound.register(connection, "r", time.time())
            second = pool.submit(two.register, "r")
            time.sleep(0.5)
            assert not second.done()
        with pytest.raises(HostError, match="a relay named r is alive"):
            second.result(20)


def test_two_changes_of_one_group_at_once_leave_one_of_them(postgresql_url):
    """Not both, as when neither sees the other's rows."""
    with Ledger(postgresql_url) as one, Ledger(postgresql_url) as two, ThreadPoolExecutor() as pool:
        one.add_devices(["a", "b"])
        for _ in range(20):
            both = [pool.submit(ledger.set_group, "g", [name]) for ledger, name in ((one, "a"), (two, "b"))]
            for each in both:
                each.result(20)
            assert len(one.members("g")) == 1
            one.set_group("g", [])
