"""TLS with a key that device and broker share: no certificate, and nobody gets through who does not have the key.

MicroPython 1.29 is the first with it, in preview here, and CPython 3.13. The broker is that of `broker init --psk`.
"""

import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dormouse_host import Fleet, rotation
from dormouse_host.address import BrokerAddress
from dormouse_host.agent import toolchain
from dormouse_host.broker import credentials
from dormouse_host.broker.local import free_port
from dormouse_host.errors import HostError
from dormouse_host.flash import before, kinds, project
from proofs.matrix import interpreters
from support import made_broker
from support.certificates import Authority, server_context
from support.device_folder import Device, DeviceInterpreter, failed
from support.made_broker import MadeBroker
from support.needs import need_micropython
from support.peer import Peer
from support.relays import Running
from support.waiting import until

pytestmark = pytest.mark.timeout(200)
HERE = hasattr(ssl.SSLContext, "set_psk_client_callback")  # has this Python's TLS shared keys?
REFUSED = "ca, cert or key is not in DER, or no psk here"


@pytest.fixture(params=["micropython", *(["cpython"] if HERE else [])])
def knows_keys(request, monkeypatch) -> DeviceInterpreter:
    """An interpreter whose TLS has shared keys: the one that was chosen where it does, else the preview."""
    if request.param == "micropython":
        chosen = os.environ.get("MICROPYTHON")
        found = toolchain.probe(Path(chosen), chosen) if chosen else None
        if not found or found.version < (1, 29):
            try:
                monkeypatch.setenv("MICROPYTHON", str(interpreters.preview()))
            except HostError as error:
                (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))
    return DeviceInterpreter(request.param)


@pytest.fixture
def broker(tmp_path) -> Iterator[MadeBroker]:
    """A running broker that takes shared keys, and has one for `dev`."""
    made = made_broker.make(tmp_path / "broker", psk_port=free_port())
    credentials.provision(made, "dev", tmp_path, psk=True)
    with MadeBroker(made) as running:
        yield running


class OfRelay(NamedTuple):
    """The broker, as the relay comes in."""

    address: BrokerAddress


def device(folder: Path, interpreter: DeviceInterpreter, **config: object) -> Device:
    """The device with what `dormouse provision` wrote for it."""
    given = folder / "devices" / "dev"
    own = Device(folder / f"device-{config.get('id', 'dev')}", interpreter, "", budget=10)
    for file in given.iterdir():
        (own.folder / file.name).write_bytes(file.read_bytes())
    own.configure(**{**json.loads((given / "config.json").read_text()), **config})
    return own


def test_command_comes_and_result_goes_with_a_shared_key_and_no_certificate(tmp_path, knows_keys, broker):
    """Identity, user and client id are one name. No date is compared, so none can be wrong."""
    own = device(tmp_path, knows_keys)
    assert not list(own.folder.glob("*.der"))
    with (
        Fleet(str(tmp_path / "ledger.db")) as fleet,
        Running(str(tmp_path / "ledger.db"), OfRelay(broker.of_relay()), "main"),
    ):
        fleet.add("dev")
        ran = own.wake()
        assert ran.code == 0, ran.output
        until(lambda: fleet.status("dev")[0].state)
        name = fleet.send("dev", "say", {"text": "behind a key"}).name
        until(lambda: fleet.result(name).status == "sent")
        ran = own.wake()
        assert ran.code == 0, ran.output
        assert ran.said == ["behind a key"]
        assert ran.one("connected")["present"] is True
        assert fleet.wait(name, 20).status == "succeeded"
        assert "dates" not in fleet.status("dev")[0].report
    assert " as dev (p2, c0, k660, u'dev')" in broker.log.read_text()


def test_a_wrong_key_and_a_name_that_has_none_are_refused_before_a_byte_of_mqtt(tmp_path, knows_keys, broker):
    own = device(tmp_path, knows_keys)
    own.secrets(password="ab" * 32)
    assert failed(own.wake(), 1)["stage"] == "tls"
    own = device(tmp_path, knows_keys, id="other")  # with the key of `dev`
    assert failed(own.wake(), 1)["stage"] == "tls"
    assert " as dev" not in broker.log.read_text()
    assert " as other" not in broker.log.read_text()


def test_no_certificate_is_enough_where_a_key_is_shared(tmp_path, knows_keys, broker):
    """Whoever stands in the broker's place with a certificate of any CA hears nothing."""
    with Peer(
        lambda connection: connection.listen(), tls=server_context(Authority(tmp_path).sign("127.0.0.1"))
    ) as peer:
        own = device(tmp_path, knows_keys, broker=f"mqtts://127.0.0.1:{peer.port}")
        assert failed(own.wake(), 1)["stage"] == "tls"
        assert not peer.connections or not peer.last.chunks


def test_a_revoked_device_is_out_and_comes_in_with_a_new_key(tmp_path, knows_keys, broker):
    own = device(tmp_path, knows_keys)
    assert own.wake().code == 0
    assert credentials.revoke(broker.made, "dev")
    assert failed(own.wake(), 1)["stage"] == "tls"
    assert credentials.provision(broker.made, "dev", tmp_path, psk=True).told
    assert failed(own.wake(), 1)["stage"] == "tls"
    ran = device(tmp_path, knows_keys).wake()
    assert ran.code == 0, ran.output


