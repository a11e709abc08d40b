"""Pruning forgets what is old, and nothing that a device, a broker that went back in time or a rule may ask for. The
newest row of each table stays.
"""

import json
from binascii import crc32
from collections.abc import Iterator

import pytest
from sqlalchemy import event

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.errors import HostError
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.pruning import WAKES
from dormouse_host.ledger.store import Incoming

DAY = 86400.0


class Books:
    """A ledger with a clock that is moved by hand, and a device that answers whatever it is sent."""

    def __init__(self, db: str) -> None:
        self.now = 1_790_000_000.0
        self.fleet = Fleet(db, clock=lambda: self.now)
        self.ledger = self.fleet.ledger
        self.fleet.add("dev")
        self.wakes = 0

    def hear(self, leaf: str, said: object, **how) -> None:
        assert self.ledger.take([Incoming("dev", leaf, json.dumps(said).encode(), **how)], "c") == []

    def wake(self, state: str = "s1", acked: int = 0, windows: dict | None = None) -> dict:
        """A wake that tells the windows of the one before."""
        self.wakes += 1
        end = {"wake": self.wakes - 1, "state": state, "present": True, "drained": True, "acked": acked}
        report = {"wake": self.wakes, "state": state, "next": 900, "end": {**end, "windows": windows or {}}}
        self.hear(protocol.WAKE, report)
        return report

    def publish(self) -> list[bytes]:
        return [one.payload for one in self.ledger.claim("r", "c", 10_000)]

    def answer(self, *payloads: bytes, status: str = "succeeded") -> None:
        said = [{"id": json.loads(one)["id"], "status": status, "crc": crc32(one)} for one in payloads]
        self.hear(protocol.RESULT, said)

    def records(self, *numbers: int, state: str = "s1") -> None:
        self.hear(protocol.TELEMETRY, {"state": state, "records": [[n, int(self.now), {"v": n}] for n in numbers]})

    def prune(self, days: float = 1, *, dry: bool = False) -> dict[str, int]:
        return self.fleet.prune(self.now - days * DAY, dry=dry)

    def count(self, table: str) -> int:
        with self.ledger.database.reading() as connection:
            return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() or 0


@pytest.fixture
def book(where) -> Iterator[Books]:
    opened = Books(where)
    with opened.fleet:
        yield opened


def settle(book: Books, count: int) -> tuple[list[str], list[bytes]]:
    """So many commands, each answered; the device's window tells of all that there are now."""
    names, payloads = [], []
    while count:
        some = min(count, 200)
        names += book.ledger.enter([Order("dev", "ping")] * some)
        new = book.publish()
        assert len(new) == some
        book.answer(*new)
        payloads += new
        count -= some
    number = json.loads(payloads[-1])["id"].rpartition(".")[2]
    book.wake(windows={book.ledger.name("dev"): [int(number), f"s{protocol.WINDOW}"]})
    return names, payloads


def test_old_commands_go_and_those_in_the_window_stay(book):
    book.wake()
    names, payloads = settle(book, 300)
    still_open = book.fleet.send("dev", "ping").name
    book.now += 10 * DAY
    would = book.prune(dry=True)
    assert (would["commands"], would["results"], book.count("commands")) == (44, 44, 301)
    assert book.prune() == would
    assert (book.count("commands"), book.count("results")) == (257, 256)
    assert book.fleet.result(still_open).status == "queued"
    assert book.fleet.result(names[44]).status == "succeeded"
    with pytest.raises(HostError, match="no command"):
        book.fleet.result(names[43])
    with book.ledger.database.reading() as connection:
        orphans = "SELECT count(*) FROM command_events WHERE command NOT IN (SELECT key FROM commands)"
        assert connection.exec_driver_sql(orphans).scalar() == 0
    book.answer(payloads[100])  # the broker delivers it again
    assert book.count("results") == 256
    assert book.prune() == dict.fromkeys(would, 0)


def test_a_number_is_never_given_twice(book):
    book.wake()
    settle(book, 300)
    book.now += 10 * DAY
    book.prune()
    book.fleet.send("dev", "ping")
    assert json.loads(book.publish()[0])["id"].endswith(".301")


def test_a_guess_waits_for_the_late_answer_as_long_as_the_device_may_give_it(book):
    """Cancelled by the ledger alone, and its own window shows it as seen: that number was published after all."""
    book.wake()
    name = book.fleet.send("dev", "ping").name
    book.fleet.cancel(name)
    book.now += 1000 * DAY
    assert book.prune()["commands"] == 0
    book.wake(windows={book.ledger.name("dev"): [1, "s"]})
    (again,) = book.publish()
    book.answer(again)
    assert book.fleet.result(name).status == "succeeded"


