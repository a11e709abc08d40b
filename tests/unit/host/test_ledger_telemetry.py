"""Each telemetry record is stored once, or counted as dropped once, in whatever order the broker hands things on."""

import json
import random
from dataclasses import replace

import pytest
from sqlalchemy import select

from dormouse_host.ledger import schema, telemetry
from dormouse_host.ledger.outbound import Outgoing
from dormouse_host.ledger.store import Incoming, Ledger
from dormouse_host.ledger.telemetry import RESEND, follow
from support.reports import answer, end, end_message, records, report

S, T = schema.telemetry_streams.c, schema.telemetry.c
SEEDS = [range(6), pytest.param(range(6, 40), marks=pytest.mark.proof)]


@pytest.fixture
def ledger(where):
    with Ledger(where) as opened:
        opened.add_devices(["dev"])
        yield opened


def numbers(ledger: Ledger, state: str = "s1") -> list[int]:
    return sorted(row["number"] for row in ledger.export("telemetry", 0) if row["state"] == state)


def dropped(ledger: Ledger) -> int:
    return ledger.devices("dev")[0].dropped


def asked_of(ledger: Ledger) -> list[Outgoing]:
    """What the ledger asks for again; whatever else it wants to know is nothing to telemetry."""
    asked = []
    while outgoing := ledger.claim("r", "c1", 100):
        asked += [one for one in outgoing if json.loads(one.payload)["do"] == RESEND]
    return asked


def test_an_old_end_record_hides_no_gap_above_it(ledger):
    """The relay is away and the broker goes back in time: of the wakes 3 and 4 the records are lost, of wake 5 a record
    comes, and after it the retained report of wake 2, which says no more than that 1 and 2 were acknowledged.
    """
    assert ledger.take([report(1), records(1, 2), report(5), records(6)], "c1") == []
    assert ledger.take([report(2, end=end(1, acked=2))], "c1") == []
    assert ledger.take([records(3)], "c1") == []
    assert numbers(ledger) == [1, 2, 3, 6], "what is missing is not taken for stored"
    assert ledger.take([report(6, end=end(5, acked=6))], "c1") == []
    (asked,) = asked_of(ledger)
    assert json.loads(asked.payload)["args"] == {"from": 4, "to": 5}
    assert ledger.take([records(5), answer(asked, value={"dropped": 1})], "c1") == []
    assert ledger.take([report(7, end=end(6, acked=6))], "c1") == []
    assert (numbers(ledger), dropped(ledger)) == ([1, 2, 3, 5, 6], 1)


@pytest.mark.parametrize(
    "spans, expected",
    [
        ([(1, 1, False), (2, 2, False), (6, 6, False)], (2, 0, [])),
        ([(1, 1, False), (6, 6, False)], (1, 0, [(2, 2)])),
        ([(1, 2, True), (6, 9, True)], (2, 2, [])),
        ([(1, 5, True), (6, 6, False), (8, 8, False)], (6, 5, [])),
    ],
)
def test_the_mark_stops_at_a_gap_though_nothing_up_to_it_is_missing(spans, expected):
    assert follow(0, 2, spans) == expected


def test_a_late_record_of_a_state_that_was_left_brings_those_below_it_to_account(ledger):
    """Nobody can be asked for them any more."""
    assert ledger.take([report(1), records(1, 2), end_message(end(1, acked=2)), report(1, "s2")], "c1") == []
    assert ledger.take([records(5), records(6, 8)], "c1") == []
    assert (numbers(ledger), dropped(ledger)) == ([1, 2, 5, 6, 8], 3)
    assert ledger.take([records(3, 7, 8)], "c1") == []
    assert (numbers(ledger), dropped(ledger)) == ([1, 2, 5, 6, 8], 3), "counted already"


def test_a_state_whose_records_come_before_its_report_has_lost_nothing(ledger):
    assert ledger.take([report(1), records(1), records(2, state="s2"), records(1, state="s2")], "c1") == []
    assert ledger.take([report(1, "s2")], "c1") == []
    assert (numbers(ledger, "s2"), dropped(ledger)) == ([1, 2], 0)


def test_a_device_can_call_no_more_dropped_than_it_was_asked_for(ledger):
    assert ledger.take([report(1), records(4), report(2, end=end(1, acked=4))], "c1") == []
    (asked,) = asked_of(ledger)
    assert ledger.take([answer(asked, value={"dropped": 1 << 40}), report(3, end=end(2, acked=4))], "c1") == []
    assert ledger.take([records(5, 6)], "c1") == []
    assert (numbers(ledger), dropped(ledger)) == ([4, 5, 6], 3)


