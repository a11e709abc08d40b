"""Relay and device at a broker that differs from mosquitto, as `retain` and `drain` have it."""

import pytest

from dormouse_host import Fleet
from dormouse_host.address import parse
from support.cloud import Cloud, Ways
from support.relays import WITHIN, Running, greet, make_device, say, until_sent, wake
from support.waiting import until


class At:
    """What a relay of the tests connects to."""

    def __init__(self, cloud: Cloud) -> None:
        self.address = parse(cloud.url, {})


@pytest.mark.parametrize("mqtt5", [False, True])
def test_relay_that_starts_late_at_a_broker_without_retained_reports_knows_the_device_from_its_ledger(tmp_path, mqtt5):
    """No report is at the broker for it: what it knew when it ended is what it begins with."""
    with Cloud(Ways(retain="refused", mqtt5=mqtt5)) as cloud, Fleet(str(tmp_path / "ledger.db")) as fleet:
        fleet.add("dev")
        broker, db = At(cloud), str(tmp_path / "ledger.db")
        device = make_device(tmp_path, broker, retain=False)
        with Running(db, broker):
            greet(fleet, device)
        before = fleet.status("dev")[0]
        with Running(db, broker):
            after = fleet.status("dev")[0]
            assert (after.state, after.report) == (before.state, before.report)
            names = say(fleet, "one", "two")
            until_sent(fleet, names)
            assert wake(fleet, device) == ["one", "two"]
            assert [fleet.wait(name, WITHIN).status for name in names] == ["succeeded"] * 2
            assert [fleet.result(name).published for name in names] == [1, 1]
        fleet.remove("dev", broker.address)
        assert not cloud.retained
        assert fleet.status() == []


def test_relay_and_device_at_a_broker_whose_live_messages_overtake_stored_ones(tmp_path):
    """Each command is published once and done in the wake after it, in order."""
    with Cloud(Ways(live_first=True, pace=0.1, first=0.15, mqtt5=True)) as cloud:
        broker, db = At(cloud), str(tmp_path / "ledger.db")
        device = make_device(tmp_path, broker, drain="quiet", quiet=500)
        with Fleet(db) as fleet, Running(db, broker):
            fleet.add("dev")
            greet(fleet, device)
            names = say(fleet, "one", "two", "three")
            until_sent(fleet, names)
            assert wake(fleet, device) == ["one", "two", "three"]
            assert [fleet.wait(name, WITHIN).status for name in names] == ["succeeded"] * 3
            assert wake(fleet, device) == []
            assert [fleet.result(name).published for name in names] == [1, 1, 1]


def sent(fleet: Fleet, names: list[str]) -> list[str]:
    return [name for name in names if fleet.result(name).status not in ("queued", "publishing")]


def test_relay_lets_no_more_commands_wait_than_the_broker_bears(tmp_path):
    """Azure Event Grid ends the session of a device for which more than a hundred messages wait."""
    with Cloud(Ways(queue=10, full="session")) as cloud, Fleet(str(tmp_path / "ledger.db")) as fleet:
        broker, db = At(cloud), str(tmp_path / "ledger.db")
        fleet.add("dev")
        device = make_device(tmp_path, broker)
        with Running(db, broker, waiting=8):
            greet(fleet, device)
            names = say(fleet, *(f"text {n}" for n in range(20)))
            done: list[str] = []
            for _ in range(10):
                if len(done) < len(names):
                    until(lambda: len(sent(fleet, names)) > len(done))
                    done.extend(wake(fleet, device))
            assert done == [f"text {n}" for n in range(20)]
            assert {fleet.wait(name, WITHIN).published for name in names} == {1}