def test_what_a_device_sleeps_away_from_is_kept_until_it_was_there(book):
    """It has seen nothing yet of 600 commands that expired: any of them may stand in the window that it shows next."""
    book.wake()
    book.ledger.enter([Order("dev", "ping", expires=int(book.now) + 60)] * 600)
    book.now += DAY
    book.publish()
    book.now += 10 * DAY
    assert book.prune()["commands"] == 0
    book.wake(windows={book.ledger.name("dev"): [600, "e256"]})
    book.now += 2 * DAY
    assert book.prune()["commands"] == 600 - protocol.WINDOW


def test_the_commands_of_a_state_that_is_gone_go_with_it(book):
    book.wake("s1")
    settle(book, 3)
    book.now += 2 * DAY
    assert book.prune()["commands"] == 0
    book.wake("s2")
    assert book.prune()["commands"] == 3 - 1


def test_the_last_wakes_stay_and_a_retained_report_changes_nothing(book):
    reports = [book.wake() for _ in range(WAKES + 20)]
    book.now += 10 * DAY
    assert book.prune()["wakes"] == 0, "all came in the same second: none is older than the last hundred"
    for _ in range(WAKES + 20):
        book.now += 60
        reports.append(book.wake())
    book.now += 10 * DAY
    assert book.prune()["wakes"] == WAKES + 40
    assert book.count("reports") == WAKES
    before = book.fleet.status("dev")
    book.hear(protocol.WAKE, reports[-1], retained=True)
    assert book.fleet.status("dev") == before
    assert book.count("reports") == WAKES


def test_the_last_wakes_of_several_states_stay_together(book):
    """A device that was wiped: what stays are the newest of both lives."""
    for state, count in (("s1", WAKES), ("s2", 30)):
        for _ in range(count):
            book.now += 60
            book.wake(state)
    book.now += 10 * DAY
    assert book.prune()["wakes"] == 30
    assert book.count("reports") == WAKES


def test_a_prune_of_many_devices_asks_no_more_often(book):
    """The limit of each device is found with the others', not by a query of its own."""

    def statements() -> int:
        asked: list[str] = []

        def note(_connection, _cursor, statement, *_):
            asked.append(statement)

        event.listen(book.ledger.database.engine, "before_cursor_execute", note)
        book.prune()
        event.remove(book.ledger.database.engine, "before_cursor_execute", note)
        return len(asked)

    report = json.dumps({"wake": 1, "state": "s1", "next": 900}).encode()
    counts = []
    for some in (["a", "b"], [f"d{number}" for number in range(40)]):
        book.fleet.add(*some)
        assert book.ledger.take([Incoming(name, protocol.WAKE, report) for name in some], "c") == []
        book.now += 10 * DAY
        counts.append(statements())
    assert counts[1] <= counts[0] + 2


def test_telemetry_that_was_pruned_is_neither_stored_again_nor_asked_for_again(book):
    book.wake()
    book.records(*range(1, 51))
    book.wake(acked=50)
    book.now += 10 * DAY
    assert book.prune()["telemetry"] == 50 - 1
    book.records(*range(1, 51))  # a broker that went back in time
    assert book.count("telemetry") == 1
    book.records(51, 52)
    book.wake(acked=52)
    assert book.publish() == []
    assert [row["number"] for row in book.fleet.export("telemetry")] == [50, 51, 52]


def test_telemetry_above_a_gap_stays_until_the_gap_is_accounted_for(book):
    book.wake()
    book.records(1, 2, 5, 6)
    book.wake(acked=6)
    book.now += 10 * DAY
    assert book.prune()["telemetry"] == 2
    (asked,) = book.publish()
    assert json.loads(asked)["args"] == {"from": 3, "to": 4}
    said = [{"id": json.loads(asked)["id"], "status": "succeeded", "crc": crc32(asked), "value": {"dropped": 2}}]
    book.hear(protocol.RESULT, said)
    book.wake(acked=6)
    assert book.fleet.status("dev")[0].dropped == 2
    assert book.prune()["telemetry"] == 2 - 1


def test_of_a_removed_device_all_that_is_old_goes_but_its_numbers(book):
    book.wake()
    settle(book, 3)
    book.records(1, 2)
    book.fleet.remove("dev", None)
    book.now += 10 * DAY
    pruned = book.prune()
    assert (pruned["commands"], pruned["results"], pruned["telemetry"]) == (3 - 1, 3 - 1, 2 - 1)
    book.fleet.add("dev")
    book.wake()
    book.fleet.send("dev", "ping")
    assert json.loads(book.publish()[0])["id"].endswith(".4")


def test_a_follower_of_a_pruned_command_goes(book):
    book.wake()
    names, _ = settle(book, 300)
    follower = book.fleet.send("dev", "ping", after=names[0]).name
    book.now += 10 * DAY
    book.prune()
    assert [json.loads(one)["u"] for one in book.publish()] == [follower]


def test_a_time_in_the_future_is_refused(book):
    with pytest.raises(HostError, match="future"):
        book.fleet.prune(book.now + 1)
