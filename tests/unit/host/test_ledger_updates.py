"""Updates and rollouts in a ledger, on both databases, with end records as a device sends them."""

import json

import pytest

from dormouse import protocol
from dormouse_host.fleet import Fleet
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

    def answer(self, command: dict, value: object) -> None:
        with self.fleet.ledger.database.reading() as connection:
            sql = f"SELECT name FROM commands WHERE name = '{command['u']}'"
            assert connection.exec_driver_sql(sql).first()
        payload = json.dumps(command, separators=(",", ":")).encode()
        from binascii import crc32

        result = {"status": "succeeded", "crc": crc32(payload), "id": command["id"], "value": value}
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
    ((begin,), _) = desk.claim()
    desk.report(battery=3.2)
    desk.answer(begin, {"have": ""})
    desk.end(at=[0, 0])
    assert desk.claim() == ([], 0)
    (view,) = desk.fleet.updates()
    assert view.why == "battery 3.2 V, below 3.4 V"
    desk.report(battery=3.7)
    desk.end(at=[0, 0])
    assert desk.claim() == ([], BATCH)


def test_a_device_that_knows_nothing_of_it_any_more_has_failed_it(desk):
    (name,) = desk.fleet.update(["dev"], RELEASE)
    ((begin,), _) = desk.claim()
    desk.report()
    desk.answer(begin, {"have": ""})
    desk.end(at=[0, 0])
    desk.claim()
    desk.report()
    desk.end()
    desk.claim()
    assert status(desk, name) == "failed"


def test_a_verdict_that_comes_late_wins_over_a_cancellation(desk):
    (name,) = desk.fleet.update(["dev"], RELEASE)
    ((begin,), _) = desk.claim()
    desk.report()
    desk.answer(begin, {"have": ""})
    desk.end(at=[0, 0])
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
