"""Brokers that differ from mosquitto: with the setting for each one wake gets everything, without it the true cause."""

import pytest

from dormouse_host.address import parse
from dormouse_host.broker.client import Publisher
from dormouse_host.broker.local import Mosquitto
from support.cloud import Cloud, Ways
from support.device_folder import Device, failed, say
from support.needs import need_mosquitto

OVERTAKES = Ways(live_first=True, pace=0.1, first=0.15)


def commands(url: str, count: int) -> list[str]:
    """Queue so many for the device, which sleeps. Returns what it is to say."""
    texts = [f"text {n}" for n in range(count)]
    with Publisher(parse(url, {})) as publisher:
        publisher.publish("dormouse/dev/down/cmd", [say(text) for text in texts], 1)
    return texts


def test_stored_messages_that_live_ones_overtake_come_in_one_wake_with_drain_quiet(interpreter, tmp_path):
    """AWS IoT Core sends stored messages at ten a second, and live ones, the fence among them, at once."""
    with Cloud(OVERTAKES) as cloud:
        device = Device(tmp_path / "device", interpreter, cloud.url, drain="quiet", quiet=400)
        assert device.wake().code == 0
        texts = commands(cloud.url, 5)
        ran = device.wake()
        end = device.wake()
    assert ran.code == 0, ran.output
    assert ran.said == texts
    assert ran.one("asleep")["drained"] is True
    assert end.said == []


def test_by_the_fence_alone_such_a_broker_seems_empty(interpreter, tmp_path):
    """What the setting is for: else a wake ends before the first stored message comes."""
    with Cloud(OVERTAKES) as cloud:
        device = Device(tmp_path / "device", interpreter, cloud.url)
        assert device.wake().code == 0
        commands(cloud.url, 5)
        ran = device.wake()
    assert ran.said == []
    assert ran.one("asleep")["drained"] is True


def test_silence_behind_the_fence_begins_anew_with_each_message(interpreter, tmp_path):
    """Twelve messages at ten a second last far longer than `quiet`."""
    with Cloud(OVERTAKES) as cloud:
        device = Device(tmp_path / "device", interpreter, cloud.url, drain="quiet", quiet=500)
        assert device.wake().code == 0
        texts = commands(cloud.url, 12)
        ran = device.wake()
    assert ran.said == texts, ran.output


@pytest.fixture(params=["mosquitto", "cloud"])
def without_retained(request):
    """The URL of a broker that closes at a retained publish."""
    if request.param == "cloud":
        with Cloud(Ways(retain="refused")) as cloud:
            yield cloud.url
    else:
        with Mosquitto(need_mosquitto(), ["retain_available false"]) as broker:
            yield broker.address.url


def test_broker_that_takes_no_retained_report_is_named_and_works_with_retain_false(
    interpreter, tmp_path, without_retained
):
    """It closes at the report: no other client, no forbidden fence."""
    device = Device(tmp_path / "device", interpreter, without_retained)
    error = failed(device.wake(), 2)
    assert (error["kind"], error["stage"]) == ("ConfigError", "publish")
    assert "retain = false" in error["why"]
    device.configure(retain=False)
    assert device.wake().code == 0
    texts = commands(without_retained, 3)
    ran = device.wake()
    assert ran.said == texts, ran.output


@pytest.mark.parametrize("kind", ["mosquitto", "cloud"])
def test_broker_without_qos_1_is_named(interpreter, tmp_path, kind):
    """There a command could not wait for anybody."""
    broker = Cloud(Ways(qos=0)) if kind == "cloud" else Mosquitto(need_mosquitto(), ["max_qos 0"])
    with broker as found:
        url = found.url if isinstance(found, Cloud) else found.address.url
        error = failed(Device(tmp_path / "device", interpreter, url).wake(), 1)
    assert error["stage"] == "subscribe"
    assert error["why"] == "the broker has no QoS 1"
