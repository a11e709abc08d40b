"""Figures that cannot be are told as such, beside where they stand."""

import json

import pytest
import typer.testing

from dormouse import config, protocol
from dormouse_host import figures
from dormouse_host.cli import app
from dormouse_host.ledger.store import Incoming

REPORT = {"wake": 1, "state": "s1", "next": 900, "catalogue": "abcd", "battery": 3.9, "rssi": -60}
PHASES = dict.fromkeys(("boot", "join", "connect", "drain", "confirm"), 500)
LAST = {"ended": "finished", "ms": 2500, "up": 500, "phases": PHASES}


def take(fleet, **changed):
    assert fleet.ledger.take([Incoming("dev", protocol.WAKE, json.dumps({**REPORT, **changed}).encode())], None) == []


def run(*words):
    return typer.testing.CliRunner().invoke(app.app, list(words), standalone_mode=False)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"battery": 0.0}, "a battery of 0 V cannot be: check battery_pin and battery_divider"),
        ({"battery": 99}, "a battery of 99 V cannot be"),
        ({"rssi": 0}, "a signal of 0 dBm cannot be"),
        ({"rssi": 31}, "a signal of 31 dBm cannot be"),
        ({"next": 467_000_000}, "a next wake in 4.67e+08 s cannot be: check connect_every"),
    ],
)
def test_status_tells_a_figure_of_a_report_that_cannot_be(fleet, changed, words):
    take(fleet)
    assert "cannot be" not in run("status", "dev").output + run("status").output
    take(fleet, wake=2, **changed)
    for command in (["status", "dev"], ["status"]):
        assert words in run(*command).output


def test_a_report_may_say_anything(fleet):
    for value in ("3", True, None, [0], {"a": 0}):
        assert figures.reported({"battery": value, "rssi": value, "next": value}) == []


def test_energy_refuses_the_phases_of_another_machine(fleet):
    """A device on Linux would give an ESP32 5407 days."""
    take(fleet, wake=2, fw="cpython 3.11.7", last=LAST)
    result = run("energy", "--board", "ESP32_GENERIC", "--device", "dev")
    assert "it reports cpython 3.11.7, which is not ESP32_GENERIC" in str(result.exception)
    take(fleet, wake=3, fw="ESP32_GENERIC 1.25.0", last=LAST)
    assert run("energy", "--board", "ESP32_GENERIC", "--device", "dev").exception is None


@pytest.mark.parametrize(
    "words, doubt",
    [
        (["--interval", "1s"], "does not fit into an interval of 1 s"),
        (["--ma", "asleep=0"], "no board takes 0 mA asleep"),
        (["--interval", "7d", "--ma", "asleep=0.001"], "a battery is empty by itself within ten years"),
    ],
)
def test_energy_says_which_of_its_figures_cannot_be(fleet, words, doubt):
    take(fleet, wake=2, fw="ESP32_GENERIC 1.25.0", last=LAST)
    result = run("energy", "--board", "ESP32_GENERIC", "--device", "dev", *words)
    assert result.exception is None
    assert doubt in result.output
    assert doubt not in run("energy", "--board", "ESP32_GENERIC", "--device", "dev", "--interval", "15m").output


def test_flash_says_which_settings_have_no_effect():
    base = {"id": "d", "broker": "mqtt://h"}
    assert figures.settings(config.check(base)) == []
    for changed, words in (
        ({"battery_floor": 3.3}, "battery_floor 3.3 has no effect"),
        ({"connect_every": 10}, "connect_every 10 s is shorter than a wake may be"),
        ({"sample_every": 3600}, "sample_every 3600 s is never reached"),
    ):
        (said,) = figures.settings(config.check({**base, **changed}))
        assert words in said
    assert figures.settings(config.check({**base, "battery_floor": 3.3, "battery_pin": 29})) == []
