"""`make years` in small: a sample of worlds, the same run twice, a bug that is put in, and what it has found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proofs.years import found, plan, planted
from proofs.years.shrink import shrink
from proofs.years.world import Worlds
from support import sampling

TESTS = Path(__file__).parents[1]


def years(*argv: str) -> subprocess.CompletedProcess[str]:
    """`python -m proofs.years …`."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "proofs.years", *argv]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)


def test_no_promise_is_broken_in_the_worlds_of_this_commit():
    """Each with faults of its own; `make proof` plays them for an hour."""
    done = years("--days", "0.7", "--seconds", "30", "--seed", str(sampling.number()))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 worlds broke a promise" in done.stdout


def test_one_seed_is_one_run_to_the_byte():
    """In processes of their own: nothing of the machine, its clock or its chance comes in."""
    runs = [years("--only", "7", "--days", "0.1", "--log", "500") for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout
    assert " effect " in runs[0].stdout


def test_a_schedule_is_shrunk_to_what_its_failure_needs():
    """The two entries that fail together, in one device's world."""
    whole = plan.make(3, 1.0)._replace(devices=3, acts=[(float(n), "order", n) for n in range(50)])

    def play(smaller):
        there = {act[2] for act in smaller.acts}
        return "2: twice" if {17, 31} <= there else "1: another" if 17 in there else None

    small, broken = shrink(whole, "2: twice", 40.0, play, 20)
    assert ([act[2] for act in small.acts], small.devices, broken) == ([17, 31], 1, "2: twice")


def test_the_ledger_in_memory_is_the_ledger_in_its_file():
    """Statements that are compiled once, on one connection, against SQLAlchemy's own on a file."""
    with Worlds() as worlds, Worlds(on_disk=True) as others:
        for seed in (4, 7):
            one = plan.make(seed, 0.06)
            found, other = worlds.play(one), others.play(one)
            assert (found.digest, found.broken, found.wakes) == (other.digest, None, other.wakes)
            assert found.wakes > 5


def test_a_planted_bug_is_found_and_its_schedule_shrunk():
    """To a few entries, which break nothing without the bug."""
    bug = planted.bugs()["a tombstone leaves its command in the inbox"]
    with planted.sources_with(bug) as folder, Worlds(folder) as broken, Worlds() as sound:
        made = (plan.make(seed, 0.2) for seed in range(1, 200))
        plans = [one for one in made if one.devices == 1 and 12 < len(one.acts) < 40]
        whole, out = next((one, out) for one in plans if (out := broken.play(one)).broken)
        assert out.broken
        small, why = shrink(whole, out.broken, out.at, lambda smaller: broken.play(smaller).broken, 20)
        assert why[0] == out.broken[0] == "5"
        assert len(small.acts) <= 4
        assert sound.play(small).broken is None


def test_every_planted_bug_has_one_place_in_the_sources():
    """`make years ARGS=--planted` looks for all of them."""
    assert len(planted.bugs()) >= 20
    for bug in planted.bugs().values():
        with planted.sources_with(bug) as folder:
            assert any(bug.new in file.read_text() for file in folder.rglob("*.py"))


@pytest.mark.parametrize("name", sorted(found.WORLDS))
def test_what_was_found_once_is_mended(name):
    """The shortest schedules that broke a promise."""
    with Worlds() as worlds:
        assert worlds.play(found.WORLDS[name]).broken is None