class Device:
    """By the agent's rules: each wake stores one record and sends what no PUBACK has covered; its power may go."""

    def __init__(self, name: str, dice: random.Random) -> None:
        self.name = name
        self.dice = dice
        self.wake = self.last = self.acked = 0
        self.oldest = 1
        self.ended: dict | None = None

    def awake(self, asked: list[Outgoing]) -> tuple[list[Incoming], list[Incoming]]:
        """What one wake says: what may be lost, in order, and its answers, which the windows would bring in the end."""
        self.wake += 1
        self.last += 1
        if self.dice.random() < 0.1:
            self.oldest = self.dice.randint(self.oldest, self.last)  # its flash is full
        said, answers = [report(self.wake, end=self.ended)], []
        said.append(records(*range(max(self.acked + 1, self.oldest), self.last + 1)))
        for one in asked:
            first, last = json.loads(one.payload)["args"].values()
            answers.append(answer(one, value={"dropped": max(0, min(last + 1, self.oldest) - first)}))
            said.append(records(*range(max(first, self.oldest), last + 1)))
        if self.dice.random() < 0.7:  # else the power goes before the end
            self.acked = self.last
            self.ended = end(self.wake, acked=self.acked)
            said.append(end_message(self.ended))
        return [replace(one, device=self.name) for one in said], [replace(one, device=self.name) for one in answers]


def unaccounted(ledger: Ledger, device: Device) -> tuple[int, int]:
    """Below the mark, and of all: records that are neither stored nor counted."""
    with ledger.database.reading() as connection:
        mark = connection.execute(select(S.whole, S.dropped).where(S.device == device.name)).one_or_none()
        stored = connection.execute(select(T.number).where(T.device == device.name)).scalars().all()
    whole, gone = mark or (0, 0)
    return whole - gone - sum(number <= whole for number in stored), device.last - gone - len(stored)


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_whatever_the_broker_loses_and_repeats_each_record_is_stored_or_counted(ledger, seeds):
    """A broker that goes back in time while the relay is away: what came is lost, what was delivered comes again."""
    for seed in seeds:
        dice = random.Random(seed)
        device = Device(f"d{seed}", dice)
        ledger.add_devices([device.name])
        for _ in range(dice.randint(2, 6)):
            said, answers = device.awake(asked_of(ledger))
            away: list[Incoming] = []
            for _ in range(dice.choice([0, 0, 1, 4])):
                away += device.awake([])[0]
            kept = sorted(dice.sample(range(len(away)), min(len(away), dice.randint(0, 3))))
            said += [away[n] for n in kept]
            if dice.random() < 0.7:  # else the relay is back before the device is
                said = device.awake([])[0] + said
            assert ledger.take([*said, *answers], "c1") == []
            assert unaccounted(ledger, device)[0] == 0, f"seed {seed}: the mark has passed a gap"
        device.dice = random.Random(0)
        for _ in range(8):
            said, answers = device.awake(asked_of(ledger))
            assert ledger.take([*said, *answers], "c1") == []
        assert unaccounted(ledger, device) == (0, 0), f"seed {seed}"


def test_of_what_lies_above_a_gap_little_is_read_at_each_wake(ledger, monkeypatch):
    """However much a device has sent: what is whole still grows to its end, and what is missing is asked for."""
    monkeypatch.setattr(telemetry, "_READ", 10)
    telemetry._there.cache_clear()
    ledger.add_devices(["later"])
    ledger.take([report(1), records(*range(1, 35)), records(*range(36, 60))], "c1")
    ledger.take([replace(one, device="later") for one in (report(1), records(1, 3))], "c1")
    for wake in range(2, 10):
        said = [report(wake, end=end(wake - 1, acked=60))]
        ledger.take([*said, replace(report(wake, end=end(wake - 1, acked=3)), device="later")], "c1")
    asked = {one.device: json.loads(one.payload)["args"] for one in asked_of(ledger)}
    telemetry._there.cache_clear()
    with ledger.database.reading() as connection:
        whole = {row.device: row.whole for row in connection.execute(select(S.device, S.whole))}
    assert whole == {"dev": 34, "later": 1}
    assert asked["later"] == {"from": 2, "to": 2}
    assert asked["dev"]["from"] == 35
    assert dropped(ledger) == 0
