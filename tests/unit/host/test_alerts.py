"""Alerts: each episode has one opening and one closing message, whoever looks, how often, and from where on."""

import json
import threading

import pytest
from sqlalchemy import text

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.ledger import alerts, watching
from dormouse_host.ledger.alerts import Limits, Rules, Seen
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Incoming
from dormouse_host.ledger.watching import judge_report
from support.judging import RULES, Bench
from support.ledgers import sqlite_only

HOUR = 3600.0


def test_a_silent_device_is_told_once_and_its_return_once(bench):
    bench.report("dev")
    bench.report("other")
    assert bench.after(0) == 0
    seen = []
    for _ in range(25):  # five hours
        bench.report("other")
        bench.after(720)
        seen.append(bench.open)
    assert seen[0] == []
    assert seen[-1] == [("dev", "overdue")]
    assert bench.messages() == [("dev", "overdue", "opened")]
    bench.report("dev")
    bench.after(1)
    bench.after(300)
    assert bench.open == []
    assert bench.messages() == [("dev", "overdue", "opened"), ("dev", "overdue", "closed")]


@sqlite_only
def test_overdue_is_what_status_says_and_ten_minutes(bench):
    """At each minute the alerts agree with `status --overdue`, which has no ten minutes."""
    bench.reports(["a"], {"next": 60})
    bench.reports(["b"], {"next": 900})
    bench.reports(["c"], {"next": 21600})
    fleet = Fleet(bench.where, clock=lambda: bench.now)
    opened: dict[str, float] = {}
    with fleet:
        for _ in range(6 * 12):
            bench.after(300)
            listed = {view.id for view in fleet.overdue() if view.late(bench.now) >= 600}
            assert {device for device, _ in bench.open} == listed
            for device in listed:
                opened.setdefault(device, bench.now)
    assert sorted(opened) == ["a", "b"]
    assert opened["a"] < opened["b"]


@sqlite_only
def test_half_a_fleet_that_falls_silent_is_one_alert(bench):
    """The devices wake at different times, as they do: the first that is overdue is the fleet's."""
    names = [f"d{n:02}" for n in range(20)]
    for name in names:
        bench.report(name)
        bench.now += 45
    for _ in range(48):
        bench.after(600)
    assert bench.open == [("*", "overdue")]
    assert bench.messages() == [("*", "overdue", "opened")]
    for last in range(1, 20):  # they come back one by one, but for the last
        bench.reports(names[:last])
        bench.after(60)
    assert bench.messages() == [("*", "overdue", "opened"), ("*", "overdue", "closed")]
    for _ in range(80):
        bench.reports(names[:-1])
        bench.after(300)
    assert bench.messages()[2:] == [("d19", "overdue", "opened")]
    assert bench.open == [("d19", "overdue")]


@sqlite_only
def test_devices_that_were_silent_before_do_not_make_an_outage(bench):
    """Two of six are dead and told; one more falls silent: that is its own alert."""
    names = [f"d{n}" for n in range(6)]
    bench.reports(names)
    alive = names[2:]
    for silent in (2, 3):
        for _ in range(30):
            bench.reports(names[silent:])
            bench.after(800)
        alive = names[silent:]
    assert alive == names[3:]
    assert sorted(bench.open) == [("d0", "overdue"), ("d1", "overdue"), ("d2", "overdue")]


@pytest.mark.parametrize(
    "fields, kind, says",
    [
        ({"battery": 3.1}, "battery", "3.1 V, below 3.3 V"),
        ({"cause": "watchdog"}, "watchdog", "the watchdog has reset the board"),
        ({"app": "ImportError: no module named 'x'"}, "program", "app app.py: ImportError: no module named 'x'"),
        ({"readings": {"climate": "OSError: 5"}}, "program", "reading climate: OSError: 5"),
        ({"refused": 3}, "signature", "3 payloads without a right signature were refused"),
    ],
)
def test_what_a_report_tells_opens_and_a_better_one_closes_when_it_has_been_calm(bench, fields, kind, says):
    well = {"battery": 3.9, "cause": "timer"}
    bench.report("dev", **well)
    assert bench.after(1) == 0
    bench.report("dev", **{**well, **fields})
    assert bench.after(1) == 1
    (view,) = bench.ledger.alert_views()
    assert (view.device, view.kind, view.text) == ("dev", kind, says)
    for _ in range(10):  # every other wake is well: one episode
        bench.report("dev", **well)
        bench.after(900)
        bench.report("dev", **{**well, **fields})
        bench.after(900)
    bench.report("dev", **well)
    assert bench.after(1800) == 0
    bench.report("dev", **well)
    assert bench.after(1801) == 1
    assert bench.messages() == [("dev", kind, "opened"), ("dev", kind, "closed")]


