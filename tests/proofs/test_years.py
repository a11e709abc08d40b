"""`make years` in small: a sample of worlds, the same run twice, a bug that is put in, and what it has found."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from proofs.years import found, plan, planted, world
from proofs.years.shrink import shrink
from proofs.years.stores import OnDisk
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
        for seed in (4, 7, 11):  # the last with updates, a rollout and a pruning
            one = plan.make(seed, 0.06 if seed < 11 else 0.3)
            pruned = [(3600.0, "hostclock", -7200), (9000.0, "prune")] if seed == 11 else []
            one = one._replace(acts=sorted([*one.acts, *pruned], key=lambda act: act[0]))
            found, other = worlds.play(one), others.play(one)
            assert (found.digest, found.broken, found.wakes) == (other.digest, None, other.wakes)
            assert found.wakes > 5


def test_updates_rollouts_and_worn_flash_happen_in_the_worlds():
    """Each of them does what it is there for, somewhere in a few worlds: else it would prove nothing."""
    with Worlds() as worlds:
        log = []
        for seed in (17, 46):
            log += worlds.play(plan.make(seed, 0.4), 100_000).log
    told = "\n".join(log)
    for part in ("'rollout'", "'rollout of'", "'update'", '"cause":"reset"', "[Errno 5] flash", "[Errno 28] "):
        assert part in told, part


def test_what_is_old_leaves_the_ledger_in_a_world_of_many_days():
    """But for what a device may still tell of, and nothing that is open, of which the oracle makes sure."""
    orders = [(1000.0, "order", 0, "do", None, False)] * 300
    one = found.WORLDS["two handlers that hang"]._replace(days=11.0, acts=[*orders, (940_000.0, "prune")])
    with Worlds() as worlds, tempfile.TemporaryDirectory() as folder:
        store = OnDisk(worlds.template, Path(folder))
        assert world._World(worlds, one, store, 0).run().broken is None
        ((count,),) = store.ask("SELECT count(*) FROM commands WHERE do = 'do'")
        assert 200 < count < 300


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


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("PUBACK before flush", "seed 13: 1: "),
        ("a piece that hung is forgiven at once", "seed 12: 3: "),
        ("more are out than a device can tell apart", "seed 83: 5: "),
        ("a handler that hung is held against the import", "seed 29: 3: "),
        ("a repeatable command is run again for ever", "seed 87: 2: "),
        ("a chunk that comes twice is written twice", "seed 198: 5: "),
    ],
)
def test_what_dense_schedules_and_a_stricter_judge_are_there_for_is_found(name, found):
    """Cuts that are aimed, floods, programs that hang for hours, retries; without the bug all is well."""
    seed = int(found.split()[1].rstrip(":"))
    assert found in planted.hunt(planted.bugs()[name], seed, 60, 0.5)
    with Worlds() as sound:
        assert sound.play(plan.make(seed, 0.5)).broken is None


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
