"""Relays and users beside the devices: each with a credential of its own, on a real mosquitto."""

import json
import stat
import threading

import pytest
import typer.testing

from dormouse_host.address import BrokerAddress, parse
from dormouse_host.broker import access, credentials, folder
from dormouse_host.broker.client import Publisher
from dormouse_host.broker_check.probe import Client, NoAnswer
from dormouse_host.cli import app
from dormouse_host.errors import HostError
from dormouse_host.ledger.store import Ledger
from dormouse_host.relay.relay import Relay
from dormouse_host.relay.rival import SETTLED
from support import made_broker
from support.relays import WITHIN, Running, until


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = made_broker.make(tmp_path_factory.mktemp("door") / "b")
    with made_broker.MadeBroker(made) as broker:
        yield broker


def run(*words: str) -> str:
    result = typer.testing.CliRunner().invoke(app.app, list(words), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


def of_user(made: folder.BrokerFolder, name: str) -> BrokerAddress:
    said = access.read_environment(made.user_file(name).read_text())
    return parse(said["DORMOUSE_BROKER"], said)


def test_a_second_relay_has_its_own_credential_and_works_beside_the_first(running, tmp_path, where):
    made = running.made
    told = run("broker", "add-relay", "second", "--folder", str(made.path))
    assert told == f"the relay:  set -a; . {made.relay_file('second')}; set +a; dormouse relay --name second\n"
    assert stat.S_IMODE(made.relay_file("second").stat().st_mode) == 0o600
    with (
        Running(where, Of(running.of_relay()), "main"),
        Running(where, Of(running.of_relay("second")), "second") as two,
    ):
        assert two.events == ["started", "shares the devices", "connected"]
        with Ledger(where) as ledger:
            assert [relay.name for relay in ledger.relays() if relay.alive] == ["main", "second"]
    with pytest.raises(HostError, match="relay second has a credential already: it is in .*relay-second.env"):
        access.add_relay(made, "second")
    credential = running.of_relay("second")
    assert access.remove_relay(made, "second")
    with pytest.raises(HostError, match="refused"):
        Publisher(credential).start()
    assert not made.relay_file("second").exists()
    with pytest.raises(HostError, match="relay second has no credential here"):
        access.remove_relay(made, "second")


class Of:
    """A broker as one client sees it."""

    def __init__(self, address: BrokerAddress) -> None:
        self.address = address


def test_two_relays_with_one_credential_are_told_so(running, tmp_path, where):
    """The broker makes the user's name the client id, whatever the relays are called."""
    with Running(where, Of(running.of_relay()), "main") as first:
        until(lambda: first.events[-1] == "connected")
        threading.Event().wait(SETTLED + 0.5)  # the first has had a connection to itself
        second = Relay(Ledger(where), running.of_relay(), "dormouse", "second")
        caught: list[HostError] = []

        def run_second() -> None:
            try:
                second.run()
            except HostError as error:
                caught.append(error)

        thread = threading.Thread(target=run_second, daemon=True)
        thread.start()
        thread.join(3 * WITHIN)
        second.stop()
    assert [str(error) for error in caught] == [
        "another client logs in as dormouse-relay-main: each relay needs a credential of its own: "
        "dormouse broker add-relay"
    ]


def test_a_user_that_may_only_read_hears_everything_and_says_nothing(running, tmp_path):
    made = running.made
    credentials.provision(made, "pump", tmp_path)
    told = run("broker", "add-user", "grafana", "--read-only", "--folder", str(made.path))
    assert told.startswith("grafana reads dormouse/+/up/#: ")
    run("broker", "add-user", "nodered", "--folder", str(made.path))
    with Client(of_user(made, "grafana"), "any") as reader, Client(of_user(made, "nodered"), "any") as sender:
        reader.connect().subscribe("dormouse/+/up/#")
        sender.connect().subscribe("dormouse/+/up/#")
        with Client(device(running, tmp_path), "pump") as pump:
            pump.connect().subscribe("dormouse/pump/down/#")
            for topic in ("dormouse/pump/down/cmd", "dormouse/pump/up/wake", "dormouse/grafana/up/wake"):
                reader.publish(topic, [b"forbidden"])
            reader.rest(0.5)
            sender.publish("dormouse/pump/up/wake", [b"forbidden"])
            sender.publish("dormouse/pump/down/cmd", [b"open"])
            pump.publish("dormouse/pump/up/wake", [b"{}"])
            assert reader.work(lambda: bool(reader.came), 30)
            assert sender.work(lambda: bool(sender.came), 30)
            for client in (reader, sender):
                assert [(m.topic, m.payload) for m in client.came] == [("dormouse/pump/up/wake", b"{}")]
            assert pump.work(lambda: bool(pump.came), 30)
            assert [m.payload for m in pump.came] == [b"open"]
    run("broker", "remove-user", "grafana", "--folder", str(made.path))
    assert not made.user_file("grafana").exists()
    assert "grafana" not in (made.broker / "acl").read_text()


def device(running, tmp_path) -> BrokerAddress:
    said = json.loads((tmp_path / "devices" / "pump" / "secrets.json").read_text())
    return BrokerAddress("127.0.0.1", running.made.ports[0], said["user"], said["password"], True, str(running.made.ca))


def test_no_name_is_given_twice(tmp_path):
    made = made_broker.make(tmp_path / "b")
    credentials.provision(made, "pump", tmp_path)
    credentials.provision(made, "valve", tmp_path, cert=True)
    access.add_user(made, "grafana", read_only=True)
    before = made.passwd.read_bytes(), (made.broker / "acl").read_bytes()
    for name in ("pump", "valve", "grafana"):
        with pytest.raises(HostError, match=f"{name} is taken at this broker"):
            access.add_user(made, name, read_only=True)
    with pytest.raises(HostError, match="has a credential already"):
        credentials.provision(made, "grafana", tmp_path)
    with pytest.raises(HostError, match="dormouse revoke"):
        access.remove_user(made, "pump")
    for name in ("a b", "../x", "#", "dormouse-relay-x"):
        with pytest.raises(HostError):
            access.add_user(made, name, read_only=True)
    assert (made.passwd.read_bytes(), (made.broker / "acl").read_bytes()) == before


def test_a_certificate_that_is_refused_is_told_with_the_ca(running, tmp_path):
    other = made_broker.make(tmp_path / "other")
    at = running.of_relay()
    wrong = BrokerAddress(at.host, at.port, at.user, at.password, True, str(other.ca))
    with pytest.raises(HostError, match=rf"certificate verification failed: .* \(by the CA {other.ca}\)"):
        Publisher(wrong).start()
    system = BrokerAddress(at.host, at.port, at.user, at.password, True)
    with pytest.raises(HostError, match=r"the CAs that this system trusts; DORMOUSE_CA names a broker's own"):
        Publisher(system).start()
    with pytest.raises(NoAnswer, match=str(other.ca)), Client(wrong, "x") as client:
        client.connect()
