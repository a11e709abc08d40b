"""A sample of the proof of updates; `make update-proof` runs all of it."""

import pytest

from dormouse_host.broker.local import Mosquitto
from proofs.update import transfer
from proofs.update.planted import PLANTED, TRANSFER, TWICE, plant
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


def test_a_transfer_survives_a_sample_of_cut_connections():
    need_micropython()
    count, faults = transfer.run(2, lambda line: None, 16, sampling.seed())
    assert faults == []
    assert count >= 12  # some are beyond the end


def test_a_cut_connection_finds_the_bug_that_only_it_can_find(tmp_path):
    agent = plant(TWICE, tmp_path)
    with Mosquitto(need_mosquitto(), []) as broker, transfer.Transfer(broker, "cpython", agent) as device:
        end = device.length()[False]
        points = [transfer.Point("cpython", False, False, False, end - back) for back in (200, 350, 500)]
        found = [device.attempt(point).faults for point in points]
    assert any("damaged" in fault for faults in found for fault in faults)


@pytest.mark.parametrize(("name", "kind"), sampling.some(ROWS, 2, "bad releases"))
def test_a_bad_release_is_left_for_the_program_of_before(name, kind, tmp_path):
    need_micropython()
    need_mosquitto()
    done = run(tmp_path, (name, kind))
    assert done.faults == [], done.console[-3000:]


@pytest.mark.parametrize("name", [*PLANTED, *TRANSFER])
def test_the_line_of_each_planted_bug_is_in_the_agent(name, tmp_path):
    """That the sweep finds them, `make update-proof` shows."""
    plant(name, tmp_path)
