"""What a rollout may go on from, and what it leaves alone: a wave that proves something, what was ordered later."""

from collections.abc import Iterator
from typing import Any

import pytest

from dormouse import protocol
from dormouse_host.errors import HostError
from dormouse_host.fleet import Fleet, RolloutView
from dormouse_host.ledger.store import Incoming
from dormouse_host.release import Release

OLD, NEW = Release({"app.py": b"x = 1\n"}), Release({"app.py": b"x = 2\n"})
DEVICES = ["d0", "d1", "d2", "d3"]


class World:
    """Four devices that have reported, on a clock that the test turns."""

    def __init__(self, where: str) -> None:
        self.now = 1_000_000.0
        self.fleet = Fleet(where, clock=lambda: self.now)
        self.fleet.add(*DEVICES)
        for device in DEVICES:
            report = b'{"wake":1,"state":"abc","next":900,"limit":2048}'
            assert self.fleet.ledger.take([Incoming(device, protocol.WAKE, report)], "s") == []

    def start(self, release: Release = OLD, waves: tuple[int, ...] = (1, 4), **plan: Any) -> str:
        """A rollout of an update to all of them, a second after what was before; its first wave begins."""
        self.now += 1
        name = self.fleet.rollout(DEVICES, waves, releases=dict.fromkeys(DEVICES, release), **plan)
        self.step(name)
        return name

    def step(self, name: str) -> RolloutView:
        """What any relay does, until nothing changes any more."""
        for _ in range(5):
            self.fleet.ledger.step_rollouts()
        return self.fleet.rollouts(name)[0]

    def come_to(self, status: str, *devices: str) -> None:
        """The open updates of these devices end so."""
        with self.fleet.ledger.database.writing() as connection:
            for device in devices:
                connection.exec_driver_sql(
                    f"UPDATE updates SET status = '{status}', open = false, settled = {self.now}"
                    f" WHERE device = '{device}' AND open"
                )

    def releases(self) -> list[str | None]:
        """The release that is open for each device."""
        found = {view.device: view.release for view in self.fleet.updates()}
        return [found.get(device) for device in DEVICES]


@pytest.fixture
def world(where: str) -> Iterator[World]:
    made = World(where)
    yield made
    made.fleet.close()


def test_a_canary_whose_update_is_cancelled_has_proven_nothing(world):
    name = world.start()
    world.fleet.cancel_update(world.fleet.updates()[0].name)
    view = world.step(name)
    assert (view.wave, view.status, view.why) == (1, "stopped", "1 of 1 did not get it: 1 cancelled")
    assert view.counts == {"cancelled": 1, "to come": 3}
    world.fleet.change_rollout(name, "retry")
    assert world.step(name).counts == {"queued": 1, "to come": 3}


def test_a_wave_that_expires_stops_it_and_the_last_one_is_not_done(world):
    name = world.start(waves=(4,))
    world.come_to("expired", *DEVICES)
    view = world.step(name)
    assert (view.status, view.why) == ("stopped", "4 of 4 did not get it: 4 expired")
    world.fleet.change_rollout(name, "resume")
    assert world.step(name).status == "done", "somebody has decided so"


def test_as_many_as_were_named_may_be_missing(world):
    name = world.start(waves=(2, 4), missing=0.5)
    world.come_to("succeeded", "d0")
    world.come_to("cancelled", "d1")
    assert world.step(name).wave == 2


def test_resume_goes_on_with_the_next_wave_whatever_this_one_has_proven(world):
    name = world.start()
    world.fleet.cancel_update(world.fleet.updates()[0].name)
    assert world.step(name).status == "stopped"
    world.fleet.change_rollout(name, "resume")
    view = world.step(name)
    assert (view.wave, view.status, view.counts) == (2, "running", {"cancelled": 1, "queued": 3})


def test_what_a_stop_withdrew_begins_anew_after_resume(world):
    name = world.start(waves=(3, 4))
    world.come_to("failed", "d0")
    view = world.step(name)
    assert view.status == "stopped"
    assert view.counts == {"failed": 1, "cancelled": 2, "to come": 1}
    assert [member.why for member in view.members[1:3]] == [f"rollout {name} was stopped"] * 2
    world.fleet.change_rollout(name, "resume")
    assert world.step(name).counts == {"failed": 1, "queued": 2, "to come": 1}
    world.come_to("failed", "d2")
    assert world.step(name).why.startswith("1 failed since it went on, 2 in all, the last on d2")


