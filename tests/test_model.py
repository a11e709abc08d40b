"""The protocol model keeps the promises over a sample of its schedules, and finds a rule that is left out."""

import pytest

from proofs.model import runs, schedules
from proofs.model.rules import RULES


@pytest.mark.parametrize("low, count", [(0, 25), (1_000_000, 5)], ids=["faults", "heavy"])
def test_no_schedule_of_the_sample_breaks_a_promise(low, count):
    tally = runs.campaign(RULES, low, low + count)
    assert tally.failed == 0, tally.lines("seeds")


@pytest.mark.parametrize(
    "rule, seed, check",
    [("crc_check", 10, "2")],
)
def test_a_rule_that_is_left_out_breaks_a_promise(rule, seed, check):
    """Else a clean run would say nothing about that rule."""
    broken, _ = runs.play(*schedules.script(seed), set(RULES) - {rule})
    assert broken is not None
    assert broken[0] == check
    assert runs.play(*schedules.script(seed), RULES)[0] is None
