"""Which slot the guard starts, boot after boot, and what its mark says then."""

import os
import sys

from runner import folder

from dormouse.guard import Slots
from dormouse.protocol import BACK, IDLE, KEPT, SENDING, TRIAL


def root(mark=None, slots="ab"):
    """A device's root with releases in these slots."""
    path = folder() + "/"
    os.mkdir(path + "state")
    for slot in slots:
        os.mkdir(path + slot)
        with open(path + slot + "/release", "w") as file:
            file.write("x\n")
    if mark is not None:
        with open(path + "state/slot", "w") as file:
            file.write(mark)
    return path


def marked(path):
    with open(path + "state/slot") as file:
        return file.read()


def boot(path, bitten=False):
    """(slot, phase, boots, went_back) of a boot, which leaves sys.path as it was."""
    before = list(sys.path)
    try:
        slots = Slots(path, bitten)
        if slots.slot:
            assert sys.path[:2] == [path + slots.slot, path + slots.slot + "/lib"]
        return slots.slot, slots.phase, slots.boots, slots.went_back
    finally:
        sys.path[:] = before


def test_a_mark_that_is_missing_or_damaged_starts_a_slot_that_has_a_release():
    for mark in (None, "", "a", "a0", "c00", "ax0", "\x00\x00\x00"):
        assert boot(root(mark))[0] == "a"
        assert boot(root(mark, "b"))[0] == "b"


def test_without_slots_nothing_is_chosen():
    path = root(None, "")
    assert boot(path) == ("", IDLE, 0, False)
    assert "slot" not in os.listdir(path + "state")


def test_a_folder_without_a_manifest_is_no_release():
    """A slot that is being filled, or that was emptied: whatever the mark says, the other one runs."""
    for mark in (None, "b00", "b20", "b40"):
        path = root(mark, "a")
        os.mkdir(path + "b")
        assert boot(path)[0] == "a"
    path = root("a23", "a")  # three boots of a trial, and nothing to go back to
    os.mkdir(path + "b")
    assert boot(path)[0] == "a"


def test_a_kept_slot_is_started_for_ever_and_its_mark_stays():
    path = root("b00")
    for bitten in (False, True, False):
        assert boot(path, bitten) == ("b", IDLE, 0, False)
    assert marked(path) == "b00"


def test_a_trial_has_three_boots_and_then_the_other_slot_runs():
    path = root("b20")
    assert [boot(path)[:3] for _ in range(3)] == [("b", TRIAL, 1), ("b", TRIAL, 2), ("b", TRIAL, 3)]
    assert boot(path) == ("a", BACK, 0, True)
    assert boot(path) == ("a", BACK, 0, False)
    assert marked(path) == "a40"


def test_the_watchdog_ends_a_trial_but_not_before_its_first_boot():
    """A Pico's reset after the commit looks like the watchdog."""
    path = root("b20")
    assert boot(path, True)[:3] == ("b", TRIAL, 1)
    assert boot(path, True) == ("a", BACK, 0, True)


def test_going_back_sets_aside_what_the_release_has_left_of_its_pieces():
    path = root("b23")
    with open(path + "state/piece", "w") as file:
        file.write("import")
    assert boot(path)[3]
    assert sorted(os.listdir(path + "state")) == ["left.piece", "slot"]


def test_a_slot_without_its_manifest_is_left_in_every_phase():
    for phase in (IDLE, SENDING, TRIAL, KEPT, BACK):
        path = root("b%d0" % phase, "a")
        assert boot(path) == ("a", BACK, 0, True)
        assert marked(path) == "a40"


def test_without_another_release_a_trial_goes_on():
    """There is nothing to go back to."""
    path = root("b23", "b")
    assert boot(path)[0] == "b"


def test_a_trial_that_can_not_be_counted_is_no_trial():
    """The mark can't be written: the other slot runs, in this boot and in the next."""
    path = root("b20")
    os.mkdir(path + "state/slot~")
    assert boot(path)[0] == "a"
    assert boot(path)[0] == "a"
