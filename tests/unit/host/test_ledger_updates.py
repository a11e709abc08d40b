"""Updates and rollouts in a ledger, on both databases, with end records as a device sends them."""

import json
from binascii import crc32
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from dormouse import protocol
from dormouse_host.errors import HostError
from dormouse_host.fleet import Fleet, RolloutView
from dormouse_host.ledger import schema
from dormouse_host.ledger.store import Incoming
from dormouse_host.ledger.updates import BATCH, Terms
from dormouse_host.release import Release, chunks, missing, spans
from support.waiting import until

RELEASE = Release({"app.py": b"x = 1\n" * 20000})


class Desk:
    """A ledger with the device `dev`, and what that says."""

    def __init__(self, where: str) -> None:
        self.fleet = Fleet(where)
        self.fleet.add("dev")
        self.wake = 0
        self.told: dict | None = None
        self.windows: dict = {}
        self.report()
        self.claim()
        self.end()

    def say(self, leaf: str, value: object) -> None:
        assert self.fleet.ledger.take([Incoming("dev", leaf, json.dumps(value).encode())], "s") == []

    def report(self, **more: object) -> None:
        self.wake += 1
        self.say(protocol.WAKE, {"wake": self.wake, "state": "abc", "limit": 2048, **more})

    def end(self, **update: object) -> None:
        record = {"wake": self.wake, "state": "abc", "present": True, "drained": True, "acked": 0, "windows": {}}
        self.say(protocol.END, {**record, "update": {"release": RELEASE.id, **update} if update else None})

    def claim(self) -> tuple[list[dict], int]:
        """Commands that are published now, and how many chunks; the broker has room for twenty at a time."""
        commands: list[dict] = []
        count = 0
        while found := self.fleet.ledger.claim("relay", "s", 20):
            commands += [json.loads(one.payload) for one in found if one.leaf == protocol.CMD]
            count += sum(one.leaf == protocol.FILE for one in found)
        return commands, count

    def agree(self, release: Release = RELEASE, **more: object) -> None:
        """A wake in which the device takes the first step."""
        ((begin,), _) = self.claim()
        self.report(**more)
        self.answer(begin, {"have": ""})
        self.end(release=release.id, at=[0, 0])

    def answer(self, command: dict, value: object, **more: object) -> None:
        with self.fleet.ledger.database.reading() as connection:
            sql = f"SELECT name FROM commands WHERE name = '{command['u']}'"
            assert connection.exec_driver_sql(sql).first()
        payload = json.dumps(command, separators=(",", ":")).encode()
        result = {"status": "succeeded", "crc": crc32(payload), "id": command["id"], **more}
        if value is not None:
            result["value"] = value
        self.say(protocol.RESULT, [result])


@pytest.fixture
def desk(where):
    made = Desk(where)
    yield made
    made.fleet.close()


def status(desk: Desk, name: str) -> str:
    return desk.fleet.update_result(name).status


def test_chunks_follow_end_records_and_at_most_a_batch_is_under_way(desk):
    """Nothing goes twice while it may still come; what an end record shows to be lost goes again."""
    (name,) = desk.fleet.update(["dev"], RELEASE)
    ((begin,), count) = desk.claim()
    assert (begin["args"]["step"], count) == ("begin", 0)
    desk.report()
    desk.answer(begin, {"have": ""})
    assert desk.claim() == ([], 0), "until its end record has come, nothing is known of its flash"
    desk.end(at=[0, 0])
    assert desk.claim() == ([], BATCH)
    assert desk.claim() == ([], 0)
    assert status(desk, name) == "sending"
    desk.report()
    desk.end(at=[1, 40960])
    assert desk.claim() == ([], BATCH), "those after it were published before this wake, and did not come"
    desk.report()
    desk.end(at=[1, 102400])
    ((commit,), count) = desk.claim()
    assert (commit["args"]["step"], count) == ("commit", 18)
    desk.report()
    desk.answer(commit, {"on trial": True})
    desk.end(trial=0)
    desk.claim()
    assert status(desk, name) == "on trial"
    desk.report()
    desk.end(kept=1)
    ((end,), _) = desk.claim()
    assert (status(desk, name), end["args"]["step"]) == ("succeeded", "end")


def test_below_the_battery_that_was_named_nothing_is_sent(desk):
    desk.fleet.ledger.enter_updates(["dev"], RELEASE, Terms(min_battery=3.4))
    desk.agree(battery=3.2)
    assert desk.claim() == ([], 0)
    (view,) = desk.fleet.updates()
    assert view.why == "battery 3.2 V, below 3.4 V"
    desk.report(battery=3.7)
    desk.end(at=[0, 0])
    assert desk.claim() == ([], BATCH)


def test_a_device_that_knows_nothing_of_it_any_more_has_failed_it(desk):
    (name,) = desk.fleet.update(["dev"], RELEASE)
    desk.agree()
    desk.claim()
    desk.report()
    desk.end()
    desk.claim()
    assert status(desk, name) == "failed"


