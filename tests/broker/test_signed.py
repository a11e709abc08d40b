"""Signed commands the whole way: ledger, relay, broker, device; what a stranger sends is not done and not believed."""

import hashlib
import hmac
import json
import secrets
import subprocess
import sys
from binascii import crc32

import pytest
import sqlalchemy as sa

from dormouse import protocol
from dormouse.signing import Signer
from dormouse_host import Fleet
from dormouse_host.broker.client import Publisher
from dormouse_host.broker.local import Mosquitto
from dormouse_host.ledger import keys, schema
from dormouse_host.ledger.store import Incoming
from support.device_folder import APP, Device, command
from support.needs import need_mosquitto
from support.relays import Running, until

KEY = "5a" * 32


def test_signature_is_what_any_hmac_library_makes():
    for size in (0, 1, 55, 56, 63, 64, 65, 1000):
        key, data = secrets.token_bytes(32), secrets.token_bytes(size)
        wanted = hmac.new(key, b"dev/up/wake\n" + data, hashlib.sha256).hexdigest().encode()
        assert Signer(key.hex(), "dev").sign(protocol.WAKE, data) == data + b"\n" + wanted


@pytest.fixture
def fleet(where):
    with Fleet(where) as opened:
        opened.add("dev", "other")
        yield opened


def report(state: str = "s1", wake: int = 1) -> bytes:
    return json.dumps({"wake": wake, "state": state, "next": 900}).encode()


def take(fleet: Fleet, payload: bytes, device: str = "dev") -> list[str]:
    wrong: list[str] = fleet.ledger.take([Incoming(device, "up/wake", payload)], "x")
    return wrong


def test_key_counts_once_the_device_has_signed_with_it_and_then_for_good(fleet):
    """So that a key may be given before the device is flashed, and that no stranger can talk the ledger out of it."""
    fleet.ledger.set_key("dev", KEY)
    assert take(fleet, report()) == []
    fleet.send("dev", "ping")
    fleet.ledger.register("r")
    [before] = fleet.ledger.claim("r", "x", 10)
    assert json.loads(before.payload)["do"] == "ping"
    assert take(fleet, Signer(KEY, "dev").sign(protocol.WAKE, report(wake=2))) == []
    fleet.send("dev", "ping")
    [after] = fleet.ledger.claim("r", "x", 10)
    assert json.loads(Signer(KEY, "dev").check(protocol.CMD, after.payload))["do"] == "ping"
    for wrong in (report(wake=3), Signer("00" * 32, "dev").sign(protocol.WAKE, report(wake=3)), b""):
        assert take(fleet, wrong) == ["dev/up/wake: not signed with this device's key"]
    assert fleet.status("dev")[0].report["wake"] == 2


def test_a_key_that_was_replaced_meanwhile_proves_nothing_for_the_new_one(fleet):
    """A relay has checked a message with the old key, and writes down what it has learned after the new one came."""
    fleet.ledger.set_key("dev", KEY)
    with fleet.ledger.database.reading() as connection:
        seen = keys.Signatures(connection, ["dev"])
    seen.checked("dev", protocol.WAKE, Signer(KEY, "dev").sign(protocol.WAKE, report()))
    fleet.ledger.set_key("dev", "77" * 32)
    with fleet.ledger.database.writing() as connection:
        seen.save(connection)
        assert not connection.execute(sa.select(schema.keys.c.proven)).scalar()


def test_one_devices_signature_is_not_anothers(fleet):
    fleet.ledger.set_key("dev", KEY)
    fleet.ledger.set_key("other", "77" * 32)
    take(fleet, Signer("77" * 32, "other").sign(protocol.WAKE, report()), "other")
    assert take(fleet, Signer(KEY, "dev").sign(protocol.WAKE, report(wake=2)), "other") != []
    assert fleet.status("other")[0].report["wake"] == 1