def test_a_battery_just_above_its_limit_is_neither_low_nor_well():
    def kinds(volts):
        return [seen.bad for seen in judge_report("d", 1.0, {"battery": volts}, Limits()) if seen.kind == "battery"]

    assert [kinds(volts) for volts in (3.2, 3.35, 3.4)] == [[True], [], [False]]
    assert [kinds(volts) for volts in (0.0, 400, "3.0", True, None)] == [[], [], [], [], []]


def test_commands_that_come_to_a_bad_end_are_one_episode_of_their_device(bench):
    bench.report("dev")
    bench.after(1)
    for status in ("failed", "succeeded", "failed"):
        (name,) = bench.ledger.enter([Order("dev", "water")])
        (sent,) = bench.ledger.claim("r", "c", 10)
        settle(bench, sent, status)
        bench.after(60)
    assert bench.open == [("dev", "command")]
    (view,) = bench.ledger.alert_views()
    assert (view.text.split()[0], view.text.split()[2:]) == ("water", ["failed"])
    assert name in view.text, "of the newest"
    assert view.last == view.opened + 60, "and so is its time: it was seen in the second look after"
    bench.report("dev")
    bench.after(HOUR + 1)
    assert bench.messages() == [("dev", "command", "opened"), ("dev", "command", "closed")]
    assert name


def settle(bench, sent, status):
    """The device's answer to what was published."""
    from zlib import crc32

    said = json.loads(sent.payload)
    answer = {"id": said["id"], "do": said["do"], "status": status, "crc": crc32(sent.payload)}
    assert bench.ledger.take([Incoming("dev", protocol.RESULT, json.dumps([answer]).encode())], None) == []


def test_failures_of_before_the_alerts_were_wanted_are_not_told(bench):
    bench.report("dev")
    bench.ledger.enter([Order("dev", "water", expires=int(bench.now) + 10)])
    bench.now += 100
    bench.ledger.claim("r", "c", 10)
    bench.report("dev")
    bench.after(1)
    assert bench.open == []


def test_lost_records_are_told_when_more_are_lost(bench):
    bench.report("dev")
    lose(bench, 7)
    bench.after(1)
    assert bench.open == []  # that was before
    lose(bench, 12)
    bench.after(60)
    (view,) = bench.ledger.alert_views()
    assert (view.kind, view.text) == ("dropped", "5 records lost")
    bench.after(60)
    bench.report("dev")
    bench.after(HOUR)
    assert bench.messages() == [("dev", "dropped", "opened"), ("dev", "dropped", "closed")]


def lose(bench, count):
    with bench.ledger.database.writing() as connection:
        connection.execute(text("DELETE FROM telemetry_streams"))
        connection.execute(
            text("INSERT INTO telemetry_streams (device, state, whole, dropped) VALUES ('dev', 's', 20, :count)"),
            {"count": count},
        )


def test_a_release_that_was_rolled_back_is_told(bench):
    bench.report("dev")
    bench.after(1)
    values = "'u', 'dev', 'r1', 1, 'failed', false, false, 'b', 'rolled back: app.py:1: SyntaxError', :at"
    with bench.ledger.database.writing() as connection:
        connection.execute(
            text(
                'INSERT INTO updates (name, device, "release", entered, status, open, due, "begin", why, settled)'
                f" VALUES ({values})"
            ),
            {"at": bench.now + 5},
        )
    bench.after(10)
    (view,) = bench.ledger.alert_views()
    assert (view.kind, view.text) == ("update", "release r1 rolled back: app.py:1: SyntaxError")


# ---- restarts and two relays


