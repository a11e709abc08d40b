"""A sample of the proof of updates; `make update-proof` runs all of it."""

import pytest

from proofs.update.planted import PLANTED, plant
from proofs.update.releases import ROWS, run
from proofs.update.sweep import PROGSIZES, Bench, sweep
from support import sampling
from support.needs import need_micropython, need_mosquitto

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("kind", PROGSIZES)
def test_an_update_survives_a_sample_of_cuts(kind):
    need_micropython()
    with Bench() as bench:
        count, faults = sweep(bench, PROGSIZES[kind], 24, sampling.seed())
    assert faults == []
    assert count == 24


@pytest.mark.parametrize(("name", "kind"), sampling.some(ROWS, 2, "bad releases"))
def test_a_bad_release_is_left_for_the_program_of_before(name, kind, tmp_path):
    need_micropython()
    need_mosquitto()
    done = run(tmp_path, (name, kind))
    assert done.faults == [], done.console[-3000:]


@pytest.mark.parametrize("name", PLANTED)
def test_the_line_of_each_planted_bug_is_in_the_agent(name, tmp_path):
    """That the sweep finds them, `make update-proof` shows."""
    plant(name, tmp_path)
