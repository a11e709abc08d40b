"""What one device says is about itself alone; and what was said once proves nothing when it is said again.

Must stay true: each test speaks to the ledger as a relay does, with what a device or a broker may send.
"""

import json
from binascii import crc32
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from dormouse import protocol
from dormouse.signing import Signer
from dormouse_host.ledger import inbound, rows, schema
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.outbound import Outgoing
from dormouse_host.ledger.store import Incoming, Ledger

KEY = "5a" * 32
NOW = 1_790_000_000.0


class Books:
    """A ledger with an honest device and another, and what reaches it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.sent: list[Outgoing] = []

    def hear(self, device: str, leaf: str, said: object, **how: bool) -> list[str]:
        return list(self.ledger.take([Incoming(device, leaf, json.dumps(said).encode(), **how)], "c1"))

    def report(self, wake: int, state: str = "s1", device: str = "dev", end: dict | None = None) -> None:
        said = {"wake": wake, "state": state, "next": 900, **({"end": end} if end else {})}
        assert self.hear(device, protocol.WAKE, said) == []

    def publish(self) -> list[Outgoing]:
        return list(self.ledger.claim("r", "c1", 100))

    def answer(self, one: Outgoing, status: str = "succeeded", **more: object) -> None:
        said = {"id": json.loads(one.payload)["id"], "status": status, "crc": crc32(one.payload), **more}
        assert self.hear(one.device, protocol.RESULT, [said]) == []

    @property
    def device(self) -> tuple[str | None, int]:
        """State and wake of the honest device."""
        view = self.ledger.devices("dev")[0]
        return view.state, view.report["wake"]


def end(wake: int, windows: dict | None = None, state: str = "s1", **fields: object) -> dict:
    record = {"wake": wake, "state": state, "present": True, "drained": True, "fence_dead": False, "acked": 0}
    return {**record, "windows": windows or {}, **fields}


@pytest.fixture
def books(where) -> Iterator[Books]:
    with Ledger(where, lambda: NOW) as ledger:
        ledger.add_devices(["dev", "evil"])
        made = Books(ledger)
        made.report(1)
        made.report(1, "e1", "evil")
        yield made


# ---- a name for each device


def test_a_ledger_has_another_name_for_each_device(books):
    books.ledger.enter([Order("dev", "ping"), Order("evil", "ping")])
    ids = {one.device: json.loads(one.payload)["id"] for one in books.publish()}
    assert {device: ids[device].split("-")[1] for device in ids} == {
        device: f"{books.ledger.name(device)}.1" for device in ("dev", "evil")
    }
    assert books.ledger.name("dev") != books.ledger.name("evil")


@pytest.mark.parametrize("way", ["a window far ahead", "a forgotten ledger", "another command's bytes"])
def test_nothing_that_another_device_says_touches_this_devices_commands(books, way):
    """It knows every name and number. Its own commands get another name; four rounds would fill a device's windows."""
    waits, cancelled, theirs = books.ledger.enter([Order("dev", "a"), Order("dev", "b"), Order("evil", "c")])
    books.ledger.cancel(cancelled)
    names = [books.ledger.name(device) or "" for device in ("dev", "evil")]
    books.publish()
    for n in range(4):
        for name in [names[0], books.ledger.name("evil") or ""]:
            if way == "a window far ahead":
                books.hear("evil", protocol.END, end(n + 1, {name: [1 << 30, "s"]}, "e1"))
            else:
                why = "its ledger is forgotten" if way == "a forgotten ledger" else None
                for state in ("e1", "s1"):
                    said = {"id": f"{state}-{name}.1", "status": "unknown", "crc": 1, "why": why}
                    books.hear("evil", protocol.RESULT, [said])
    assert books.ledger.name("dev") == names[0]
    assert books.ledger.name("evil") != names[1]
    assert (books.ledger.command(waits).status, books.ledger.command(cancelled).status) == ("publishing", "cancelled")
    assert books.ledger.command(theirs).device == "evil"


