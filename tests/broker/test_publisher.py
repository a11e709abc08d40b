"""The publisher against brokers good and bad: what it returned from is acknowledged, and every wait ends."""

import socket
import subprocess
import threading
import time

import pytest

from dormouse_host import Fleet
from dormouse_host.address import BrokerAddress
from dormouse_host.broker import client as publisher
from dormouse_host.broker.client import Publisher
from dormouse_host.broker.local import Mosquitto, free_port
from dormouse_host.errors import HostError
from support import peers
from support.needs import need_mosquitto


def impatient(monkeypatch, behaviour=peers.stays_silent):
    """The same waits for a peer that says nothing, shorter: their length is not what is tested here."""
    if behaviour is peers.stays_silent:
        monkeypatch.setattr(publisher, "_CONNECT_WITHIN", 0.5)
    if behaviour is peers.never_acknowledges:
        monkeypatch.setattr(publisher, "_SILENCE", 0.5)


@pytest.mark.parametrize(
    "behaviour, words",
    [
        (peers.closes_at_once, "closed the connection without an answer"),
        (peers.closes_after_connect, "closed the connection without an answer"),
        (peers.speaks_http, "not an MQTT broker, its answer begins with 'HTTP/1.1 400"),
        (peers.speaks_ssh, "not an MQTT broker, its answer begins with 'SSH-2.0"),
        (peers.stays_silent, "does not answer CONNECT"),
    ],
)
def test_peer_that_is_no_broker_is_named_in_one_line(behaviour, words, monkeypatch):
    impatient(monkeypatch, behaviour)
    with (
        peers.serving(behaviour) as port,
        pytest.raises(HostError) as caught,
        Publisher(BrokerAddress("127.0.0.1", port)),
    ):
        pass
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.code == 1


def test_refused_connection_says_so():
    with pytest.raises(HostError, match="Connection refused"), Publisher(BrokerAddress("127.0.0.1", free_port())):
        pass


def test_unknown_name_is_a_mistake_of_the_caller():
    """`.invalid` never resolves (RFC 6761)."""
    with pytest.raises(HostError, match="cannot be resolved"), Publisher(BrokerAddress("no-such-broker.invalid")):
        pass
    with pytest.raises(HostError, match="cannot be resolved"), Publisher(BrokerAddress("x" * 64)):
        pass


def test_resolver_that_hangs_is_not_waited_for(monkeypatch):
    """getaddrinfo takes no deadline; with a dead name server it blocks for 20 seconds and more."""
    impatient(monkeypatch)
    over = threading.Event()

    def hang(*_):
        over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no name server answered")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = time.monotonic()
    with pytest.raises(HostError, match="no answer"), Publisher(BrokerAddress("broker.example")):
        pass
    assert time.monotonic() - began < 30
    over.set()


@pytest.mark.parametrize(
    "behaviour, words",
    [(peers.dies_after_connack, "the connection was lost"), (peers.never_acknowledges, "no PUBACK for")],
)
def test_missing_puback_is_an_error_that_counts(behaviour, words, monkeypatch):
    """A publisher that believed what it wrote to be sent would blame the device for what never left."""
    impatient(monkeypatch, behaviour)
    with peers.serving(behaviour) as port, Publisher(BrokerAddress("127.0.0.1", port)) as client:
        with pytest.raises(HostError, match=words) as caught:
            client.publish("t", [b"1", b"2"])
        assert "0 of 2" in str(caught.value)


@pytest.fixture(scope="module")
def guarded_broker(tmp_path_factory):
    """A mosquitto that wants user `ann` with password `right`."""
    passwords = tmp_path_factory.mktemp("broker") / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", passwords, "ann", "right"], check=True)
    with Mosquitto(need_mosquitto(), ["allow_anonymous false", f"password_file {passwords}"]) as broker:
        yield broker.address


@pytest.mark.parametrize(
    "user, password, words",
    [("ann", "wrong-one", "user 'ann' or the password is wrong"), (None, None, "it requires user and password")],
)
def test_refused_credentials_are_named_without_the_password(guarded_broker, user, password, words):
    address = BrokerAddress(guarded_broker.host, guarded_broker.port, user, password)
    with pytest.raises(HostError, match=words) as caught, Publisher(address):
        pass
    assert caught.value.code == 2
    assert "wrong-one" not in str(caught.value)


def test_a_relay_that_is_refused_says_what_to_do_as_the_publisher_does(guarded_broker, tmp_path):
    address = BrokerAddress(guarded_broker.host, guarded_broker.port, "ann", "wrong-one")
    with Fleet(str(tmp_path / "ledger.db")) as fleet, pytest.raises(HostError) as caught:
        fleet.relay(address, "main").run()
    assert caught.value.code == 2
    why = "user 'ann' or the password is wrong: set MQTT_PASSWORD, as relay-NAME.env of broker init does"
    assert str(caught.value) == f"broker {address}: connection refused: Not authorized; {why}"


def test_right_credentials_are_let_in(guarded_broker):
    with Publisher(BrokerAddress(guarded_broker.host, guarded_broker.port, "ann", "right")) as client:
        assert client.publish("t", [b"1"]) == 1


@pytest.mark.parametrize("qos", [0, 1])
def test_many_messages_are_all_published(mosquitto, qos):
    with Publisher(mosquitto.address) as client:
        assert client.publish("t", (b"%d" % n for n in range(1000)), qos) == 1000
        assert client.publish("t", [], qos) == 0


def test_a_signal_in_the_middle_of_connecting_is_the_end_and_no_other_error(monkeypatch):
    """paho's thread is made by then, and not started: there is nothing to join."""

    start = threading.Thread.start

    def cut(thread: threading.Thread) -> None:
        if thread.name.startswith("paho"):
            raise SystemExit(143)
        start(thread)

    with Mosquitto(need_mosquitto()) as broker:
        monkeypatch.setattr(threading.Thread, "start", cut)
        with pytest.raises(SystemExit, match="143"), Publisher(broker.address):
            pass
