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
from support import pages
from support.device_folder import Device
from support.needs import need_micropython, need_mosquitto

MA = {"asleep": 0.01, "working": 40.0, "receiving": 100.0, "sending": 240.0}
PROGRAM = [sys.executable, "-m", "dormouse_host.cli", "energy"]


def defaults(**over):
    return {**{key: default[0] for key, default in config.KEYS.items()}, **over}


def test_a_day_is_its_wakes_and_the_sleep_between_them():
    wake = energy.of_wake(MA, energy.Computing(1), join=0.5, online=0.2, flash=0.05, sent=1250)
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


def test_figures_of_a_pico_are_those_measured_on_its_firmware():
    """A wake after its sleep, put together from the table, is as long as docs/results.md has it, plain and with TLS."""
    times = kinds.load("RPI_PICO_W").times
    rows = {}
    for line in pages.page("results").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if cells[1:2] in (["ten wakes"], ["TLS wake"]):
            rows[cells[1]] = {"join": float(cells[9]), "wake": float(cells[11]), "boot": float(cells[6])}
    assert len(rows) == 2
    for name, row in rows.items():
        spent, told = energy.computing(times, {}, tls=name == "TLS wake")
        wake = energy.of_wake(MA, spent, join=row["join"] / 1000, online=0, flash=0, sent=0)
        assert wake.seconds - times.boot / 1000 == pytest.approx(row["wake"] / 1000, rel=0.05)
        assert told[0].startswith(f"measured: boot {times.boot:g} ms")
        assert times.source in told[0]
        assert ("handshake" in told[0]) == (name == "TLS wake")


def test_times_that_are_given_come_before_those_of_the_board_and_are_told():
    """Nothing is measured on an ESP32: its boot is assumed, and what is left out is named."""
    esp32, pico = kinds.load("ESP32_GENERIC").times, kinds.load("RPI_PICO_W").times
    spent, told = energy.computing(esp32, {}, tls=True)
    assert spent == energy.Computing(1.0)
    assert told[0] == "assumed: 1 s to boot"
    assert "not measured on this board, and left out: radio, handshake, session" in told[1]
    spent, told = energy.computing(esp32, {"handshake": 1500}, boot=0.3, tls=True)
    assert spent == energy.Computing(0.3, handshake=1.5)
    assert told[0] == "given: handshake 1500 ms, boot 0.3 s"
    spent, told = energy.computing(pico, {"radio": 0}, boot=0.2)
    assert spent == energy.Computing(0.2, session=pico.session / 1000)
    assert told == [f"measured: session {pico.session:g} ms ({pico.source})", "given: radio 0 ms, boot 0.2 s"]
    with pytest.raises(HostError, match="time load: expected one of boot, before"):
        energy.computing(pico, {"load": 1})


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


@pytest.mark.timeout(400)
def test_command_adds_a_pico_its_measured_times_and_a_handshake():
    """The phases are the table's, and the estimate says on what they were measured."""
    need_mosquitto()
    need_micropython()
    argv = [*PROGRAM, "--board", "RPI_PICO_W", "--tls", "--time", "session=900", "--join", "0.045", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told, times = json.loads(done.stdout), kinds.load("RPI_PICO_W").times
    phases = {name: seconds for name, (seconds, _) in told["phases"].items()}
    assert phases["radio"] == times.radio / 1000
    assert phases["handshake"] == times.handshake / 1000
    assert phases["session"] == 0.9
    assert phases["boot"] == (times.boot + times.before) / 1000
    assert any(line.startswith("measured: ") and times.source in line for line in told["assumptions"])
    assert "given: session 900 ms" in told["assumptions"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--time", "handshake"], "--time handshake: expected NAME=MILLISECONDS"),
        (["--time", "load=1"], "time load: expected one of boot, before, radio, handshake, session"),
        (["--time", "boot=-1"], "time boot=-1: expected 0 to 600000 milliseconds"),
        (["--device", "pump", "--tls"], "--device has its own times"),
    ],
)
def test_wrong_time_is_one_line(words, message):
    done = subprocess.run([*PROGRAM, "--board", "RPI_PICO_W", *words], capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert message in done.stderr