def test_the_newer_of_two_rollouts_wins_whatever_becomes_of_the_older(world):
    old = world.start(OLD)
    new = world.start(NEW)
    assert world.releases() == [NEW.id, None, None, None]
    assert world.step(old).status == "stopped"
    world.fleet.change_rollout(old, "resume")
    view = world.step(old)
    assert world.releases() == [NEW.id, None, None, None], "it leaves all of them to the newer one"
    assert [member.why for member in view.members[1:]] == ["something newer was ordered for it"] * 3
    world.come_to("succeeded", "d0")
    world.step(new)
    assert world.releases() == [None, NEW.id, NEW.id, NEW.id]
    world.fleet.change_rollout(old, "retry")
    world.step(old)
    assert world.releases() == [None, NEW.id, NEW.id, NEW.id]


def test_an_update_that_was_ordered_later_is_not_overwritten(world):
    name = world.start(OLD)
    world.now += 1
    world.fleet.update(["d2"], NEW)
    world.come_to("succeeded", "d0", "d2")
    view = world.step(name)
    assert world.releases() == [None, OLD.id, None, OLD.id]
    assert view.members[2].why == "something newer was ordered for it"


def test_an_update_that_was_withdrawn_again_does_not_count_as_newer(world):
    name = world.start(OLD)
    world.now += 1
    (update,) = world.fleet.update(["d2"], NEW)
    world.fleet.cancel_update(update)
    world.come_to("succeeded", "d0")
    world.step(name)
    assert world.releases() == [None, OLD.id, OLD.id, OLD.id]


def test_what_was_aborted_is_over(world):
    name = world.start()
    world.fleet.change_rollout(name, "abort")
    for order in ("retry", "resume", "approve", "abort"):
        with pytest.raises(HostError, match=f"rollout {name} is aborted: there is nothing to {order}"):
            world.fleet.change_rollout(name, order)
    assert world.step(name).members[0].why == f"rollout {name} was aborted"


def test_the_same_release_once_more_is_the_same_update(world):
    (first,) = world.fleet.update(["d0"], OLD)
    world.now += 1
    assert world.fleet.update(["d0", "d1"], OLD)[0] == first
    assert len(world.fleet.updates(final=True)) == 2
    (other,) = world.fleet.update(["d0"], OLD, min_battery=3.5)
    assert other != first, "on other terms it is another order"


@pytest.mark.parametrize("volts", [-1.0, 0.0, float("nan"), float("inf"), 1e99])
def test_a_battery_of_no_volts_is_refused(world, volts):
    with pytest.raises(HostError, match="volts"):
        world.fleet.update(["d0"], OLD, min_battery=volts)
    with pytest.raises(HostError, match="volts"):
        world.start(min_battery=volts)


@pytest.mark.parametrize(
    "devices, waves, plan, why",
    [
        (DEVICES, [1], {}, r"waves \[1\]: expected rising numbers of devices, the last 4"),
        (DEVICES, [], {}, "waves"),
        (DEVICES, [4, 1, 4], {}, "waves"),
        (DEVICES, [1, 1, 4], {}, "waves"),
        (DEVICES, [0, 4], {}, "waves"),
        (DEVICES, [-1, 4], {}, "waves"),
        (DEVICES, [1, 5], {}, "waves"),
        (DEVICES, [1.0, 4.0], {}, "waves"),
        (DEVICES, ["50%", "100%"], {}, "waves"),
        ([], [], {}, "no devices"),
        (["d0", "d0"], [2], {}, "device d0 is given twice"),
        (DEVICES, [4], {"abort_after": 0}, "abort_after"),
        (DEVICES, [4], {"missing": 1.5}, "missing"),
        (DEVICES, [4], {"missing": float("nan")}, "missing"),
        (DEVICES, [4], {"command": None}, "releases or of a command"),
        (DEVICES, [4], {"releases": {"d0": OLD}}, "releases or of a command"),
        (DEVICES, [4], {"command": None, "releases": {"d0": OLD}}, "no release for d1"),
    ],
)
def test_a_rollout_that_no_relay_could_step_is_refused_before_it_is_stored(world, devices, waves, plan, why):
    with pytest.raises(HostError, match=why):
        world.fleet.rollout(devices, waves, **{"command": ("ping", {}), **plan})
    assert world.fleet.rollouts() == []


def test_waves_may_come_from_a_generator(world):
    name = world.fleet.rollout(DEVICES, (count for count in (1, 4)), command=("ping", {}))
    assert world.step(name).waves == 2


def test_a_rollout_whose_waves_leave_devices_out_stops_no_relay(world):
    """One that an older version took."""
    name = world.fleet.rollout(DEVICES, [1, 4], command=("ping", {}))
    with world.fleet.ledger.database.writing() as connection:
        connection.exec_driver_sql("UPDATE rollouts SET waves = '[1]'")
    assert [member.wave for member in world.step(name).members] == [1, 1, 1, 1]
    world.fleet.change_rollout(name, "abort")


def test_an_order_that_no_rollout_takes_is_refused(world):
    with pytest.raises(HostError, match="a rollout takes approve, resume, abort, retry, not pause"):
        world.fleet.change_rollout(world.start(), "pause")
