"""A command's life as the ledger tells it: published, settled, cancelled, expired, and by which relay."""

import json
from dataclasses import replace

import pytest

from dormouse import protocol
from dormouse_host.errors import HostError
from dormouse_host.ledger import entry, outbound, rows
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.outbound import Ack
from support.reports import NOW, answer, awake, end, end_message, enter, report


def test_a_command_waits_until_its_device_has_told_its_state(ledger):
    enter(ledger, "a")
    assert ledger.claim("r", "c1", 10) == []
    awake(ledger)
    assert len(ledger.claim("r", "c1", 10)) == 1


def test_each_status_is_an_event_with_its_time(ledger, clock):
    awake(ledger)
    (name,) = enter(ledger, "a")
    times = []
    for step in ("claim", "ack", "answer"):
        clock.now += 10
        times.append(clock.now)
        if step == "claim":
            (sent,) = ledger.claim("r", "c1", 10)
        elif step == "ack":
            ledger.acknowledged([Ack(sent.key, sent.times, True)])
        else:
            ledger.take([answer(sent, value={"x": 1})], "c1")
    view = ledger.command(name)
    assert [status for _, status, _ in view.events] == ["queued", "publishing", "sent", "succeeded"]
    assert [at for at, _, _ in view.events] == [NOW, *times]
    assert (view.value, view.settled, view.final) == ({"x": 1}, times[-1], True)


def test_a_tombstone_in_flight_is_published_once_and_again_when_it_was_lost(ledger):
    """A wake drained between it and its PUBACK, which comes in one batch with that of a publish before it."""
    awake(ledger)
    (name,) = enter(ledger, "a")
    (first,) = ledger.claim("r", "c1", 10)
    ledger.cancel(name)
    (tombstone,) = ledger.claim("r", "c1", 10)
    ledger.acknowledged([Ack(first.key, first.times, True)])
    ledger.take([report(2), end_message(end(2))], "c1")
    assert ledger.claim("r", "c1", 10) == []
    ledger.acknowledged([Ack(tombstone.key, tombstone.times, True), Ack(first.key, first.times, False)])
    ledger.take([report(3), end_message(end(3))], "c1")
    (again,) = ledger.claim("r", "c1", 10)
    assert again.payload == tombstone.payload
    assert [one.times for one in (first, tombstone, again)] == [1, 2, 3]


def test_an_answer_stored_twice_changes_nothing(ledger):
    awake(ledger)
    (name,) = enter(ledger, "a")
    (sent,) = ledger.claim("r", "c1", 10)
    ledger.take([answer(sent)], "c1")
    before = ledger.command(name)
    ledger.take([answer(sent), answer(sent)], "c1")
    assert ledger.command(name) == before
    assert len(list(ledger.export("results", 0))) == 1


def test_no_number_is_published_256_above_an_unsettled_one(ledger):
    """Below the device's window it would be stale."""
    awake(ledger)
    enter(ledger, *["a"] * 300)
    first = ledger.claim("r", "c1", 1000)
    assert len(first) == protocol.WINDOW
    ledger.take([answer(one) for one in first[1:]], "c1")
    assert ledger.claim("r", "c1", 1000) == []
    ledger.take([answer(first[0])], "c1")
    assert len(ledger.claim("r", "c1", 1000)) == 300 - protocol.WINDOW


def test_after_keeps_a_command_back_until_the_other_is_settled(ledger):
    awake(ledger)
    (first,) = enter(ledger, "a")
    enter(ledger, "b", after=first)
    (sent,) = ledger.claim("r", "c1", 10)
    assert b'"do":"a"' in sent.payload
    assert ledger.claim("r", "c1", 10) == []
    ledger.take([answer(sent, "failed")], "c1")
    (sent,) = ledger.claim("r", "c1", 10)
    assert b'"do":"b"' in sent.payload


def test_a_device_with_more_than_is_looked_at_keeps_no_other_back(ledger):
    """Neither one before it that has nothing open, as after every wake, nor one behind it."""
    ledger.add_devices(["aaa", "zzz"])
    for name in ("aaa", "dev", "zzz"):
        ledger.take([replace(report(1), device=name)], "c0")
    ledger.enter([Order(name, "ping") for name in ["dev"] * 2100 + ["zzz"]])
    claimed = [one.device for _ in range(4) for one in ledger.claim("r", "c1", 500)]
    assert (claimed.count("dev"), claimed.count("zzz")) == (protocol.WINDOW, 1)


