"""What the ledger takes in: reports, results and telemetry of devices, and whatever strangers send."""

import json

import pytest

from dormouse import protocol
from dormouse_host.ledger import schema
from dormouse_host.ledger.store import Incoming
from dormouse_host.ledger.telemetry import follow
from support.reports import NOW, answer, awake, end, end_message, enter, records, report

# ---- what devices say of themselves


def test_a_report_says_nothing_of_who_it_came_from_and_when(ledger):
    ledger.take([report(1, device="another", at=1, kind="x")], "c0")
    (row,) = ledger.export("wakes", 0)
    assert (row["device"], row["at"], list(row)[:2]) == ("dev", NOW, ["device", "at"])


def test_an_entry_that_is_not_legible_costs_the_others_of_its_message_nothing(ledger):
    awake(ledger)
    (name,) = enter(ledger, "a")
    (sent,) = ledger.claim("r", "c1", 10)
    good = json.loads(answer(sent).payload)
    (wrong,) = ledger.take([Incoming("dev", protocol.RESULT, json.dumps([5, *good, {"status": "x"}]).encode())], "c1")
    assert wrong == "dev/up/result: 2 of 3 left out: not an object"
    assert ledger.command(name).status == "succeeded"
    batch = {"state": "s1", "records": [[1, 0, {}], ["x", 0, {}], [3, 0, {}]]}
    (wrong,) = ledger.take([Incoming("dev", protocol.TELEMETRY, json.dumps(batch).encode())], "c1")
    assert wrong == "dev/up/telemetry: 1 of 3 left out: not a whole number in range"
    assert [row["number"] for row in ledger.export("telemetry", 0)] == [1, 3]
    assert len(ledger.take([Incoming("dev", protocol.RESULT, b"[5]")], "c1")) == 1


@pytest.mark.parametrize("leaf", [protocol.WAKE, protocol.END, protocol.RESULT])
def test_who_clears_what_the_broker_retained_has_said_nothing(ledger, leaf):
    awake(ledger)
    assert ledger.take([Incoming("dev", leaf, b""), Incoming("nobody", leaf, b"")], "c1") == []
    assert [view.id for view in ledger.devices()] == ["dev"]


def test_the_log_of_a_wiped_device_shows_its_newest_records(ledger, clock):
    """Their numbers begin again at 1."""
    awake(ledger)
    ledger.take([records(*range(1, 101))], "c1")
    clock.now += 60
    ledger.take([report(1, state="s2"), records(1, 2, state="s2")], "c1")
    lines = [line for line in ledger.timeline("dev", 10) if line.kind == "telemetry"]
    assert [line.fields["number"] for line in lines if line.at == clock.now] == [1, 2]


def test_the_log_is_as_long_as_it_is_asked_to_be(ledger):
    """SQLite takes 32,766 values in one statement, PostgreSQL 65,535."""
    with ledger.database.writing() as connection:
        stored = [
            {"device": "dev", "at": NOW, "id": f"s1-l.{n}", "status": "succeeded", "digest": str(n)}
            for n in range(1, 12_001)
        ]
        connection.execute(schema.results.insert(), stored)
    assert len(ledger.timeline("dev", 100_000)) == len(stored)


# ---- telemetry


def test_telemetry_is_stored_once_and_a_missing_tail_is_asked_for_once(ledger):
    awake(ledger)
    ledger.take([records(1, 2), records(2, 4, age=30)], "c1")
    assert [row["number"] for row in ledger.export("telemetry", 0)] == [1, 2, 4]
    assert [row["time"] for row in ledger.export("telemetry", 0)] == [NOW, NOW, NOW - 30]
    last = end(1, acked=6)
    ledger.take([end_message(last)], "c1")
    assert ledger.counts() == {}, "judged from the repetition at QoS 1"
    ledger.take([report(2, end=last)], "c1")
    (asked,) = ledger.claim("r", "c1", 10)
    assert json.loads(asked.payload)["args"] == {"from": 3, "to": 6}
    ledger.take([report(3, end=end(2, acked=6))], "c1")
    assert ledger.counts() == {"publishing": 1}, "one question at a time"
    ledger.take([records(5, 6), answer(asked, value={"dropped": 1})], "c1")
    ledger.take([report(4, end=end(3, acked=6))], "c1")
    assert ledger.counts() == {"succeeded": 1}
    assert ledger.devices("dev")[0].dropped == 1


