"""Messages of alerts: each goes to its channel once, is tried for a day, waits for its turn and for the quiet hours."""

from dormouse_host.desk.config import Quiet
from dormouse_host.ledger import alerts
from dormouse_host.ledger.alerts import Rules
from dormouse_host.ledger.couriers import GIVE_UP
from dormouse_host.ledger.store import Ledger
from support.judging import RULES, Bench
from support.ledgers import sqlite_only

HOUR = 3600.0


@sqlite_only
def test_a_message_is_claimed_by_one_and_tried_again_later_and_later_for_a_day(bench):
    bench.report("dev", cause="watchdog")
    bench.after(1)
    ledger = bench.ledger
    (one,) = ledger.claim_messages("mqtt", 10)
    assert (one.event, one.device, one.kind, one.tries) == ("opened", "dev", "watchdog", 0)
    assert ledger.claim_messages("mqtt", 10) == []
    began, waits = bench.now, []
    while True:
        ledger.message_failed([one], "it answers 500")
        failed = bench.now
        while bench.now - began < 1.2 * GIVE_UP and not (again := ledger.claim_messages("mqtt", 10)):
            bench.now += 5 if bench.now - failed < 40 else 150
        if bench.now - began >= 1.2 * GIVE_UP:
            break
        waits.append(bench.now - failed)
        (one,) = again
    assert waits[:3] == [5, 10, 20]
    assert 900 <= max(waits) < 1060
    assert GIVE_UP <= sum(waits) < GIVE_UP + 1060
    (view,) = ledger.alert_views()
    assert (view.waiting, view.failed) == (0, ("mqtt: it answers 500",))


@sqlite_only
def test_an_id_is_the_same_for_each_try_and_another_in_each_ledger(bench, tmp_path):
    other = Bench(str(tmp_path / "other.db"))
    other.now += 1
    ids = []
    for one in (bench, other):
        one.report("dev", cause="watchdog")
        one.after(1)
        (message,) = one.ledger.claim_messages("mqtt", 10)
        one.ledger.message_failed([message], "no")
        one.now += 10
        (again,) = one.ledger.claim_messages("mqtt", 10)
        assert again.id == message.id
        ids.append(message.id)
    other.close()
    assert len(set(ids)) == 2
    assert all(id.startswith("1-opened-") for id in ids), "the first alert of both"


def test_a_claim_that_nobody_finishes_runs_out(bench):
    bench.report("dev", cause="watchdog")
    bench.after(1)
    bench.ledger.claim_messages("mqtt", 10)
    bench.now += 119
    assert bench.ledger.claim_messages("mqtt", 10) == []
    bench.now += 2
    (one,) = bench.ledger.claim_messages("mqtt", 10)
    bench.ledger.message_delivered([one.key])
    bench.now += 1000
    assert bench.ledger.claim_messages("mqtt", 10) == []


def refused(bench):
    """The opening message of an alert, after ten tries that have failed."""
    (opened,) = bench.ledger.claim_messages("mqtt", 1)
    for _ in range(10):
        bench.ledger.message_failed([opened], "it answers 400")
        bench.now += 900
        (opened,) = bench.ledger.claim_messages("mqtt", 1)
    return opened


def test_a_closing_message_waits_for_its_opening_one(bench):
    bench.report("dev", cause="watchdog")
    bench.after(1)
    opened = refused(bench)
    bench.report("dev", cause="timer")
    bench.after(1)
    assert bench.open == []
    assert bench.ledger.claim_messages("mqtt", 1) == []
    bench.ledger.message_delivered([opened.key])
    (closed,) = bench.ledger.claim_messages("mqtt", 1)
    assert (closed.event, closed.id) == ("closed", opened.id.replace("opened", "closed"))


def test_a_message_that_a_channel_never_takes_holds_up_no_other_alert(bench):
    """Its closing message is the oldest one due, and must not go before it."""
    bench.report("dev", cause="watchdog")
    bench.after(1)
    opened = refused(bench)
    bench.ledger.message_failed([opened], "it answers 400")
    bench.report("dev", cause="timer")
    bench.after(1)
    bench.report("other", cause="watchdog")
    bench.after(1)
    assert bench.messages()[1:] == [("dev", "watchdog", "closed"), ("other", "watchdog", "opened")]
    (next_one,) = bench.ledger.claim_messages("mqtt", 1)
    assert (next_one.device, next_one.event) == ("other", "opened")


def test_quiet_hours_hold_notifications_until_they_end(where, monkeypatch):
    import time as clock

    monkeypatch.setenv("TZ", "UTC")
    clock.tzset()
    quiet = Quiet(22 * 60, 7 * 60)
    day = 1_799_971_200.0 - 1_799_971_200.0 % 86400
    ends = {hour: (quiet.end(day + hour * HOUR) - day) / HOUR for hour in (0, 6, 7, 12, 21, 22, 23)}
    assert ends == {0: 7, 6: 7, 7: 7, 12: 12, 21: 21, 22: 31, 23: 31}
    assert Quiet().end(day) == day
    rules = Rules(channels=("notify 1", "mqtt"), due=lambda name, now: quiet.end(now) if name != "mqtt" else now)
    bench = Bench(where, rules)
    bench.now = day + 23 * HOUR
    bench.report("dev", cause="watchdog")
    bench.after(1)
    assert bench.ledger.claim_messages("notify 1", 9) == []
    assert len(bench.ledger.claim_messages("mqtt", 9)) == 1
    bench.now = day + 31 * HOUR + 1
    assert len(bench.ledger.claim_messages("notify 1", 9)) == 1
    bench.close()
    monkeypatch.undo()
    clock.tzset()


def test_alerts_are_listed_and_old_ones_go(bench):
    bench.report("dev", cause="watchdog")
    bench.after(1)
    bench.report("dev")
    bench.after(HOUR + 1)
    assert bench.ledger.alert_views() == []
    (view,) = bench.ledger.alert_views(bench.now - 10)
    assert (view.device, view.closed, view.ending, view.waiting) == ("dev", bench.now, "not seen again since", 2)
    assert bench.ledger.alert_views(bench.now - 10, "other") == []
    bench.now += alerts.KEPT + 1
    bench.ledger.judge([], RULES)
    assert bench.ledger.alert_views(0.0) == []
    assert bench.messages() == []


def test_it_moves_with_the_ledger(bench, tmp_path):
    bench.report("dev", cause="watchdog")
    bench.after(1)
    bench.ledger.write_out(tmp_path / "moved")
    with Ledger(str(tmp_path / "new.db"), lambda: bench.now) as new:
        new.read_in(tmp_path / "moved")
        assert [view.kind for view in new.alert_views()] == ["watchdog"]
        assert len(new.claim_messages("mqtt", 9)) == 1
