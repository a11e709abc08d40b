"""The protocol model keeps the promises over a sample of its schedules, and finds a rule that is left out."""

import pytest

from proofs.model import runs, schedules
from proofs.model.rules import RULES

REST, WAKE, WIPE, HOLD, LATE = ("rest",), ("wake",), ("wipe",), ("hold",), ("late", 0.0)
SEND = ("send", 0, False, "succeeded", 0, False, 0, 1)
# A report that is withheld, from before a wipe: late. And one of a whole life between two wipes, of which nobody heard.
LATE_REPORT = [WAKE, REST, HOLD, WAKE, REST, WIPE, WAKE, REST, SEND, LATE, REST]
LATE_LIFE = [WAKE, REST, WIPE, HOLD, WAKE, REST, WIPE, WAKE, REST, SEND, LATE, ("brk", "r0"), ("relay", 0, "in"), REST]
# The first again, after so many wipes that the ledger has forgotten that state.
ANOTHER_LIFE = [WIPE, WAKE, REST, WAKE, REST]
FORGOTTEN = [WAKE, REST, HOLD, WAKE, REST, *ANOTHER_LIFE, *ANOTHER_LIFE, *ANOTHER_LIFE, SEND, LATE, REST]
PLAIN = dict.fromkeys(schedules.CONFIG, False)


@pytest.mark.parametrize(
    "low, count",
    [(0, 20), (schedules.HEAVY, 4), (schedules.ATTACKED, 20), (schedules.OVERTAKEN, 20)],
    ids=["faults", "heavy", "attacked", "overtaken"],
)
def test_no_schedule_of_the_sample_breaks_a_promise(low, count):
    tally = runs.campaign(RULES, low, low + count)
    assert tally.failed == 0, tally.lines("seeds")


@pytest.mark.parametrize(
    "rule, seed, check",
    [
        ("crc_check", 17, "2"),
        ("name_per_device", schedules.ATTACKED + 4, "2"),
        ("wakes_rise", schedules.ATTACKED + 2, "2"),
        ("absent_open", 61, "2"),
    ],
)
def test_a_rule_that_is_left_out_breaks_a_promise(rule, seed, check):
    """Else a clean run would say nothing about that rule."""
    broken, _ = runs.play(*schedules.script(seed), set(RULES) - {rule})
    assert broken is not None
    assert broken[0] == check
    assert runs.play(*schedules.script(seed), RULES)[0] is None


@pytest.mark.parametrize(
    "rule, acts, check",
    [
        ("state_left", LATE_REPORT, "2"),
        ("forgotten_left", FORGOTTEN, "2"),
        ("stale_asks", [act for act in LATE_LIFE if act is not SEND], "7"),
        ("back_reopens", LATE_LIFE, "2"),
    ],
)
def test_a_report_that_was_withheld_comes_late_without_harm_only_by_each_of_these_rules(rule, acts, check):
    assert runs.play(PLAIN, acts, RULES)[0] is None
    broken, _ = runs.play(PLAIN, acts, set(RULES) - {rule})
    assert broken is not None
    assert broken[0] == check


def test_stored_commands_that_live_messages_overtake_come_in_that_wake_by_the_silence_behind_the_fence():
    """Without it the fence says that nothing waits: the command is published again, and comes a wake late."""
    cfg = PLAIN | {"overtakes": True}
    published = []
    publish = [REST, *[("relay", 0, "out"), ("brk", "r0")] * 2, REST]
    for rules in (set(RULES), set(RULES) - {"quiet"}):
        broken, world = runs.play(cfg, [WAKE, REST, SEND, *publish, WAKE, REST], rules)
        assert broken is None
        published.append(max(world.published.values()))
    assert published == [1, 2]
