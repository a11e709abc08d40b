"""Somebody else works on the ledger: a transaction tries again, and no relay loses its broker for that."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from sqlalchemy import text

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.broker.client import Publisher
from dormouse_host.errors import HostError
from dormouse_host.ledger import contention, database
from dormouse_host.ledger.contention import Busy, retried
from dormouse_host.ledger.database import Database
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Incoming, Ledger
from dormouse_host.relay import relay
from support.relays import Running, until

SOON = 0.5  # seconds of patience in these tests


@pytest.fixture
def impatient(where, monkeypatch):
    """A ledger that waits for nobody for long."""
    monkeypatch.setattr(database, "_PATIENCE", SOON)
    monkeypatch.setitem(database._LIMITS, "options", f"-c lock_timeout={int(1000 * SOON)}ms -c deadlock_timeout=30ms")
    return where


@contextmanager
def held(where: str) -> Iterator[None]:
    """Another process is in the middle of a transaction, and stays there."""
    other = Database(where)
    with ExitStack() as until_the_end:
        connection = until_the_end.enter_context(other.writing())
        if not other.is_file:
            connection.execute(text("LOCK TABLE devices, commands, relays IN ROW SHARE MODE"))
            connection.execute(text("SELECT * FROM devices FOR UPDATE"))
        yield
    other.close()


def report(wake: int) -> bytes:
    return json.dumps({"wake": wake, "state": "s1"}).encode()


def test_a_busy_ledger_costs_a_relay_no_connection(impatient, mosquitto):
    """What came in meanwhile is neither acknowledged nor lost, and nothing goes out before it is stored."""
    with Fleet(impatient) as fleet, Publisher(mosquitto.address) as publisher:
        fleet.add("dev")
        fleet.send("dev", "ping")

        def wake(number: int) -> None:
            publisher.publish(protocol.topic("dormouse", "dev", protocol.WAKE), [report(number)])

        def wakes() -> list[int]:
            return [row["wake"] for row in fleet.export("wakes")]

        with Running(impatient, mosquitto) as running:
            wake(1)
            until(lambda: wakes() == [1] and "queued" not in fleet.ledger.counts())
            with held(impatient):
                wake(2)
                until(lambda: "ledger busy" in running.events)
                wake(3)
            until(lambda: wakes() == [1, 2, 3])
            assert "disconnected" not in running.events
            fleet.send("dev", "ping")
            until(lambda: "queued" not in fleet.ledger.counts())


def test_a_relay_reads_no_more_than_it_may_hold_while_its_ledger_is_busy(where, mosquitto, monkeypatch):
    """The broker keeps the others; all are stored once the ledger has time."""
    monkeypatch.setattr(relay, "_HELD_COUNT", 2)
    held_at_once: list[int] = []
    busy = threading.Event()
    busy.set()
    take = Ledger.take

    def slow(self: Ledger, incoming: Sequence[Incoming], session: str | None, **how: bool) -> list[str]:
        if busy.is_set() and incoming:
            held_at_once.append(len(incoming))
            raise Busy("database is locked")
        return list(take(self, incoming, session, **how))

    monkeypatch.setattr(Ledger, "take", slow)
    with Fleet(where) as fleet, Publisher(mosquitto.address) as publisher:
        fleet.add("dev")
        with Running(where, mosquitto) as running:
            for number in range(1, 9):  # one by one, or all are one batch
                looks = len(held_at_once)
                publisher.publish(protocol.topic("dormouse", "dev", protocol.WAKE), [report(number)])
                until(lambda looks=looks: len(held_at_once) > looks + 1)
            assert held_at_once[-1] == max(held_at_once) == 2, "the others were read, too"
            busy.clear()
            until(lambda: [row["wake"] for row in fleet.export("wakes")] == [*range(1, 9)])
            assert "disconnected" not in running.events


def test_who_sends_is_told_after_a_while_and_has_sent_nothing(impatient):
    with Fleet(impatient) as fleet:
        fleet.add("dev")
        with held(impatient), pytest.raises(Busy, match=r"database is locked|lock timeout") as caught:
            fleet.send("dev", "ping")
        assert (caught.value.code, "\n" in str(caught.value)) == (1, False)
        assert fleet.ledger.counts() == {}
        fleet.send("dev", "ping")


def test_a_deadlock_costs_a_try(postgresql_url, monkeypatch):
    """Another program locks two devices the other way round; PostgreSQL ends our transaction, for it looks first."""
    # it looks once, so long after it began to wait: the other one must wait by then
    monkeypatch.setitem(database._LIMITS, "options", "-c deadlock_timeout=4s -c lock_timeout=20s")
    with Ledger(postgresql_url) as ledger, psycopg.connect(postgresql_url) as other:
        ledger.add_devices(["a", "b"])
        other.execute("SET deadlock_timeout = '20s'")
        other.execute("SELECT id FROM devices WHERE id = 'b' FOR UPDATE")
        names: list[str] = []
        sending = threading.Thread(target=lambda: names.extend(ledger.enter([Order("a", "ping"), Order("b", "ping")])))
        sending.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
        with psycopg.connect(postgresql_url, autocommit=True) as third:
            until(lambda: third.execute(waiting, [other.info.backend_pid]).fetchone() == (1,))
        other.execute("SELECT id FROM devices WHERE id = 'a' FOR UPDATE")
        other.commit()
        sending.join(20)
        assert len(names) == 2
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        other.autocommit = True
        until(lambda: other.execute(deadlocks).fetchone() == (1,))


class Tried:
    """Something that gives way so many times."""

    def __init__(self, times: int, error: Callable[[], Exception]) -> None:
        self.times, self.error, self.also = times, error, []  # type: ignore[var-annotated]

    @retried
    def work(self) -> str:
        self.also.append(sorted(contention.also()))
        if len(self.also) <= self.times:
            raise self.error()
        return "done"


def test_a_transaction_is_tried_again_with_what_it_needed_and_not_for_ever():
    tried = Tried(2, lambda: Busy("x", at_once=True, devices=[f"d{len(tried.also)}"]))
    assert tried.work() == "done"
    assert tried.also == [[], ["d1"], ["d1", "d2"]]
    assert contention.also() == frozenset()
    never = Tried(100, lambda: Busy("x", at_once=True))
    with pytest.raises(Busy):
        never.work()
    assert len(never.also) == contention.TRIES


@pytest.mark.parametrize("error", [lambda: Busy("waited"), lambda: HostError("another"), lambda: ValueError()])
def test_what_has_waited_or_is_wrong_is_not_tried_again(error):
    tried = Tried(1, error)
    with pytest.raises((HostError, ValueError)):
        tried.work()
    assert len(tried.also) == 1


def test_a_follower_whose_device_is_in_use_is_woken_all_the_same(postgresql_url):
    """The device's row is locked by another transaction when the command is settled that it waits for."""
    with Ledger(postgresql_url) as ledger, Ledger(postgresql_url) as other:
        ledger.add_devices(["a", "z"])
        batch = b'{"wake":1,"state":"s1"}'
        ledger.take([Incoming(device, protocol.WAKE, batch) for device in ("a", "z")], None)
        (first,) = ledger.enter([Order("z", "ping")])
        (second,) = ledger.enter([Order("a", "ping", after=first)])
        with other.database.writing() as connection:
            connection.execute(text("UPDATE devices SET due = false WHERE id = 'a'"))
            cancelling = threading.Thread(target=ledger.remove_device, args=("z",))
            cancelling.start()
            cancelling.join(0.5)
            assert cancelling.is_alive()
        cancelling.join(20)
        assert [json.loads(one.payload)["u"] for one in ledger.claim("r", "c", 10)] == [second]
