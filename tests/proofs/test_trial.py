"""The oracle of `make trial`: what it takes for right, and that nothing else passes."""

from dataclasses import replace

import pytest

from dormouse_host.ledger.alerts import BATTERY, OVERDUE
from proofs.trial.boards import EVERY
from proofs.trial.clock import HOUR, Clock
from proofs.trial.oracle import Cause, Told, judge

CAUSES = [Cause("a", OVERDUE, 10 * HOUR, 20 * HOUR), Cause("b", BATTERY, 11 * HOUR, 15 * HOUR)]
GOOD = [
    Told("b", BATTERY, "opened", 11 * HOUR + 600),
    Told("a", OVERDUE, "opened", 12 * HOUR - EVERY),
    Told("b", BATTERY, "closed", 16 * HOUR + 300),
    Told("a", OVERDUE, "closed", 20 * HOUR + 100),
]


def test_each_once_and_in_time_is_right():
    assert judge("mqtt", GOOD, CAUSES) == []


@pytest.mark.parametrize(
    "messages, says",
    [
        (GOOD[0:3:2], "mqtt: overdue of a: told nothing"),
        (GOOD[:3], "mqtt: overdue of a: told opened"),
        ([*GOOD, GOOD[3]], "mqtt: overdue of a: told opened, closed, closed"),
        ([GOOD[0], GOOD[3], GOOD[2], GOOD[1]], "mqtt: overdue of a: told closed, opened"),
        ([replace(GOOD[0], at=13 * HOUR), *GOOD[1:]], "mqtt: battery of b: opened 7200 s after, not 0 to 2400"),
        ([GOOD[0], replace(GOOD[1], at=10.5 * HOUR), *GOOD[2:]], "mqtt: overdue of a: opened 1800 s after"),
        ([*GOOD, Told("c", OVERDUE, "opened", 0)], "mqtt: overdue of c opened, and there was no such thing"),
        ([*GOOD, Told("a", BATTERY, "opened", 0)], "mqtt: battery of a opened, and there was no such thing"),
        ([*GOOD, Told("*", OVERDUE, "opened", 0)], "mqtt: overdue of * opened, and there was no such thing"),
    ],
)
def test_anything_else_is_wrong(messages, says):
    wrong = judge("mqtt", messages, CAUSES)
    assert [line[: len(says)] for line in wrong] == [says]


def test_the_time_of_the_trial_runs_ahead():
    clock = Clock(1000.0, 100.0)
    assert clock.real(1000.0 + HOUR) == 1036.0
    assert clock.now() > 100 * 1000.0
