"""A relay ends for another one of its name and for nothing else; what no broker should forward does not end it."""

import json
import socket
import threading
import time

import pytest
from sqlalchemy import text

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.broker.client import Publisher
from dormouse_host.broker.local import LocalBroker, Mosquitto
from dormouse_host.errors import HostError
from dormouse_host.ledger.database import Database
from dormouse_host.ledger.store import Ledger
from dormouse_host.relay import relay
from dormouse_host.relay.relay import Relay
from dormouse_host.relay.rival import SETTLED
from support.brokers import Nats
from support.needs import need_mosquitto
from support.relays import WITHIN, Running, until


@pytest.fixture
def db(where):
    return where


def report(broker: LocalBroker, wake: int = 1) -> None:
    """A wake report of `dev`, retained."""
    said = json.dumps({"wake": wake, "state": "s1"}).encode()
    with Publisher(broker.address) as publisher:
        publisher.publish(protocol.topic("dormouse", "dev", protocol.WAKE), [said], retain=True)


def test_the_later_of_two_relays_of_one_name_with_two_ledgers_gives_up(tmp_path, mosquitto, db):
    """mosquitto 2.0 closes the session that is taken over without a word, and each would take it back for ever."""
    caught: list[HostError] = []
    with Running(db, mosquitto) as first:
        began = time.monotonic()
        until(lambda: time.monotonic() - began > SETTLED + 0.5)  # the first has had a connection to itself
        assert first.events == ["started", "connected"]
        second = Relay(Ledger(str(tmp_path / "other.db")), mosquitto.address, "dormouse", "test")

        def run() -> None:
            try:
                second.run()
            except HostError as error:
                caught.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(3 * WITHIN)
        second.stop()
        assert [error.code for error in caught] == [2]
        assert "another client called dormouse-relay-test" in str(caught[0])
        # it was the first that ended the second's last connection, and it stays
        until(lambda: first.events.count("connected") == first.events.count("disconnected") + 1)
        said = len(first.events)
        time.sleep(2)
        assert first.thread.is_alive()
        assert first.events[said:] == []
    with Ledger(str(tmp_path / "other.db")) as other:
        assert other.relays() == [], "the second's name is free again"


FULL = {  # no report can be stored, and again it can
    "sqlite": (
        "CREATE TRIGGER t BEFORE INSERT ON reports BEGIN SELECT raise(abort, 'disk I/O error'); END",
        "DROP TRIGGER t",
    ),
    "postgresql": (
        "ALTER TABLE reports ADD CONSTRAINT t CHECK (false) NOT VALID",
        "ALTER TABLE reports DROP CONSTRAINT t",
    ),
}


def test_a_ledger_that_cannot_store_is_no_other_relay(mosquitto, db):
    """Each connection ends at once, for what is retained can't be stored; when it can be, it is."""
    with Fleet(db) as fleet:
        fleet.add("dev")
        full, emptied = FULL[fleet.ledger.database.engine.dialect.name]
    report(mosquitto)
    with Database(db).writing() as connection:
        connection.execute(text(full))
    with Running(db, mosquitto) as running:
        until(lambda: running.events.count("disconnected") == 3)
        assert running.events.count("connected") == 3
        with Database(db).writing() as connection:
            connection.execute(text(emptied))
        with Fleet(db) as fleet:
            until(lambda: fleet.status("dev")[0].state == "s1")


def test_a_broker_that_restarts_again_and_again_is_no_other_relay(mosquitto, db):
    """Each time before a connection is old enough to be certain of."""
    with Running(db, mosquitto) as running:
        for turn in range(1, 4):
            until(lambda turn=turn: running.events.count("connected") == turn)
            mosquitto.stop()
            mosquitto.start()
        until(lambda: running.events.count("connected") == 4)
        assert "another client may use this name" not in running.events


def test_a_relay_whose_broker_is_away_keeps_its_name(mosquitto, db, monkeypatch):
    """However long: else a second one could take the name, and the session from the first when that comes back."""
    monkeypatch.setattr(relay, "ALIVE", 0.3)  # and with it the signs of life, three of them in that time
    with Fleet(db) as fleet, Running(db, mosquitto) as running:
        mosquitto.stop()
        until(lambda: "disconnected" in running.events)
        for _ in range(3):
            (before,) = fleet.relays()
            until(lambda before=before: fleet.relays()[0].until > before.until)
        mosquitto.start()
        until(lambda: running.events.count("connected") == 2)


def test_a_relay_with_refused_credentials_ends_and_leaves_its_name_free(db):
    with Mosquitto(need_mosquitto(), ["allow_anonymous false"]) as broker, Ledger(db) as ledger:
        with pytest.raises(HostError, match="refused") as caught:
            Relay(ledger, broker.address, "dormouse", "test").run()
        assert caught.value.code == 2
        assert ledger.relays() == []


def publish_raw(broker: LocalBroker, topic: bytes) -> None:
    """At QoS 1, under a topic that no client library would send; acknowledged when this returns."""
    body = len(topic).to_bytes(2, "big") + topic + b"\0\x01x"
    with socket.create_connection((broker.address.host, broker.address.port), WITHIN) as peer:
        peer.settimeout(WITHIN)
        answers = peer.makefile("rb")
        peer.sendall(b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03raw")
        assert answers.read(4)[3] == 0
        peer.sendall(b"\x32" + bytes([len(body)]) + body)
        assert answers.read(4) == b"\x40\x02\0\x01"


def test_a_topic_that_is_not_utf_8_is_not_understood_and_does_not_come_again(db):
    """NATS forwards it. What comes after it is stored, and it was acknowledged: the next connection does not get it."""
    with Nats() as broker, Fleet(db) as fleet:
        fleet.add("dev")
        for wake, times in ((1, 1), (2, 0)):
            with Running(db, broker) as running:
                if times:
                    publish_raw(broker, b"dormouse/dev/up/\xff\xfe")
                report(broker, wake)
                until(lambda wake=wake: fleet.status("dev")[0].report.get("wake") == wake)
                until(lambda running=running, times=times: running.events.count("not understood") == times)
