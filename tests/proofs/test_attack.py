"""A sample of the attacks of `make attack` is repelled; and each kind of them gets in where its door is left open."""

import sys

import pytest
from cryptography import x509

from dormouse.signing import Signer
from dormouse_host import address, files, places
from dormouse_host.broker import authority
from dormouse_host.ledger import schema
from proofs.attack import ATTACKS, commands, credentials, encryption, fleet, floods, folders, strangers, texts
from proofs.attack.__main__ import GROUPS, WITHOUT_LEDGER
from proofs.attack.testbed import Testbed
from support.another_user import needs_root
from support.device_folder import Device
from support.postgresql import PostgreSQL, need_postgresql
from support.sampling import some


@pytest.fixture(scope="module")
def testbed():
    with Testbed() as made:
        yield made


@pytest.fixture(scope="module")
def on_postgresql():
    with PostgreSQL(need_postgresql()) as server, Testbed(server.url) as made:
        yield made


@pytest.mark.parametrize("one", some(ATTACKS, 6, "attack"), ids=[one.name for one in ATTACKS])
def test_attack_is_repelled(testbed, one):
    outcome = one.run(testbed)
    assert not outcome.let_in, outcome.seen
    assert outcome.seen.isprintable()


TOUCHING = [one for one in ATTACKS if one.run.__module__ not in {module.__name__ for module in WITHOUT_LEDGER}]


@pytest.mark.parametrize("one", some(TOUCHING, 2, "attack on postgresql"), ids=[one.name for one in TOUCHING])
def test_attack_is_repelled_on_postgresql(on_postgresql, one):
    outcome = one.run(on_postgresql)
    assert not outcome.let_in, outcome.seen
    assert outcome.seen.isprintable()


def test_groups_are_all_there():
    assert {one.run.__module__ for one in ATTACKS} == {module.__name__ for module in GROUPS}


@pytest.mark.proof
def test_a_server_that_is_believed_gets_to_read(testbed):
    """Else the attacks on TLS would prove nothing."""
    assert encryption.right_certificate(testbed).let_in


def test_a_stolen_relay_credential_commands_a_device_without_a_key(testbed, monkeypatch):
    """Else the attacks on signatures would prove nothing."""
    assert credentials.stolen_relay(testbed).let_in

    def unsigned(testbed: Testbed) -> tuple[Device, str, Signer, str]:
        device = testbed.device()
        return (
            device,
            testbed.meet(device),
            Signer("00" * 32, device.config["id"]),
            f"dormouse/{device.config['id']}/down/cmd",
        )

    monkeypatch.setattr(commands, "_victim", unsigned)
    assert commands.try_forged(testbed).let_in


def test_a_broker_without_rights_lets_everybody_in():
    """Else the attacks at the broker would prove nothing."""
    with Testbed(loose=True) as testbed:
        for run in (
            credentials.try_read_commands,
            credentials.try_write_results,
            credentials.try_take_over,
            credentials.try_fence,
            credentials.try_publisher_without_rights,
            fleet.without_rights_or_key,
        ):
            assert run(testbed).let_in, run.__name__


def test_a_secret_in_a_log_is_found(testbed):
    testbed.said.append(f"dormouse: wrong password {next(iter(testbed.secrets))}")
    try:
        assert texts.where(testbed) == ["the relay's password in what was printed"]
    finally:
        testbed.said.pop()


@needs_root
def test_root_that_follows_links_hands_over_the_key(testbed, monkeypatch):
    """Else the attack on the broker's folder would prove nothing."""
    monkeypatch.setattr(places, "_FILE", 0)
    monkeypatch.setattr(places, "_is_plain", lambda at, name, found: True)
    monkeypatch.setattr(files, "_check_target", lambda at, name: None)
    assert folders.try_links(testbed).let_in


def test_names_that_are_not_checked_run_in_a_shell(testbed, monkeypatch):
    """Else the attack on what a shell sources would prove nothing."""
    monkeypatch.setattr(address, "host_name", lambda text: text)
    monkeypatch.setattr(authority, "alternative", lambda text: x509.DNSName("x"))
    monkeypatch.setattr("dormouse_host.broker.access.shlex.quote", lambda text: text)
    assert folders.try_sourced(testbed).let_in


@pytest.mark.proof
def test_a_client_that_keeps_all_is_found(testbed):
    """Else the floods would prove nothing."""
    program = """
import os
from urllib.parse import urlsplit
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
client = paho.Client(CallbackAPIVersion.VERSION2)
client.connect("127.0.0.1", urlsplit(os.environ["DORMOUSE_BROKER"]).port)
client.subscribe("#", 1)
client.loop_forever()
"""
    assert floods.judged(testbed, ["huge"], argv=[sys.executable, "-c", program]).let_in


@pytest.mark.proof
def test_a_relay_that_accepts_all_makes_devices_of_strangers(monkeypatch):
    """Else the attacks by strangers would prove nothing."""
    monkeypatch.setattr(strangers, "COUNT", 1000)
    remove = strangers.remove

    def without_a_trace(testbed: Testbed, name: str) -> None:
        remove(testbed, name)
        with testbed.fleet as fleet, fleet.ledger.database.writing() as connection:
            connection.execute(schema.removed.delete())

    monkeypatch.setattr(strangers, "remove", without_a_trace)
    with Testbed(accept_new=True) as testbed:
        assert strangers.try_strangers(testbed).let_in
        assert strangers.try_removed(testbed).let_in
