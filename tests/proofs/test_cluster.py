"""The oracle of `make cluster`: what it takes for right, and that nothing else passes."""

from collections import Counter

import pytest

from proofs.cluster.oracle import judge

SENT = {("a", 1), ("b", 1), ("b", 2)}
DONE = dict.fromkeys(SENT, "succeeded")
RECORDS = {"a": [1, 2], "b": [2, 1, 3]}
WAKES = Counter({"a": 2, "b": 3})


def test_each_once_with_an_answer_and_no_gap_is_right():
    assert judge(SENT, Counter(SENT), DONE, RECORDS, WAKES) == []


@pytest.mark.parametrize(
    "effects, statuses, records, says",
    [
        (SENT - {("a", 1)}, DONE, RECORDS, "a: command 1 took effect 0 times"),
        ([*SENT, ("b", 2)], DONE, RECORDS, "b: command 2 took effect 2 times"),
        (SENT, {**DONE, ("b", 1): "unknown"}, RECORDS, "b: command 1 is unknown in the ledger"),
        ([*SENT, ("a", 9)], DONE, RECORDS, "a: command 9 was never sent"),
        (SENT, DONE, {**RECORDS, "b": [1, 3]}, "b: 2 records of 3 wakes, or others"),
        (SENT, DONE, {**RECORDS, "a": [1, 1]}, "a: 2 records of 2 wakes, or others"),
        (SENT, DONE, {"b": RECORDS["b"]}, "a: 0 records of 2 wakes, or others"),
    ],
)
def test_anything_else_is_wrong(effects, statuses, records, says):
    assert judge(SENT, Counter(effects), statuses, records, WAKES) == [says]