def test_what_a_device_says_of_its_own_ledger_renames_it_for_that_device(books):
    cancelled, other = books.ledger.enter([Order("dev", "a"), Order("evil", "b")])
    books.ledger.cancel(cancelled)
    books.ledger.cancel(other)
    before = books.ledger.name("dev"), books.ledger.name("evil")
    books.report(2, end=end(1, {before[0]: [9, "s8"]}))
    assert (books.ledger.name("dev") != before[0], books.ledger.name("evil")) == (True, before[1])
    assert books.ledger.command(cancelled).status == "unknown"
    assert books.ledger.command(other).status == "cancelled"


def test_restored_takes_new_names_with_all_devices(books, monkeypatch):
    """In slices, so that a relay goes on between two of them."""
    monkeypatch.setattr("dormouse_host.ledger.store._AT_ONCE", 1)
    names = books.ledger.enter([Order("dev", "a"), Order("evil", "b")])
    before = books.ledger.name("dev"), books.ledger.name("evil")
    assert books.ledger.restored() == (2, 2)
    assert {books.ledger.name("dev"), books.ledger.name("evil")}.isdisjoint(before)
    assert {books.ledger.command(name).status for name in names} == {"unknown"}


def test_a_device_that_was_removed_and_comes_back_goes_on_with_its_numbers(books):
    """Its windows still know this ledger's name: a new one would cost it one of its four."""
    books.ledger.enter([Order("dev", "a")])
    name = books.ledger.name("dev")
    books.ledger.remove_device("dev")
    books.ledger.add_devices(["dev"])
    books.report(2)
    books.ledger.enter([Order("dev", "a")])
    assert [json.loads(one.payload)["id"] for one in books.publish()] == [f"s1-{name}.2"]


@pytest.mark.parametrize(
    "leaf, said",
    [
        (protocol.END, end(2, {"NAME": [9, "s8"]})),
        (protocol.RESULT, [{"id": "s1-NAME.1", "status": "unknown", "crc": 1, "why": "its ledger is forgotten"}]),
        (protocol.RESULT, [{"id": "s1-NAME.1", "status": "succeeded", "crc": 1}]),
        (protocol.WAKE, {"wake": 3, "state": "s1", "end": end(2, {"NAME": [9, "s8"]})}),
    ],
    ids=["end", "forgotten", "crc", "report"],
)
def test_of_a_device_with_a_key_all_that_counts_only_signed(books, leaf, said):
    books.ledger.set_key("dev", KEY)
    signer = Signer(KEY, "dev")
    first = json.dumps({"wake": 2, "state": "s1"}).encode()
    assert books.ledger.take([Incoming("dev", protocol.WAKE, signer.sign(protocol.WAKE, first))], "c1") == []
    books.ledger.enter([Order("dev", "a")])
    books.publish()
    name = books.ledger.name("dev") or ""
    payload = json.dumps(said).replace("NAME", name).encode()
    elsewhere = signer.sign(protocol.TELEMETRY, payload)
    other = Signer(KEY, "evil").sign(leaf, payload)
    down = signer.sign(protocol.CMD, payload)
    for forged in (payload, elsewhere, other, down):
        assert books.ledger.take([Incoming("dev", leaf, forged)], "c1") != []
        assert books.ledger.name("dev") == name
    assert books.ledger.take([Incoming("dev", leaf, signer.sign(leaf, payload))], "c1") == []
    assert books.ledger.name("dev") != name


# ---- what is said again


def test_a_report_of_a_state_that_was_left_changes_nothing(books):
    """Neither one that was heard nor one that somebody has held back; what is open stays open."""
    books.report(7)
    books.report(1, "s2")
    (name,) = books.ledger.enter([Order("dev", "a")])
    books.publish()
    for wake in (7, 8):
        books.report(wake)
        assert books.device == ("s2", 1)
        assert books.ledger.command(name).status == "publishing"


def test_within_a_state_wakes_only_rise(books):
    books.report(9)
    for wake in (8, 9, 2):
        books.report(wake)
        assert books.device == ("s1", 9)
    books.report(10)
    assert books.device == ("s1", 10)


def test_an_old_report_proves_nothing_though_the_ledger_has_pruned_it(books):
    """What keeps it away is the highest wake and the list of states, which are never pruned."""
    books.report(2)
    books.report(1, "s2")
    with books.ledger.database.writing() as connection:
        for table in (schema.reports, schema.ends):
            connection.execute(table.delete())
    books.report(2)
    books.report(1, "s2")
    assert books.device == ("s2", 1)


