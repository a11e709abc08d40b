"""One fixed client id, one session at the broker: what holds them together, and what is said when something does not.

Must stay true: the broker is a real mosquitto wherever it is the broker that decides.
"""

import threading
from contextlib import contextmanager

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from dormouse_host.broker.local import Mosquitto
from support.device_folder import COMES, Device, Host, say
from support.needs import need_mosquitto
from support.peer import Connection, Peer, honest

WITHOUT_FENCE = "topic deny dormouse/dev/down/fence\ntopic readwrite #\n"


def test_second_connect_finds_the_session_that_the_first_made(interpreter, tmp_path, mosquitto):
    """session_present=1 is the broker's word that it queued what was sent meanwhile."""
    device = Device(tmp_path / "device", interpreter, mosquitto.address.url)
    with Host(mosquitto.address) as host:
        assert [device.wake().one("connected")["present"] for _ in range(2)] == [False, True]
        assert host.wait("up/end", 1)["present"] is False
        assert host.wait("up/end", 2)["present"] is True


def test_session_that_the_broker_lost_is_made_whole_in_the_same_flight_and_reported(interpreter, tmp_path, mosquitto):
    """SIGKILL loses mosquitto's sessions: the device subscribes in every flight, and the host learns it."""
    device = Device(tmp_path / "device", interpreter, mosquitto.address.url)
    assert device.wake().code == 0
    mosquitto.stop()
    (mosquitto.folder / "mosquitto.db").unlink()
    mosquitto.start()
    with Host(mosquitto.address) as host:
        host.send(say("to nobody"))
        assert device.wake().said == []
        end = host.wait("up/end")
        assert (end["present"], end["drained"]) == (False, True)
        host.send(say("to the new session"))
        ran = device.wake()
        assert ran.said == ["to the new session"]
        assert host.wait("up/end", 2)["present"] is True


def test_changed_client_id_is_refused_with_the_reason(interpreter, tmp_path):
    """A new id is a new, empty session: what waits for the old one would never come, without a word."""
    with Peer(honest()) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url)
        assert device.wake().code == 0
        device.configure(id="dev2")
        for _ in range(2):
            ran = device.wake()
            assert ran.code == 2
            error = ran.one("error")
            assert error["kind"] == "ConfigError"
            assert error["why"].startswith("the client id changed from dev to dev2: ")
        assert len(peer.connections) == 1
        device.configure(id="dev")
        assert device.wake().code == 0


@contextmanager
def rogue(address, client_id: str):
    """Another client with that id, which comes back at once whenever it is put out."""
    up = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id, clean_session=False, protocol=paho.MQTTv311)
    client.reconnect_delay_set(0.001, 0.001)  # type: ignore[arg-type]  # it takes fractions
    client.on_connect = lambda *_: up.set()
    client.connect(address.host, address.port)
    client.loop_start()
    assert up.wait(COMES)
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def test_two_devices_with_one_id_are_told_so_and_do_not_loop(interpreter, tmp_path):
    """They put each other out at the broker, for ever, and without a word from it (MQTT-3.1.4-2)."""
    rights = tmp_path / "acl"
    rights.write_text(WITHOUT_FENCE)  # so that a wake lasts longer than the other needs to come back
    with Mosquitto(need_mosquitto(), [f"acl_file {rights}"]) as broker, rogue(broker.address, "dev"):
        device = Device(tmp_path / "device", interpreter, broker.address.url)
        ran = device.wake()
        assert ran.code == 1, ran.output
        assert len(ran.all("connected")) == 4  # the last without a fence, which a broker may answer with a cut as well
        error = ran.one("error")
        assert error["kind"] == "LinkError"
        assert error["why"].startswith("another client uses this id")
        again = device.wake()
        assert again.code == 1
        assert again.one("error")["why"].startswith("another client uses this id")
        assert len(again.all("connected")) == 2
        assert again.one("asleep")["next"] > 1.5 * ran.one("asleep")["next"] / (1.05 / 0.95)  # the backoff grows


def test_cut_offs_right_after_connack_count_over_wakes_and_end_with_the_first_good_one(interpreter, tmp_path):
    """One cut in each of three wakes is the same sign as three in one; a wake that drains clears it."""

    def cuts(connection: Connection) -> None:
        connection.welcome(connection.flight(), present=True)

    with Peer(cuts) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url)
        assert "another client" in device.wake().one("error")["why"]
        assert len(peer.connections) == 5  # the last without a publish
        peer.scripts = [honest(present=True)]
        assert device.wake().code == 0
        peer.scripts = [cuts]
        before = len(peer.connections)
        assert "another client" in device.wake().one("error")["why"]
        assert len(peer.connections) == before + 5