def test_a_shared_key_is_rotated_and_no_wake_is_locked_out(tmp_path, knows_keys, broker):
    """As a password is: the device holds both, and is refused with the new one until the broker has it."""
    own, made = device(tmp_path, knows_keys), broker.made
    old = json.loads((own.folder / "secrets.json").read_text())["password"]
    db = str(tmp_path / "ledger.db")
    with Fleet(db) as fleet, Running(db, OfRelay(broker.of_relay()), "main"):
        fleet.add("dev")
        assert own.wake().code == 0
        until(lambda: fleet.status("dev")[0].state)
        told: list[str] = []
        with pytest.raises(HostError, match="waits for it, and its shared key still holds; go on with dormouse rotate"):
            rotation.rotate(made, fleet, "dev", tmp_path, 0, told.append)
        until(lambda: fleet.result(told[0]).status == "sent")
        assert own.wake().code == 0
        between = own.wake()  # the broker does not know the new one yet
        assert (between.code, len(between.all("connecting"))) == (0, 2), between.output
        assert rotation.rotate(made, fleet, "dev", tmp_path, 20) == rotation.Rotated("shared key", True)
        ran = own.wake()
        assert (ran.code, len(ran.all("connecting"))) == (0, 1), ran.output
    new = json.loads((tmp_path / "devices" / "dev" / "secrets.json").read_text())["password"]
    assert new != old
    own.secrets(password=new)  # a flash
    assert own.wake().code == 0
    own.secrets(password=old)
    (own.folder / "state" / "credentials").unlink(missing_ok=True)  # else it has the new one behind the old
    assert failed(own.wake(), 1)["stage"] == "tls"


@pytest.mark.parametrize("kind", ["micropython", *([] if HERE else ["cpython"])])
def test_a_device_whose_tls_has_no_shared_keys_says_so(tmp_path, broker, kind):
    """And does not go unchecked."""
    if kind == "micropython" and need_micropython().version >= (1, 29):
        pytest.skip("this MicroPython has shared keys")
    error = failed(device(tmp_path, DeviceInterpreter(kind)).wake(), 2)
    assert (error["kind"], error["why"]) == ("ConfigError", REFUSED)


@pytest.mark.parametrize("key", ["", "no hex"])
def test_a_key_that_is_none_is_refused(tmp_path, knows_keys, broker, key):
    own = device(tmp_path, knows_keys)
    own.secrets(password=key)
    assert failed(own.wake(), 2)["why"] == REFUSED
    own.secrets()
    assert failed(own.wake(), 2)["why"] == REFUSED


# ---- the host


def files(folder: Path) -> project.DeviceFiles:
    """What a flash of `dev` puts on a board."""
    over = {"ssid": "home"}
    return project.device_files(project.read(folder), kinds.load("RPI_PICO_W"), "dev", over, {})


def test_flash_takes_what_provision_wrote_and_no_firmware_without_shared_keys(tmp_path, broker):
    own = files(tmp_path)
    assert (own.config["psk"], own.full["ca"], own.keys) == (True, "", {})
    assert before.anchored(own, pytest.fail) is own, "there is no certificate to ask for"
    before.firmware(own, (1, 29, 0))
    with pytest.raises(HostError, match="whose TLS has no shared keys: 1.29 is the first") as caught:
        before.firmware(own, (1, 28, 0))
    assert caught.value.code == 3
    told: list[str] = []
    before.broker(own, told.append)
    assert told == [] if HERE else "this Python's TLS has no shared keys" in told[0]
    path = tmp_path / "devices" / "dev" / "secrets.json"
    path.write_text('{"password": "ab"}')
    with pytest.raises(HostError, match="expected 32 to 64 hex digits as password in secrets.json") as caught:
        files(tmp_path)
    assert caught.value.code == 2


@pytest.mark.skipif(not HERE, reason="this Python's TLS has no shared keys")
def test_flash_says_that_the_broker_refuses_the_key(tmp_path, broker):
    (tmp_path / "devices" / "dev" / "secrets.json").write_text(json.dumps({"password": "ab" * 32}))
    told: list[str] = []
    before.broker(files(tmp_path), told.append)
    assert "refuses the shared key" in told[0]


def test_a_device_has_one_credential(tmp_path, broker):
    """Of whichever kind; a certificate that was revoked is not flashed with the key."""
    made = broker.made
    with pytest.raises(HostError, match="dev has a credential already"):
        credentials.provision(made, "dev", tmp_path)
    credentials.provision(made, "pump", tmp_path, cert=True)
    with pytest.raises(HostError, match="pump has a credential already"):
        credentials.provision(made, "pump", tmp_path, psk=True)
    credentials.revoke(made, "pump")
    credentials.provision(made, "pump", tmp_path, psk=True)
    assert sorted(path.name for path in (tmp_path / "devices" / "pump").iterdir()) == ["config.json", "secrets.json"]
    assert made.psk.stat().st_mode & 0o007 == 0


def test_a_broker_without_a_listener_for_shared_keys_is_told_apart(tmp_path):
    made = made_broker.make(tmp_path / "broker")
    with pytest.raises(HostError, match="has no listener for shared keys: dormouse broker init --psk") as caught:
        credentials.provision(made, "dev", tmp_path, psk=True)
    assert caught.value.code == 2
    assert not (tmp_path / "devices" / "dev").exists()
    with pytest.raises(HostError, match="use --cert or --psk, not both"):
        credentials.provision(made, "dev", tmp_path, psk=True, cert=True)
