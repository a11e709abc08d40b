"""`dormouse energy`: the arithmetic, where each figure comes from, and a hundred days without a network.

Must stay true: what is compared with the agent is the agent: its schedule, its wakes, its sleeps.
"""

import json
import subprocess
import sys

import pytest

from dormouse import config
from dormouse_host.broker.local import free_port
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds
from dormouse_host.lab import energy
from support.device_folder import Device
from support.needs import need_micropython, need_mosquitto

MA = {"asleep": 0.01, "working": 40.0, "receiving": 100.0, "sending": 240.0}
PROGRAM = [sys.executable, "-m", "dormouse_host.cli", "energy"]


def defaults(**over):
    return {**{key: default[0] for key, default in config.KEYS.items()}, **over}


def test_a_day_is_its_wakes_and_the_sleep_between_them():
    wake = energy.of_wake(MA, boot=1, join=0.5, online=0.2, flash=0.05, sent=1250)
    assert wake.seconds == pytest.approx(1.75)
    assert wake.mas == pytest.approx(40 + 50 + 0.19 * 100 + 0.01 * 240 + 5)
    assert wake.mah_per_day(86400) == pytest.approx((wake.mas + (86400 - 1.75) * 0.01) / 3600)
    assert wake.mah_per_day(900) > 50 * wake.mah_per_day(86400) / 10


@pytest.mark.parametrize("name", [name for name in kinds.names() if name != "POSIX"])
def test_every_board_has_every_current_with_its_source(name):
    found = energy.currents(kinds.load(name), [])
    assert set(found) == {"asleep", "working", "receiving", "sending"}
    assert all(source for _, source in found.values())
    assert found["asleep"][0] < found["working"][0] < found["receiving"][0] < found["sending"][0]


@pytest.mark.parametrize("given", ["sending", "sending=x", "flying=3", "asleep=-1"])
def test_a_current_that_is_none_is_refused(given):
    with pytest.raises(HostError, match="--ma"):
        energy.currents(kinds.load("ESP32_GENERIC"), [given])


def test_days_without_a_network_grow_to_the_cap_and_cost_little():
    gone = energy.without_network(MA, defaults(connect_every=900), boot=1, timeout=20, days=100)
    assert 100 * 4 <= gone.wakes < 100 * 4 * 1.1
    assert gone.longest <= 21600 * 1.05 + 1
    assert gone.plain == pytest.approx(240000)
    assert gone.ours < gone.plain / 500


def test_agent_sleeps_as_the_days_without_a_network_assume(interpreter, tmp_path):
    """Its own wakes against a broker that is not there: the same intervals, within the jitter of both."""
    device = Device(tmp_path / "device", interpreter, f"mqtt://127.0.0.1:{free_port()}", connect_every=900)
    slept = [device.wake().one("asleep")["next"] for _ in range(6)]
    for n, seconds in enumerate(slept):
        gone = energy.without_network(MA, defaults(connect_every=900), boot=0, timeout=0, days=1, seed=n)
        assert gone.wakes >= 4
        assert seconds == pytest.approx(min(900 * 2 ** (n + 1), 21600), rel=0.06)


def test_reports_of_a_device_give_its_phases():
    def report(ended, join):
        phases = {"boot": 500, "join": join, "connect": 200, "drain": 100, "confirm": 50}
        return {"last": {"ended": ended, "ms": 1, "phases": phases, "up": 1000}}

    told = energy.reported([report("finished", 600), report("finished", 800), report("LinkError", 20000), {"wake": 1}])
    assert told == {"boot": 0.5, "join": 0.7, "online": 0.35, "sent": 1000, "wakes": 2}
    with pytest.raises(HostError, match="no report"):
        energy.reported([])


@pytest.mark.timeout(400)
def test_command_prints_what_it_rests_on():
    need_mosquitto()
    need_micropython()
    argv = [*PROGRAM, "--board", "ESP32_GENERIC", "--ma", "asleep=0.066", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["days"] == pytest.approx(2000 / told["mah_per_day"])
    assert any("0.066 mA (given)" in line for line in told["assumptions"])
    assert any("measured by the bench in this run" in line for line in told["assumptions"])
    assert told["outage"]["mah"] < told["outage"]["mah_retrying"] / 100
