"""What a broker makes a process of the host keep: less than 256 MB, whatever it sends."""

import os
import sys

import pytest

from dormouse_host import Fleet
from support.flooding import CEILING, KINDS, Flood, highest
from support.sampling import some

SECONDS = 6.0  # of flood; a start of the interpreter takes some of them


def dormouse(*words):
    return [sys.executable, "-m", "dormouse_host.cli", *words]


def environment(flood, tmp_path):
    return {**os.environ, "DORMOUSE_BROKER": flood.url, "DORMOUSE_DB": str(tmp_path / "ledger.db")}


@pytest.mark.parametrize("kind", some(list(KINDS), 1, "relay flooded"))
def test_relay_stays_below_the_ceiling(kind, tmp_path):
    with Fleet(str(tmp_path / "ledger.db"), make=True) as fleet:
        fleet.add("dev")
    with Flood(kind) as flood:
        most, said = highest(dormouse("relay", "--name", "x"), SECONDS, " connected ", env=environment(flood, tmp_path))
    assert " connected " in said, said[-400:]
    assert most < CEILING, f"{most >> 20} MB"
    assert "Traceback" not in said
    if kind in ("qos 2", "suback"):
        assert "disconnected why=" in said


@pytest.mark.parametrize("kind", some(list(KINDS), 1, "broker check flooded"))
def test_broker_check_stays_below_the_ceiling(kind, tmp_path):
    with Flood(kind) as flood:
        most, said = highest(dormouse("broker", "check", flood.url), 2 * SECONDS, env=environment(flood, tmp_path))
    assert most < CEILING, f"{most >> 20} MB"
    assert "Traceback" not in said


@pytest.mark.parametrize("kind", some(list(KINDS), 1, "a command flooded"))
def test_a_command_that_speaks_to_the_broker_stays_below_the_ceiling(kind, tmp_path):
    with Fleet(str(tmp_path / "ledger.db"), make=True) as fleet:
        fleet.add("dev")
    with Flood(kind) as flood:
        most, said = highest(dormouse("devices", "remove", "dev"), 2 * SECONDS, env=environment(flood, tmp_path))
    assert most < CEILING, f"{most >> 20} MB"
    assert "Traceback" not in said