def test_a_device_belongs_to_one_relay_until_its_lease_runs_out(ledger, clock):
    awake(ledger)
    enter(ledger, "a", "b")
    assert len(ledger.claim("one", "c1", 1)) == 1
    assert ledger.claim("two", "c2", 10) == []
    clock.now += 31
    assert len(ledger.claim("two", "c2", 10)) == 1


def test_a_relay_that_is_alive_keeps_its_name_and_a_dead_one_loses_it(ledger, clock):
    mine = ledger.register("r")
    with pytest.raises(HostError, match="is alive"):
        ledger.register("r")
    clock.now += 31
    other = ledger.register("r")
    assert not ledger.keep_alive("r", mine)
    awake(ledger)
    enter(ledger, "a")
    assert len(ledger.claim("r", "c1", 10)) == 1
    ledger.release("r", mine)  # it ends before it has noticed
    assert ledger.keep_alive("r", other)
    enter(ledger, "b")
    assert ledger.claim("another", "c2", 10) == []
    ledger.release("r", other)
    assert not ledger.keep_alive("r", other)
    assert len(ledger.claim("another", "c2", 10)) == 1


def test_a_clock_that_was_set_back_leaves_neither_a_name_nor_a_device_to_a_relay_that_died(ledger, clock):
    """A lease from a time that has not come: for hours nothing would be sent, and nothing that was said stored."""
    ledger.register("one")
    awake(ledger)
    enter(ledger, "a", "b")
    assert len(ledger.claim("one", "c1", 1)) == 1
    clock.now -= 3600
    assert [relay.alive for relay in ledger.relays()] == [False]
    ledger.register("one")
    assert len(ledger.claim("two", "c2", 10)) == 1


def test_a_killed_relay_comes_back_at_once_even_with_its_old_process_number(ledger, monkeypatch):
    """In a container that is started again every relay is process 1 of the same host."""
    ledger.register("r")
    monkeypatch.setattr(outbound, "_ours", set())
    ledger.register("r")


def test_a_command_that_is_pruned_while_it_is_cancelled_is_not_there(ledger, monkeypatch):
    """On PostgreSQL nothing is locked before its device is known."""
    (name,) = enter(ledger, "a")
    monkeypatch.setattr(rows, "load", lambda *_: [])
    with ledger.database.writing() as connection:
        assert entry.cancel(connection, name, NOW) is None


def test_cancelled_before_it_left_is_final_and_after_it_a_tombstone_follows(ledger):
    awake(ledger)
    early, late = *enter(ledger, "a"), *enter(ledger, "b")
    assert ledger.cancel(early).status == "cancelled"
    ledger.claim("r", "c1", 10)
    assert ledger.cancel(late).status == "publishing"
    (tombstone,) = ledger.claim("r", "c1", 10)
    assert json.loads(tombstone.payload) == {"id": f"s1-{ledger.name('dev')}.2", "u": late, "void": "cancelled"}
    assert tombstone.lifetime is None
    ledger.take([answer(tombstone, "cancelled")], "c1")
    assert ledger.command(late).status == "cancelled"


def test_overdue_commands_expire_alone_or_by_tombstone(ledger, clock):
    awake(ledger)
    (sent_name,) = enter(ledger, "a", expires=int(NOW) + 60)
    (sent,) = ledger.claim("r", "c1", 10)
    assert sent.lifetime == 60
    (kept_name,) = enter(ledger, "b", expires=int(NOW) + 60)
    clock.now += 61
    (tombstone,) = ledger.claim("r", "c1", 10)
    assert b'"void":"expired"' in tombstone.payload
    assert ledger.command(kept_name).status == "expired"
    ledger.take([answer(sent)], "c1")
    assert ledger.command(sent_name).status == "succeeded", "the device had done it: its answer is the truth"


def test_a_wiped_device_leaves_what_was_open_unknown_and_never_published_again(ledger):
    awake(ledger)
    (name,) = enter(ledger, "a")
    ledger.claim("r", "c1", 10)
    ledger.take([report(1, state="s2")], "c1")
    assert ledger.command(name).status == "unknown"
    for wake in range(2, 6):
        ledger.take([report(wake, state="s2", end=end(wake - 1, state="s2", present=False))], "c1")
        assert ledger.claim("r", "c1", 10) == []