def test_an_end_record_of_a_state_that_was_left_changes_nothing(books):
    (name,) = books.ledger.enter([Order("dev", "a")])
    books.publish()
    books.report(1, "s2")
    assert books.ledger.command(name).status == "unknown"
    late = end(5, {books.ledger.name("dev") or "": [1, "s"]})
    assert books.hear("dev", protocol.END, late) == []
    assert books.ledger.command(name).status == "unknown"
    assert books.publish() == []


def test_a_report_that_came_late_makes_the_ledger_ask_and_the_device_refuses(books):
    """One question, however often it comes again; its refusal settles it."""
    books.report(1, "s2")
    for wake in (5, 5, 6):
        books.report(wake)
    (question,) = books.publish()
    assert json.loads(question.payload)["do"] == "report"
    assert json.loads(question.payload)["id"].startswith("s1-")
    books.answer(question, "unknown", why="for another state of this device")
    assert books.device == ("s2", 1)
    assert books.publish() == []


def test_a_device_that_answers_under_a_state_has_that_state(books):
    """A report that was held back over two wipes comes as the first of its state: the device itself puts that right,
    and nothing that was open is lost. So does the board that was swapped out and back in.
    """
    (name,) = books.ledger.enter([Order("dev", "a")])
    (sent,) = books.publish()
    books.report(1, "held")
    assert books.device == ("held", 1)
    assert books.ledger.command(name).status == "unknown"
    books.report(2)
    assert books.device == ("held", 1)
    (question,) = books.publish()
    books.answer(question, value={"wake": 3, "state": "s1", "next": 900})
    assert books.device == ("s1", 3)
    (again,) = books.publish()
    assert again.payload == sent.payload
    books.answer(again)
    assert books.ledger.command(name).status == "succeeded"
    books.report(2, "held")
    books.report(4)
    assert books.device == ("s1", 4)


def test_an_answer_that_was_held_back_brings_no_state_back(books):
    """The question is over once the device has spoken under another state."""
    books.report(9)
    books.report(8)
    (question,) = books.publish()
    books.report(1, "s2")
    books.answer(question, value={"wake": 9, "state": "s1", "next": 900})
    assert books.device == ("s2", 1)


def test_a_device_whose_count_began_anew_is_heard_again(books):
    """Its mark was damaged, or somebody without a key has forged a wake of a million."""
    books.report(1_000_000)
    books.report(2)
    (question,) = books.publish()
    books.answer(question, value={"wake": 3, "state": "s1", "next": 900})
    books.report(4)
    assert books.device == ("s1", 4)


def test_states_that_were_left_are_bounded_and_none_is_taken_again(books, monkeypatch):
    """What is forgotten of them is not taken for new: by a report of a state that nobody remembers the ledger asks."""
    monkeypatch.setattr(rows, "STATES", 3)
    for state in ("s1", "s2", "s3", "s4"):
        books.report(1, state)
    assert remembered(books) == {"s1", "s2", "s3"}
    assert books.publish() == []
    books.report(1, "s5")  # now there are as many as are remembered, so it may be an old one
    assert books.device == ("s4", 1)
    (question,) = books.publish()
    books.answer(question, value={"wake": 1, "state": "s5", "next": 900})
    assert books.device == ("s5", 1)
    assert len(remembered(books)) == 3
    for state in ("s1", "s2", "s3", "s4"):  # one of them is forgotten
        books.report(9, state)
        books.hear("dev", protocol.END, end(9, state=state))
        assert books.device == ("s5", 1)
    for question in books.publish():
        books.answer(question, "unknown", why="for another state of this device")
    books.report(2, "s5")
    assert books.device == ("s5", 2)
    assert len(remembered(books)) == 3


def test_made_up_states_cost_few_questions(books, monkeypatch):
    monkeypatch.setattr(rows, "STATES", 2)
    for state in ("s1", "s2", "s3", *(f"made{number}" for number in range(40))):
        books.report(1, state)
    assert books.device == ("s3", 1)
    assert len(books.publish()) == inbound._QUESTIONS_AT_ONCE


def remembered(books: Books) -> set[str]:
    left = schema.states_left.c
    with books.ledger.database.reading() as connection:
        return set(connection.execute(select(left.state).where(left.device == "dev")).scalars())