def test_a_commit_whose_reason_was_lost_is_sent_again_and_one_with_a_reason_is_the_end(desk):
    """It may have come too early only; where a file is damaged, the device tells that by itself."""
    small = Release({"app.py": b"x = 1\n"})
    (name,) = desk.fleet.update(["dev"], small)
    desk.agree(small)
    ((commit,), count) = desk.claim()
    assert (commit["args"]["step"], count) == ("commit", 2)
    for why in ({}, {"why": "not all of it has come"}):
        desk.report()
        desk.answer(commit, None, status="failed", **why)
        desk.end(release=small.id, at=[-1, 6])
        ((commit,), count) = desk.claim()
        assert (commit["args"]["step"], count, status(desk, name)) == ("commit", 0, "sending")
    desk.report()
    desk.answer(commit, None, status="rejected", why="no slots")
    desk.end(release=small.id, at=[-1, 6])
    desk.claim()
    assert (status(desk, name), desk.fleet.update_result(name).why) == ("failed", "no slots")


def test_an_answer_whose_value_was_lost_is_asked_for_again(desk):
    """A device that runs the release already says so there alone."""
    (name,) = desk.fleet.update(["dev"], RELEASE)
    ((begin,), _) = desk.claim()
    desk.report()
    desk.answer(begin, None)
    desk.end()
    ((again,), count) = desk.claim()
    assert (again["args"], count, status(desk, name)) == (begin["args"], 0, "queued")
    desk.report()
    desk.answer(again, {"running": True})
    desk.end()
    desk.claim()
    assert (status(desk, name), desk.fleet.update_result(name).why) == ("succeeded", "the device runs it already")


def test_a_value_that_the_device_could_not_send_is_not_asked_for_for_ever(desk):
    """Then nothing is known of what it has, and all is sent."""
    desk.fleet.update(["dev"], RELEASE)
    ((begin,), _) = desk.claim()
    desk.report()
    desk.answer(begin, None, why="done, but its value is no JSON of at most 2600 bytes")
    desk.end(at=[0, 0])
    assert desk.claim() == ([], BATCH)


def test_a_first_step_that_comes_after_that_of_the_update_which_replaced_it_fails_nothing(desk):
    """A broker that delivers again behind the rest; the device goes on with what it took last."""
    small = Release({"app.py": b"x = 1\n"})
    desk.fleet.update(["dev"], RELEASE)
    ((late,), _) = desk.claim()
    (name,) = desk.fleet.update(["dev"], small)
    newer = [command for command in desk.claim()[0] if command.get("do") == "update"]
    (begin,) = [command for command in newer if command["args"]["release"] == small.digest]
    desk.report()
    desk.answer(begin, {"have": ""})
    desk.answer(late, {"have": ""})
    for _ in range(2):  # what the wake of the first step says is not yet held against it
        desk.end(release=RELEASE.id, at=[0, 0])
        found, count = desk.claim()
        desk.report()
    (again,) = found
    assert (again["args"], count, status(desk, name)) == (begin["args"], 0, "queued")
    desk.answer(again, {"have": ""})
    desk.end(release=small.id, at=[0, 0])
    ((commit,), count) = desk.claim()
    assert (commit["args"]["step"], count, status(desk, name)) == ("commit", 2, "sending")


def test_a_verdict_that_comes_late_wins_over_a_cancellation(desk):
    (name,) = desk.fleet.update(["dev"], RELEASE)
    desk.agree()
    desk.claim()
    assert desk.fleet.cancel_update(name).status == "cancelled"
    desk.report()
    desk.end(kept=1)
    desk.claim()
    assert status(desk, name) == "succeeded"


def test_a_rollout_goes_wave_by_wave(desk):
    desk.fleet.add("d1", "d2")
    name = desk.fleet.rollout(["dev", "d1", "d2"], [1, 3], releases=dict.fromkeys(["dev", "d1", "d2"], RELEASE))
    desk.fleet.ledger.step_rollouts()
    assert desk.fleet.rollouts(name)[0].counts == {"queued": 1, "to come": 2}
    ((begin,), _) = desk.claim()
    desk.report()
    desk.answer(begin, {"running": True})
    desk.claim()
    until(lambda: desk.fleet.ledger.step_rollouts() or desk.fleet.rollouts(name)[0].wave == 2)
    desk.fleet.ledger.step_rollouts()
    assert desk.fleet.rollouts(name)[0].counts == {"succeeded": 1, "queued": 2}
    desk.fleet.change_rollout(name, "abort")
    assert desk.fleet.rollouts(name)[0].counts == {"succeeded": 1, "cancelled": 2}


