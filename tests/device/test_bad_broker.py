"""What the broker may get wrong: each fault is one clear line of the log, within the budget, with its exit code."""

import subprocess

import pytest

from dormouse_host.broker.local import Mosquitto, free_port
from support import peers
from support.device_folder import BUDGET, Device, failed, say
from support.needs import need_mosquitto
from support.peer import CONNECT, Connection, Peer, answers, connack, honest, packet, suback

SILENT = {"budget": 2, "patience": 600}  # for a peer whose answer decides nothing


def waker(folder, interpreter, url: str, **config) -> Device:
    return Device(folder / "device", interpreter, url, **{"budget": BUDGET, **config})


def test_broker_that_is_not_there_is_refused_and_asked_again_later(interpreter, tmp_path):
    """The commonest fault of all."""
    ran = waker(tmp_path, interpreter, f"mqtt://127.0.0.1:{free_port()}").wake()
    error = failed(ran, 1)
    assert (error["kind"], error["stage"], error["why"]) == ("LinkError", "connect", "refused")
    assert ran.one("asleep")["next"] > 1500  # twice 900, less the jitter


def test_broker_whose_name_is_not_known_is_named(interpreter, tmp_path):
    """A typing error looks like this."""
    error = failed(waker(tmp_path, interpreter, "mqtt://no-such-broker.invalid").wake(), 1)
    assert (error["kind"], error["stage"]) == ("LinkError", "dns")
    assert "no-such-broker.invalid" in error["why"]


@pytest.mark.parametrize(
    "refusal, code, kind, words",
    [
        (1, 2, "ConfigError", "MQTT 3.1.1"),
        (2, 2, "ConfigError", "client id"),
        (3, 1, "LinkError", "unavailable"),
        (4, 2, "ConfigError", "wrong user or password"),
        (5, 2, "ConfigError", "not authorised"),
        (6, 1, "ProtocolError", "CONNACK code 6"),
    ],
)
def test_refusal_followed_by_a_reset_names_its_reason(interpreter, tmp_path, refusal, code, kind, words):
    """The flight behind a refused CONNECT is unread, so the broker's close is a RST: CONNACK is read all the same."""

    def script(connection: Connection) -> None:
        connection.next()
        connection.send(connack(refusal))
        connection.reset()

    with Peer(script) as peer:
        error = failed(waker(tmp_path, interpreter, peer.url).wake(), code)
        assert len(peer.connections) == 1
    assert (error["kind"], error["stage"]) == (kind, "connack")
    assert words in error["why"]


def test_refusal_that_a_reset_hid_is_learnt_by_a_connect_alone_in_the_next_wake(interpreter, tmp_path):
    """lwIP reports the reset before it hands over what came before it: a Pico W would never learn why."""

    def hides(connection: Connection) -> None:
        connection.next()
        connection.reset()

    def refuses(connection: Connection) -> None:
        assert [each.kind for each in connection.flight()] == [CONNECT]
        connection.send(connack(4))
        connection.reset()

    def accepts(connection: Connection) -> None:
        assert [each.kind for each in connection.flight()] == [CONNECT]
        connection.send(connack())
        flight = connection.flight()
        connection.send(*answers(flight))
        connection.command(say("after all"))
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(hides, refuses, hides, accepts, honest(present=True)) as peer:
        device = waker(tmp_path, interpreter, peer.url)
        assert "before CONNACK" in failed(device.wake(), 1)["why"]
        assert failed(device.wake(), 2)["why"] == "wrong user or password"
        failed(device.wake(), 1)
        ran = device.wake()
        assert ran.code == 0, ran.output
        assert ran.said == ["after all"]
        assert device.wake().code == 0
        peer.settled()
    assert len(peer.last.chunks[0]) > 100  # in one flight again


def test_wrong_password_is_named_and_no_secret_is_told(interpreter, tmp_path):
    """With a real mosquitto, whose refusal is a CONNACK and a reset."""
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", passwords, "ann", "hunter2"], check=True)
    with Mosquitto(need_mosquitto(), ["allow_anonymous false", f"password_file {passwords}"]) as broker:
        device = waker(tmp_path, interpreter, broker.address.url)
        assert "password" in failed(device.wake(), 2)["why"]
        device.secrets(user="ann", password="letmein")
        ran = device.wake()
        assert "password" in failed(ran, 2)["why"]
        device.secrets(user="ann", password="hunter2")
        good = device.wake()
        assert good.code == 0, good.output
    for each in (ran, good):
        assert "letmein" not in each.output
        assert "hunter2" not in each.output
        assert "ann" not in each.output.replace("cannot", "")


@pytest.mark.parametrize(
    "behaviour, kind, words",
    [
        (peers.closes_at_once, "LinkError", "before CONNACK"),
        (peers.closes_after_connect, "LinkError", "before CONNACK"),
        (peers.speaks_http, "ProtocolError", "captive portal"),
        (peers.speaks_ssh, "ProtocolError", "not an MQTT broker"),
        (peers.stays_silent, "LinkError", "silent for 600 ms"),
        (peers.dies_after_connack, "LinkError", ""),
        (peers.never_acknowledges, "LinkError", ""),
    ],
)
def test_server_that_is_no_good_broker_is_one_clear_line(interpreter, tmp_path, behaviour, kind, words):
    """Whatever listens there: the wake ends in time and says what it met."""
    config = SILENT if behaviour in (peers.stays_silent, peers.dies_after_connack, peers.never_acknowledges) else {}
    with peers.serving(behaviour) as port:
        device = waker(tmp_path, interpreter, f"mqtt://127.0.0.1:{port}", **config)
        error = failed(device.wake(), 1, config.get("budget", BUDGET))
    assert error["kind"] == kind
    assert words in error["why"]


@pytest.mark.parametrize("granted, refused", [(0x80, "the subscription"), (0, "no QoS 1"), (1, "")])
def test_subscription_that_is_refused_is_an_error_and_not_an_empty_queue(interpreter, tmp_path, granted, refused):
    """umqtt.simple was told that all is well: without the subscription every queue looks empty."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.send(connack(), suback(flight[1].pid, granted), *answers(flight[2:]))
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(script) as peer:
        ran = waker(tmp_path, interpreter, peer.url).wake()
    assert ran.code == bool(refused), ran.output
    if refused:
        assert refused in failed(ran, 1)["why"]


@pytest.mark.parametrize(
    "garbage",
    [
        packet(0x30, b""),
        packet(0x32, b"\x00\x01"),
        packet(0x32, b"\xff\xffd"),
        packet(0x32, b"\x00\x01d\x00\x00{}"),
        packet(0x36, b"\x00\x01d\x00\x01{}"),
        packet(0x40, b"\x00"),
        packet(0x90, b"\x00\x01"),
        b"\x32\xff\xff\xff\xff\x7f",
        bytes(range(256)),
    ],
    ids=["empty", "no id", "topic too long", "id 0", "QoS 3", "short PUBACK", "short SUBACK", "length", "noise"],
)
def test_garbage_after_connack_ends_the_connection_and_not_the_wake(interpreter, tmp_path, garbage):
    """A peer that breaks the contract can't be understood any further; a new connection can."""

    def script(connection: Connection) -> None:
        connection.welcome(connection.flight())
        connection.send(garbage)
        connection.listen()

    with Peer(script, honest(say("whole"), present=True)) as peer:
        ran = waker(tmp_path, interpreter, peer.url, patience=2500).wake()
        assert len(peer.connections) == 2
    assert ran.code == 0, ran.output
    assert ran.said == ["whole"]