def test_what_a_wiped_flash_was_known_to_hold_and_never_came_is_counted(ledger):
    """The broker had acknowledged 9 records to the device, and 2 of them are stored; nobody can ask for the others."""
    awake(ledger)
    ledger.take([records(1, 7), end_message(end(1, acked=9)), report(1, state="s2")], "c1")
    assert ledger.devices("dev")[0].dropped == 7
    assert ledger.counts() == {}, "and nobody asks"
    ledger.take([report(2, state="s2", end=end(1, acked=0, state="s2"))], "c1")
    assert ledger.devices("dev")[0].dropped == 7


@pytest.mark.parametrize(
    "spans, expected",
    [
        ([], (0, 0, [(1, 9)])),
        ([(1, 1, False), (2, 2, False)], (2, 0, [(3, 9)])),
        ([(n, n, False) for n in range(1, 10)], (9, 0, [])),
        ([(1, 4, True), (5, 9, True)], (9, 9, [])),
        ([(1, 4, True), (2, 2, False), (5, 5, False)], (5, 3, [(6, 9)])),
        ([(2, 2, False), (4, 4, False), (9, 9, False)], (0, 0, [(1, 1), (3, 3), (5, 8)])),
        ([(n, n, False) for n in range(1, 15)], (14, 0, [])),
    ],
)
def test_gaps_are_what_is_neither_there_nor_gone(spans, expected):
    assert follow(0, 9, spans) == expected


# ---- what strangers send

NASTY = [
    b"",
    b"\xff\xfe",
    b"[" * 5000,
    b"null",
    b"[null]",
    b"{}",
    b'{"wake":1e400,"state":"s1"}',
    b'{"wake":99999999999999999999,"state":"s1"}',
    b'{"wake":true,"state":"s1"}',
    b'{"wake":1,"state":"S/+"}',
    b'{"wake":1,"state":"s1","end":{}}',
    b'{"wake":1,"state":"s1","present":true,"drained":true,"acked":1,"windows":{"a":[5,"z"]}}',
    b'{"wake":1,"state":"s1","windows":{"a":[99999999999999999999999,"s"]}}',
    b'{"state":"s1","records":[[1,2]]}',
    b'{"state":"s1","records":[[99999999999999999999,1,{}]]}',
    b'{"state":"s1","records":[[0,1,{}]]}',
    b'{"state":"s1","records":[[1,NaN,{}]]}',
    b'{"state":"s1","records":[[1,1,{"v":NaN}]]}',
    b'[{"id":"s1-x.1","status":"done","crc":1}]',
    b'[{"id":"s1-x.01","status":"failed","crc":1}]',
    b'[{"id":5,"status":"failed","crc":1}]',
    b'[{"id":"s1-x.1","status":"failed","crc":"1"}]',
    b"x" * 70000,
]


@pytest.mark.parametrize("leaf", [protocol.WAKE, protocol.RESULT, protocol.TELEMETRY, protocol.END, "up/other", ""])
def test_nonsense_is_named_and_keeps_nothing_else_from_being_stored(ledger, leaf):
    wrong = ledger.take([*(Incoming("dev", leaf, payload) for payload in NASTY), records(1)], "c1")
    assert len(wrong) >= len([payload for payload in NASTY if payload]) - 2
    assert len(list(ledger.export("telemetry", 0))) == 1


@pytest.mark.parametrize("device", ["", "a b", "x" * 65, "\x1b[2J", "é"])
def test_a_topic_that_is_no_device_s_makes_no_device(ledger, device):
    (wrong,) = ledger.take([Incoming(device, protocol.WAKE, b'{"wake":1,"state":"s1"}')], "c1")
    assert "1 to 64 characters" in wrong
    assert [view.id for view in ledger.devices()] == ["dev"]


def test_text_that_no_database_takes_is_stored_legibly(ledger):
    why = '[{"do":"a\\u0000b","status":"rejected","crc":1,"why":"\\ud800 \\u0000","value":"\\ud800\\u0000"}]'
    assert ledger.take([Incoming("dev", protocol.RESULT, why.encode())], "c1") == []
    (row,) = ledger.export("results", 0)
    assert (row["do"], row["status"]) == ("a�b", "rejected")


def test_a_command_without_an_id_is_kept_as_a_result_of_its_own(ledger):
    payload = b'[{"status":"succeeded","crc":5,"do":"water","value":{"ran":30}}]'
    ledger.take([Incoming("dev", protocol.RESULT, payload)], "c1")
    (row,) = ledger.export("results", 0)
    assert (row["id"], row["do"], row["value"]) == (None, "water", {"ran": 30})