class Waves:
    """A rollout of the command `ping` to twelve devices in waves of 2, 6 and 12, on a clock that the test turns."""

    def __init__(self, where: str, **plan: Any) -> None:
        self.now = 1_000_000.0
        self.fleet = Fleet(where, clock=lambda: self.now)
        self.devices = [f"d{number:02}" for number in range(12)]
        self.fleet.add(*self.devices)
        for device in self.devices:
            self.say(device, protocol.WAKE, {"wake": 1, "state": "abc", "next": 900, "limit": 2048})
            self.end(device)
        self.name = self.fleet.rollout(self.devices, [2, 6, 12], command=("ping", {}), **plan)
        self.step()

    def say(self, device: str, leaf: str, value: object) -> None:
        assert self.fleet.ledger.take([Incoming(device, leaf, json.dumps(value).encode())], "s") == []

    def end(self, device: str) -> None:
        record = {"wake": 1, "state": "abc", "present": True, "drained": True, "acked": 0, "windows": {}}
        self.say(device, protocol.END, record)

    def step(self) -> RolloutView:
        """What any relay does, until nothing of it changes any more."""
        for _ in range(4):
            self.fleet.ledger.step_rollouts()
        (view,) = self.fleet.rollouts(self.name)
        return view

    def answer(self, status: str, *devices: str) -> None:
        """These devices answer what they were sent."""
        while found := self.fleet.ledger.claim("relay", "s", 100):
            self.out = {**getattr(self, "out", {}), **{one.device: one.payload for one in found}}
        for device in devices:
            payload = self.out[device]
            result = {"status": status, "crc": crc32(payload), "id": json.loads(payload)["id"]}
            self.say(device, protocol.RESULT, [result])


@pytest.fixture
def waves(where):
    opened = []

    def start(**plan):
        opened.append(Waves(where, **plan))
        return opened[-1]

    yield start
    for each in opened:
        each.fleet.close()


def test_a_rollout_waits_for_who_is_late_until_it_is_overdue_and_then_for_as_few_as_were_named(waves):
    """Overdue is what `status --overdue` calls so: more than two missed wakes, the device's own backoff counted in."""
    rollout = waves(missing=0.5)
    rollout.answer("succeeded", "d00")
    rollout.now += 2000
    assert rollout.step().wave == 1, "one missed wake is none of its business"
    rollout.now += 8000
    for device in rollout.devices[2:]:
        rollout.say(device, protocol.WAKE, {"wake": 2, "state": "abc", "next": 900, "limit": 2048})
    assert [view.id for view in rollout.fleet.overdue()] == ["d00", "d01"]
    view = rollout.step()
    assert (view.wave, view.status) == (2, "running")
    assert view.counts == {"succeeded": 1, "publishing": 1, "queued": 4, "to come": 6}


def test_a_rollout_stops_where_too_many_are_overdue_and_resumes(waves):
    rollout = waves()
    rollout.answer("succeeded", "d00")
    rollout.now += 10_000
    view = rollout.step()
    assert (view.status, view.why) == ("stopped", "1 of 2 are overdue")
    with pytest.raises(HostError, match="is stopped: there is nothing to approve"):
        rollout.fleet.change_rollout(rollout.name, "approve")
    rollout.answer("succeeded", "d01")
    rollout.fleet.change_rollout(rollout.name, "resume")
    assert rollout.step().wave == 2


def test_failures_up_to_the_limit_stop_it_withdraw_the_rest_and_are_tried_again(waves):
    rollout = waves(abort_after=2)
    rollout.answer("succeeded", "d00")
    rollout.answer("failed", "d01")
    view = rollout.step()
    assert (view.wave, view.status) == (2, "running"), "one failure is below the limit"
    rollout.fleet.ledger.step_rollouts()
    rollout.answer("failed", "d02")
    view = rollout.step()
    assert view.status == "stopped"
    assert view.why.startswith("2 failed, the last on d02")
    assert view.counts["to come"] == 6, "the third wave never begins"
    rollout.fleet.change_rollout(rollout.name, "resume")
    assert rollout.step().status == "running", "what failed before is counted no more"
    rollout.fleet.change_rollout(rollout.name, "retry")
    view = rollout.step()
    assert [member.status for member in view.members if member.device in ("d01", "d02")] == ["queued", "queued"]


def test_two_relays_and_a_crash_between_two_steps_enter_nothing_twice(waves, where):
    """Each step is one transaction under one lock: the next relay finds it whole, or not there at all."""
    rollout = waves()
    rollout.answer("succeeded", "d00", "d01")
    with Fleet(where, clock=lambda: rollout.now) as second, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: (rollout.fleet, second)[number % 2].ledger.step_rollouts(), range(24)))
    with rollout.fleet.ledger.database.reading() as connection:
        asked = select(schema.commands.c.device).where(schema.commands.c.do == "ping")
        pings = connection.execute(asked).scalars().all()
    assert sorted(pings) == rollout.devices[:6]
    assert rollout.step().wave == 2


def test_chunks_end_where_blocks_of_littlefs_do():
    """Block n > 0 begins with as many pointers as 2 divides n, and one more."""
    ends = {end for _, end in spans(30000, 0, 1024)}
    assert {4096, 8188, 12276, 16368, 20452} <= ends
    assert list(spans(0, 0, 1024)) == []


def test_what_a_device_has_is_not_sent():
    release = Release({"a.py": b"a", "b.py": b"b"})
    have = release.manifest.decode().splitlines()[1].split(" ")[1][:8]
    assert missing(release.manifest, have) == [2]
    payloads, end = chunks(release.id, release.contents(), [0, 2], (0, 0), 1024, 10)
    assert [payload[8] for payload in payloads] == [0, 2]
    assert end is None
