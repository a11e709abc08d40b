"""What an update would take is told before it is ordered."""

from dormouse_host.flash import kinds
from dormouse_host.lab import update_cost
from dormouse_host.release import Release

OLD = Release({"app.mpy": b"o" * 3000, "same.csv": b"s" * 700, "gone.py": b"g", "lib/dormouse/agent.mpy": b"a"})
NEW = Release({"app.mpy": b"n" * 3100, "same.csv": b"s" * 700, "new.py": b"n" * 20}, keep=("lib/dormouse/",))
LAST = {"ended": "finished", "phases": dict.fromkeys(("boot", "join", "connect", "drain", "confirm"), 500), "up": 900}


def test_files_are_compared_with_those_of_the_release_that_runs():
    cost = update_cost.of(NEW, OLD.manifest.decode(), None, [])
    assert cost.files == (
        ("app.mpy", 3100, "changed"),
        ("same.csv", 700, "same"),
        ("new.py", 20, "new"),
        ("gone.py", 0, "gone"),
    )
    assert cost.size == 3120 + len(NEW.manifest)
    assert (cost.wakes, cost.mah) == (2, None)


def test_where_nobody_knows_what_runs_all_of_it_counts():
    cost = update_cost.of(NEW, None, None, [])
    assert {mark for _, _, mark in cost.files} == {""}
    assert cost.size == 3820 + len(NEW.manifest)
    assert update_cost.of(Release({"table.csv": b"x" * 200_000}), None, None, []).wakes == 1 + 4


def test_the_charge_is_that_of_one_wake_more_and_of_the_flash():
    """By the device's own report of its last wake, and its board's currents."""
    board = kinds.load("RPI_PICO_W")
    small = update_cost.of(NEW, None, board, [{"last": LAST}]).mah
    large = update_cost.of(Release({"app.mpy": b"n" * 103_100}), None, board, [{"last": LAST}]).mah
    assert small is not None
    assert large is not None
    wake = (0.5 * 18 + 2.0 * 70) / 3600
    assert wake < small < 2 * wake, "the board starts its radio, too"
    assert large - small > 24 * 0.05 * 70 / 3600
    assert update_cost.of(NEW, None, board, [{"last": None}]).mah is None
