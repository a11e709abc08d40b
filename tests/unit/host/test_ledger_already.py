"""What a relay may acknowledge without storing it, because another relay has stored it already."""

import json
from binascii import crc32

import pytest

from dormouse import protocol
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Incoming, Ledger

NOW = 1_790_000_000.0


@pytest.fixture
def ledger(where):
    with Ledger(where, lambda: NOW) as opened:
        opened.add_devices(["dev", "other"])
        yield opened


def message(leaf: str, value: object, device: str = "dev") -> Incoming:
    return Incoming(device, leaf, json.dumps(value).encode())


def report(wake: int, state: str = "s1") -> Incoming:
    return message(protocol.WAKE, {"wake": wake, "state": state})


def telemetry(*numbers: int) -> Incoming:
    return message(protocol.TELEMETRY, {"state": "s1", "records": [[number, -1, {"t": 1}] for number in numbers]})


def answer(**more: object) -> Incoming:
    return message(protocol.RESULT, [{"id": "s1-l1.1", "status": "succeeded", "crc": 1, **more}])


END = message(protocol.END, {"wake": 1, "state": "s1", "present": True, "drained": True, "windows": {}})


@pytest.mark.parametrize("said", [report(1), telemetry(1, 2, 3), telemetry(7), answer(), answer(value=[1]), END])
def test_a_message_is_stored_once_it_was_taken(ledger, said):
    if said.leaf != protocol.WAKE:
        ledger.take([report(1)], None)
    assert ledger.stored([said]) == [False]
    assert ledger.take([said], None) == []
    assert ledger.stored([said]) == [True]
    assert ledger.stored([Incoming("other", said.leaf, said.payload), said]) == [False, True]


def test_each_part_of_a_message_counts(ledger):
    """Records and answers of which some were in another message."""
    ledger.take([report(1), telemetry(1, 2), answer()], None)
    both = message(protocol.RESULT, [json.loads(answer().payload)[0], {"id": "s1-l1.2", "status": "failed", "crc": 2}])
    assert ledger.stored([telemetry(2, 3), telemetry(2), both]) == [False, True, False]


def test_an_older_report_is_stored_if_it_was_heard(ledger):
    """A later one of the same state does not show that the earlier came."""
    ledger.take([report(1), report(3)], None)
    assert ledger.stored([report(1), report(2), report(3)]) == [True, False, True]


def test_a_report_of_a_state_that_was_left_is_asked_about_again(ledger):
    ledger.take([report(5)], None)
    ledger.take([report(1, "s2")], None)
    assert ledger.stored([report(5), report(1, "s2")]) == [False, True]


def test_a_device_that_was_removed_and_came_back_is_heard_again(ledger):
    """Its reports are still there, and say nothing of what the ledger knows of it."""
    ledger.take([report(1)], None)
    ledger.remove_device("dev")
    ledger.add_devices(["dev"])
    assert ledger.stored([report(1)]) == [False]


@pytest.mark.parametrize(
    "said",
    [
        Incoming("dev", protocol.WAKE, b"{"),
        Incoming("dev", "nothing", b"{}"),
        Incoming("stranger", protocol.WAKE, b'{"wake":1,"state":"s1"}'),
        message(protocol.RESULT, [{"status": "succeeded", "crc": 1}]),  # without an id each copy is another one
        message(protocol.RESULT, [json.loads(answer().payload)[0], {"status": "?"}]),
        telemetry(1, 3),
        telemetry(),
        report(1 << 70),
        message(protocol.WAKE, {"wake": True, "state": "s1"}),
        message(protocol.END, {"wake": 1, "state": "\0"}),
        message(protocol.TELEMETRY, {"state": "s1", "records": [[1 << 70, 1, {}]]}),
        message(protocol.RESULT, {"id": "s1-l1.1"}),
        message(protocol.RESULT, [{"id": "s1-l1.1", "status": float("nan")}]),
        message(protocol.RESULT, [7]),
    ],
)
def test_of_other_messages_it_cannot_be_told(ledger, said):
    assert ledger.stored([said, report(1)]) == [None, False]
    ledger.take([said], None, accept_new=False)
    assert ledger.stored([said]) == [None]


def test_nothing_is_changed_by_what_is_stored_already(ledger):
    """Taking it again is the same as leaving it."""
    ledger.take([report(1)], None)
    ledger.enter([Order("dev", "say")])
    (one,) = ledger.claim("r", "c1", 10)
    done = {"id": json.loads(one.payload)["id"], "status": "succeeded", "crc": crc32(one.payload), "value": 1}
    said = [report(2), telemetry(1, 2), message(protocol.RESULT, [done]), END]
    ledger.take(said, None)
    assert ledger.stored(said) == [True] * 4
    before = ledger.timeline("dev", 100), ledger.counts(), ledger.claim("r", "c1", 10)
    ledger.take(said, None)
    assert (ledger.timeline("dev", 100), ledger.counts(), ledger.claim("r", "c1", 10)) == before