def test_looking_again_from_the_beginning_tells_nothing_twice(bench):
    """Also from a place of before: a kill between two steps repeats a look."""
    bench.report("dev", cause="watchdog", battery=3.0)
    bench.after(1)
    before = bench.messages()
    assert len(before) == 2
    for _ in range(3):
        bench.another().look()
        bench.judge.begin()
        bench.judge._at = bench.ledger.alert_places()
        bench.judge._at.reports = 0.0
        bench.judge._at.events = 0.0
        bench.judge.look()
    assert bench.messages() == before
    bench.report("dev", cause="timer", battery=3.9)
    bench.after(HOUR + 1)
    told = bench.messages()
    assert len(told) == 4
    bench.judge._at.reports = 0.0
    bench.judge.look()
    bench.another().look()
    assert bench.messages() == told


def test_two_judges_at_once_open_and_close_once(bench):
    names = [f"d{n:02}" for n in range(20)]
    bench.reports(names, {"cause": "watchdog"})
    look_together(bench)
    assert sorted(bench.messages()) == [(name, "watchdog", "opened") for name in names]
    bench.now += 60
    bench.reports(names)
    bench.now += HOUR
    bench.reports(names)
    look_together(bench)
    assert len(bench.messages()) == 40
    assert bench.open == []


def look_together(bench):
    errors = []

    def look():
        try:
            bench.another().look()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def test_a_late_device_that_was_heard_meanwhile_is_not_told(bench):
    """The walk through a big fleet takes a while, and another relay stores reports."""
    bench.report("dev")
    bench.now += 5 * HOUR
    seen = [Seen("dev", alerts.OVERDUE, bench.now, True, "late")]
    bench.now += 1
    bench.report("dev")
    assert bench.ledger.judge(seen, RULES) == 0
    assert bench.messages() == []


def test_of_two_relays_one_has_the_desk_until_it_leaves_or_is_silent(bench):
    hold = bench.ledger.hold_desk
    assert hold("one", 60)
    assert not hold("two", 60)
    bench.now += 50
    assert hold("one", 60)
    bench.now += 59
    assert not hold("two", 60)
    bench.now += 2
    assert hold("two", 60)
    assert not hold("one", 60)
    bench.ledger.leave_desk("one")
    assert not hold("one", 60)
    bench.ledger.leave_desk("two")
    assert hold("one", 60)


def test_a_device_that_is_removed_or_revoked_closes_its_alerts(bench):
    bench.reports(["a", "b"], {"cause": "watchdog"})
    bench.after(1)
    bench.ledger.remove_device("a")
    bench.ledger.set_revoked(["b"], revoked=True)
    bench.now += 1
    bench.ledger.judge([], RULES)
    assert bench.open == []
    assert {view.ending for view in bench.ledger.alert_views(0.0)} == {"the device was removed or revoked"}


# ---- rules


def test_a_group_has_limits_of_its_own(where):
    small = Limits(battery=2.2, kinds=frozenset(alerts.KINDS) - {"watchdog"})
    bench = Bench(where, Rules(groups={"coin": small}, channels=("mqtt",)))
    bench.ledger.add_devices(["a", "b"])
    bench.ledger.set_group("coin", ["b"])
    bench.reports(["a", "b"], {"battery": 2.9, "cause": "watchdog"})
    bench.after(1)
    assert sorted(bench.open) == [("a", "battery"), ("a", "watchdog")]
    bench.close()


@sqlite_only
def test_a_big_history_is_read_in_slices_and_to_its_end(bench, monkeypatch):
    monkeypatch.setattr(watching, "SLICE", 50)
    names = [f"d{n:04}" for n in range(120)]
    for part in range(0, 120, 40):
        bench.now += 1
        bench.reports(names[part : part + 40], {"cause": "watchdog" if part == 80 else "timer"})
    assert bench.after(1) == 40
    assert len(bench.open) == 40
    bench.after(5 * HOUR)
    assert ("*", "overdue") in bench.open


def test_a_cause_that_was_gone_before_the_first_look_opens_nothing(bench):
    """A relay that starts with alerts looks a little back: a program that was mended meanwhile is nobody's news."""
    bench.report("dev", app="ImportError: no module named 'bme280'")
    bench.report("reset", cause="watchdog")
    bench.now += 60
    bench.report("dev")
    bench.report("reset")
    assert bench.after(1) == 1, "that the watchdog has bitten stays true"
    assert bench.ledger.open_alerts() == {("watchdog", "reset")}
    bench.report("dev", app="ImportError: no module named 'bme280'")
    assert bench.after(1) == 1
    bench.report("dev")
    assert bench.after(1) == 0, "an open one waits for the calm"
    assert ("program", "dev") in bench.ledger.open_alerts()
