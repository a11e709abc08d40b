"""`dormouse broker check` at brokers that differ: what it finds, the settings that it names, and a wake with them.

One stub for each preset behaves as docs/brokers.md says of that broker; the device of each wake is a real one.
"""

import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dormouse_host import profile
from dormouse_host.address import parse
from dormouse_host.broker.client import Publisher
from dormouse_host.broker_check.check import check, settings
from dormouse_host.broker_check.findings import Case, Row
from dormouse_host.presets import PRESETS
from support.cloud import Cloud, Ways
from support.device_folder import Device, DeviceInterpreter, say
from support.needs import need_micropython

pytestmark = pytest.mark.timeout(240)

HOUR = 3600.0
STUBS = {
    "mosquitto": Ways(inflight=20, queue=1000, mqtt5=True),
    "rabbitmq": Ways(inflight=10, retain="exact", mqtt5=True, forgets=24 * HOUR),
    "nats": Ways(withholds=30),
    "emqx": Ways(inflight=32, queue=1000, full="oldest", mqtt5=True, forgets=2 * HOUR),
    "hivemq-cloud": Ways(inflight=10, queue=1000, mqtt5=True),
    "aws-iot-core": Ways(live_first=True, pace=0.1, first=0.15, inflight=100, mqtt5=True, forgets=HOUR, slashes=7),
    "azure-event-grid": Ways(
        retain="refused", live_first=True, pace=0.05, queue=100, full="session", mqtt5=True, forgets=HOUR
    ),
    "azure-iot-hub": Ways(allowed=lambda topic: topic.startswith("devices/")),
}


def found(cloud: Cloud, depth: int = 200) -> dict[str, Row]:
    return {row.key: row for row in check(Case(parse(cloud.url, {}), depth=depth))}


def test_every_preset_has_a_stub():
    assert set(STUBS) == set(PRESETS)


USABLE = [name for name, preset in PRESETS.items() if not preset.refused]


def takes_all_that_waits(folder: Path, url: str, told: Mapping[str, Any]) -> None:
    """A device with these settings gets a dozen commands that queued while it slept in one wake, each once."""
    need_micropython()
    device = Device(folder, DeviceInterpreter("micropython"), url, **told)
    assert device.wake().code == 0
    texts = [f"text {n}" for n in range(12)]
    with Publisher(parse(url, {})) as publisher:
        publisher.publish("dormouse/dev/down/cmd", [say(text) for text in texts], 1)
    ran = device.wake()
    assert ran.code == 0, ran.output
    assert ran.said == texts
    assert ran.one("asleep")["drained"] is True
    again = device.wake()
    assert (again.code, again.said) == (0, [])


@pytest.mark.parametrize("name", USABLE)
def test_wake_with_the_preset_of_a_broker_takes_all_that_waits(tmp_path, name):
    with Cloud(STUBS[name]) as cloud:
        takes_all_that_waits(tmp_path / "device", cloud.url, profile.settings({"preset": name}))


@pytest.mark.parametrize("name", USABLE)
def test_check_names_the_settings_that_the_preset_has_and_a_wake_with_these_takes_all_that_waits(tmp_path, name):
    """Nobody has to know the preset: what the check names is enough."""
    preset = PRESETS[name].settings
    with Cloud(STUBS[name]) as cloud:
        rows = found(cloud, 60)
        named = settings(list(rows.values()))
        assert named == {**preset, **({"quiet": named.get("quiet")} if "quiet" in preset else {})}
        assert not [row for row in rows.values() if row.grade == "broken"], rows
        if "drain" in preset:
            assert 500 <= named["quiet"] <= 1000
            assert 'drain = "quiet"' in rows["live"].setting
            assert rows["pace"].grade == "note"
            assert rows["session-expiry"].seen == "3600 s, it says"
        takes_all_that_waits(tmp_path / "device", cloud.url, {k: v for k, v in named.items() if k != "waiting"})


def test_check_of_a_broker_like_mosquitto_names_no_setting_but_for_its_short_queue():
    with Cloud(replace(STUBS["mosquitto"], queue=150)) as cloud:
        rows = found(cloud)
    assert settings(list(rows.values())) == {"waiting": 60}  # of a queue of 150
    assert rows["live"].grade == rows["topics"].grade == rows["qos1"].grade == rows["retained"].grade == "ok"
    assert rows["window"].seen == "20"
    assert rows["depth-up"].seen.startswith("the first 150")


def test_check_sees_what_nats_withholds_and_what_emqx_drops():
    with Cloud(STUBS["nats"]) as cloud:
        assert found(cloud)["cut"].grade == "warning"
    with Cloud(replace(STUBS["emqx"], queue=150)) as cloud:
        rows = found(cloud)
    assert rows["depth-up"].seen.startswith("the last 150")
    assert rows["session-expiry"].seen == "7200 s, it says"
    assert "2 h" in rows["session-expiry"].means


def test_check_ends_where_a_broker_has_no_qos_1_or_forbids_a_devices_topics():
    """Nothing that follows could be true."""
    with Cloud(Ways(qos=0)) as cloud:
        rows = found(cloud)
        assert list(rows)[-1] == "qos1"
        assert rows["qos1"].grade == "broken"
    with Cloud(STUBS["azure-iot-hub"]) as cloud:
        rows = found(cloud)
    broken = [row for row in rows.values() if row.grade == "broken"]
    assert len(broken) == 1


def test_a_sleeper_that_is_forgotten_is_found_by_sleeping():
    """MQTT 3.1.1 has no word for how long a session lasts."""
    with Cloud(Ways(forgets=1)) as cloud:
        case = Case(parse(cloud.url, {}), depth=100, asleep=2)
        rows = {row.key: row for row in check(case)}
        assert (rows["asleep"].grade, rows["asleep"].seen) == ("warning", "forgotten")
        case = Case(parse(cloud.url, {}), depth=100, asleep=0.2)
        rows = {row.key: row for row in check(case)}
    assert rows["asleep"].grade == "ok"
    assert rows["session-expiry"].seen == "not known"


def test_what_the_check_finds_is_kept_for_the_flash(tmp_path):
    """By the command; the profile holds for that URL, and a wake with it takes what waits."""
    (tmp_path / "dormouse.toml").write_text('# mine\nbroker = "mqtt://old"\nroot = "dormouse"\n\n[device]\nled = "2"\n')
    with Cloud(STUBS["azure-event-grid"]) as cloud:
        run = [sys.executable, "-m", "dormouse_host.cli", "broker", "check", cloud.url, "--depth", "100", "--keep"]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 3, done.stdout + done.stderr
        text = (tmp_path / "dormouse.toml").read_text()
        values = tomllib.loads(text)
        kept = values["broker"]
        assert kept.pop("url") == cloud.url
        assert kept["retain"] is False
        assert kept["drain"] == "quiet"
        assert text.startswith("# mine\nbroker.url = ")
        assert (values["root"], values["device"]) == ("dormouse", {"led": "2"})
        takes_all_that_waits(tmp_path / "d", cloud.url, profile.settings(kept))
    assert "dormouse.toml: written" in done.stdout