def test_tombstones_are_signed_too_and_answers_still_fit_the_command(fleet):
    """Its CRC is that of the JSON, which the device reckons as well."""
    fleet.ledger.set_key("dev", KEY)
    take(fleet, Signer(KEY, "dev").sign(protocol.WAKE, report()))
    sent = fleet.send("dev", "ping")
    fleet.ledger.register("r")
    [first] = fleet.ledger.claim("r", "x", 10)
    fleet.cancel(sent.name)
    [tombstone] = fleet.ledger.claim("r", "x", 10)
    said = Signer(KEY, "dev").check(protocol.CMD, tombstone.payload)
    assert json.loads(said)["void"] == "cancelled"
    answer = [
        {
            "status": "succeeded",
            "crc": crc32(Signer(KEY, "dev").check(protocol.CMD, first.payload)),
            "id": json.loads(said)["id"],
        }
    ]
    signed = Signer(KEY, "dev").sign(protocol.RESULT, json.dumps(answer).encode())
    assert fleet.ledger.take([Incoming("dev", "up/result", signed)], "x") == []
    assert fleet.result(sent.name).status == "succeeded"


def test_key_is_in_no_view_and_ends_with_the_device(fleet, tmp_path):
    fleet.ledger.set_key("dev", KEY)
    assert KEY not in repr(fleet.status("dev")) + repr(fleet.log("dev"))
    fleet.remove("dev", None)
    with fleet.ledger.database.reading() as c:
        assert c.execute(sa.select(schema.keys.c.device)).all() == []


def test_command_writes_the_key_where_flash_finds_it(tmp_path):
    run = [sys.executable, "-m", "dormouse_host.cli", "sign", "dev", "--db", str(tmp_path / "l.db")]
    Fleet(str(tmp_path / "l.db")).close()
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    key = json.loads((tmp_path / "devices" / "dev" / "secrets.json").read_text())["command_key"]
    assert len(bytes.fromhex(key)) == 32
    assert key not in done.stdout + done.stderr
    with Fleet(str(tmp_path / "l.db")) as fleet, fleet.ledger.database.reading() as c:
        assert c.execute(sa.select(schema.keys.c.key)).scalar() == key


def test_device_with_a_key_does_what_its_ledger_says_and_nothing_else(tmp_path, interpreter, fleet, where):
    fleet.ledger.set_key("dev", KEY)
    with Mosquitto(need_mosquitto()) as broker, Running(where, broker) as relay:
        device = Device(tmp_path / "dev", interpreter, broker.address.url, app=APP)
        device.secrets(command_key=KEY)
        device.wake()
        until(lambda: fleet.status("dev")[0].state)
        state = fleet.status("dev")[0].state
        sent = fleet.send("dev", "say", {"text": "true"})
        until(lambda: fleet.result(sent.name).status == "sent")
        strangers = [
            command(state, 1, "say", text="forged"),
            command(None, 0, "say", text="nameless"),
            Signer("00" * 32, "dev").sign(protocol.CMD, command(state, 2, "say", text="wrong key")),
            Signer(KEY, "dev").sign(protocol.CMD, command(state, 2, "say", text="cut"))[:-1],
            Signer(KEY, "dev").sign(protocol.CMD, b'{"do":"say","args":{"text":"no id"}}'),
        ]
        with Publisher(broker.address) as stranger:
            stranger.publish("dormouse/dev/down/cmd", strangers)
        woken = device.wake()
        assert woken.said == ["true"]
        assert len(woken.all("refused")) == len(strangers)
        until(lambda: fleet.result(sent.name).final)
        assert fleet.result(sent.name).value == {"said": "true"}
        with Publisher(broker.address) as stranger:
            stranger.publish("dormouse/dev/up/wake", [report(state, 99)])
        device.wake()
        until(lambda: fleet.status("dev")[0].report.get("refused") == len(strangers))
        assert fleet.status("dev")[0].report["signed"] is True
        assert fleet.status("dev")[0].report["wake"] == 3
        assert "not understood" in relay.events
