"""What a device understands is fetched by itself: once for each catalogue, and again when the device has another."""

import json
from binascii import crc32

import pytest

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.errors import HostError
from dormouse_host.ledger.store import Incoming
from support.device_folder import APP, Device, DeviceInterpreter
from support.relays import Running, until


@pytest.fixture
def fleet(where):
    with Fleet(where) as opened:
        yield opened


def report(fleet: Fleet, wake: int, catalogue: object, state: str = "s1") -> None:
    said = {"wake": wake, "state": state, "catalogue": catalogue}
    assert fleet.ledger.take([Incoming("dev", protocol.WAKE, json.dumps(said).encode())], None) == []


def published(fleet: Fleet) -> list[bytes]:
    return [one.payload for one in fleet.ledger.claim("r", "c", 100)]


def answer(fleet: Fleet, payload: bytes, status: str, value: object = None) -> None:
    entry = {"id": json.loads(payload)["id"], "status": status, "crc": crc32(payload), "value": value}
    assert fleet.ledger.take([Incoming("dev", protocol.RESULT, json.dumps([entry]).encode())], None) == []


CATALOGUE = {"commands": [["water", [["s", "int"]], 60, False]], "standard": []}


@pytest.mark.parametrize("status", ["succeeded", "failed", "rejected", "interrupted"])
def test_one_question_for_each_catalogue_whatever_the_answer(fleet, status):
    """A catalogue too large to be answered would else be asked for at every wake, for ever."""
    for wake in range(1, 4):
        report(fleet, wake, "aaaa")
    (asked,) = published(fleet)
    assert json.loads(asked)["do"] == "describe"
    answer(fleet, asked, status, CATALOGUE if status == "succeeded" else None)
    report(fleet, 4, "aaaa")
    assert published(fleet) == []
    assert (fleet.status("dev")[0].catalogue is not None) == (status == "succeeded")
    report(fleet, 5, "bbbb")
    assert len(published(fleet)) == 1
    assert fleet.status("dev")[0].catalogue is None, "what it understood before may be wrong now"


def test_a_question_that_nobody_will_ever_answer_is_asked_again(fleet):
    report(fleet, 1, "aaaa", "s1")
    assert len(published(fleet)) == 1
    report(fleet, 1, "aaaa", "s2")  # its flash was wiped: the command for s1 is unknown for ever
    report(fleet, 2, "aaaa", "s2")
    (asked,) = published(fleet)
    assert json.loads(asked)["id"].startswith("s2-")


@pytest.mark.parametrize("nonsense", [None, 5, "", "x" * 99, ["a"], {}])
def test_a_hash_of_nonsense_asks_nothing(fleet, nonsense):
    report(fleet, 1, nonsense)
    assert published(fleet) == []


def test_a_question_that_somebody_has_asked_already_is_not_doubled(fleet):
    fleet.send("dev", "describe", create=True)
    report(fleet, 1, "aaaa")
    assert len(published(fleet)) == 1


def asked(fleet: Fleet, commands: int) -> bool:
    """Whether the broker has this many questions, answered ones too: a wake from now on gets them."""
    return sum(fleet.ledger.counts().get(status, 0) for status in ("sent", "succeeded")) == commands


def test_a_real_device_is_asked_at_its_first_wake_and_after_its_app_changed(tmp_path, fleet, mosquitto, where):
    device = Device(tmp_path / "dev", DeviceInterpreter("cpython"), mosquitto.address.url)
    with Running(where, mosquitto):
        device.wake()
        until(lambda: asked(fleet, 1))
        device.wake()
        until(lambda: fleet.status("dev")[0].catalogue)
        with pytest.raises(HostError, match="no command water"):
            fleet.send("dev", "water")
        (tmp_path / "dev" / "app.py").write_text(f"{APP}\n@command('water')\ndef water(wake):\n    pass\n")
        device.wake()
        until(lambda: asked(fleet, 2))
        device.wake()
        until(lambda: fleet.status("dev")[0].catalogue)
        assert fleet.send("dev", "water").warning is None
        assert [row["status"] for row in fleet.export("results")] == ["succeeded"] * 2
