"""The whole way, with a real broker and real devices: each command has one final state, and it is the true one.

Every wake is a process of its own; effects are counted by what the devices' commands logged.
"""

import contextlib
import json
import multiprocessing
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.broker.client import Publisher
from dormouse_host.broker.local import Embedded, LocalBroker, Mosquitto
from dormouse_host.ledger import schema
from dormouse_host.ledger.store import Incoming, Ledger
from dormouse_host.relay.relay import Relay
from support.acceptor import Acceptor
from support.device_folder import APP
from support.needs import need_mosquitto
from support.relays import WITHIN, Running, greet, make_device, say, statuses, until, until_sent, wake

WITH_TELEMETRY = APP + "\n@telemetry()\ndef climate(wake):\n    return {'v': 1}\n"


@pytest.fixture
def db(where):
    return where


@pytest.fixture
def fleet(db):
    with Fleet(db) as opened:
        opened.add("dev")
        yield opened


@pytest.mark.parametrize("kind", ["cpython", "micropython"])
def test_what_was_sent_while_it_slept_is_done_in_order_and_answered(tmp_path, mosquitto, db, fleet, kind):
    """And in quiet operation nothing is published twice."""
    device = make_device(tmp_path, mosquitto, kind)
    with Running(db, mosquitto):
        greet(fleet, device)
        names = say(fleet, "one", "two", "three")
        until_sent(fleet, names)
        assert wake(fleet, device) == ["one", "two", "three"]
        views = [fleet.wait(name, WITHIN) for name in names]
        assert [(view.status, view.value) for view in views] == [
            ("succeeded", {"said": text}) for text in ("one", "two", "three")
        ]
        for _ in range(2):
            assert wake(fleet, device) == []
        assert [fleet.result(name).published for name in names] == [1, 1, 1]


def test_a_first_command_waits_for_the_first_wake(tmp_path, mosquitto, db, fleet):
    """Its id needs the device's state; and it is not published twice for `present: false` of that very wake."""
    device = make_device(tmp_path, mosquitto)
    with Running(db, mosquitto):
        names = say(fleet, "early")
        said = wake(fleet, device)
        until_sent(fleet, names)
        said += wake(fleet, device) + wake(fleet, device)
        assert said == ["early"]
        assert (fleet.wait(names[0], WITHIN).status, fleet.result(names[0]).published) == ("succeeded", 1)


def test_cancelled_and_overdue_commands_do_not_run(tmp_path, mosquitto, db, fleet):
    """Cancelled after the broker has them: the tombstone comes in time. One that is done stays done."""
    device = make_device(tmp_path, mosquitto)
    with Running(db, mosquitto):
        greet(fleet, device)
        kept, dropped = say(fleet, "kept", "dropped")
        (late,) = say(fleet, "late", expires=1)
        until_sent(fleet, [kept, dropped, late])
        fleet.cancel(dropped)
        until(lambda: fleet.result(dropped).published == 2 and fleet.result(late).published == 2)
        until_sent(fleet, [dropped, late])
        assert wake(fleet, device) == ["kept"]
        assert [fleet.wait(name, WITHIN).status for name in (kept, dropped, late)] == [
            "succeeded",
            "cancelled",
            "expired",
        ]
        assert fleet.cancel(kept).status == "succeeded"


def test_what_a_full_broker_dropped_after_its_puback_is_published_again(tmp_path, db, fleet):
    """mosquitto acknowledges what is above its limit and drops it: the device's end record shows what is missing."""
    with Mosquitto(need_mosquitto(), ["max_queued_messages 5", "max_inflight_messages 5"]) as broker:
        device = make_device(tmp_path, broker)
        with Running(db, broker):
            greet(fleet, device)
            texts = [f"m{n}" for n in range(24)]
            names = say(fleet, *texts)
            until_sent(fleet, names)
            said, before = [], 0
            for _ in range(8):
                said += wake(fleet, device)
                until(lambda: not {"publishing", "queued"} & set(statuses(fleet, names)))
                until(lambda: all(fleet.result(name).final or fleet.result(name).status == "sent" for name in names))
                most = max(fleet.result(name).published for name in names)
                assert most <= before + 2, "at most once per wake"
                before = most
                if len(said) == len(texts):
                    break
            assert sorted(said) == sorted(texts)
            assert [fleet.wait(name, WITHIN).status for name in names] == ["succeeded"] * len(names)


def test_a_broker_that_forgot_everything_is_given_the_commands_again(tmp_path, mosquitto, db, fleet):
    """The device's next wake says that it found no session."""
    device = make_device(tmp_path, mosquitto)
    with Running(db, mosquitto) as running:
        greet(fleet, device)
        names = say(fleet, "one", "two")
        until_sent(fleet, names)
        mosquitto.stop()
        for file in mosquitto.folder.glob("*.db"):
            file.unlink()
        mosquitto.start()
        until(lambda: running.events.count("connected") == 2)
        assert wake(fleet, device) == []
        until(lambda: [fleet.result(name).published for name in names] == [2, 2])
        until_sent(fleet, names)
        assert wake(fleet, device) == ["one", "two"]
        assert [fleet.wait(name, WITHIN).status for name in names] == ["succeeded"] * 2


def test_a_wiped_device_runs_nothing_that_was_meant_for_the_old_one(tmp_path, mosquitto, db, fleet):
    device = make_device(tmp_path, mosquitto)
    with Running(db, mosquitto):
        greet(fleet, device)
        names = say(fleet, "old")
        until_sent(fleet, names)
        shutil.rmtree(device.folder / "state")
        assert wake(fleet, device) == []
        assert statuses(fleet, names) == ["unknown"]
        again = say(fleet, "new")
        until_sent(fleet, again)
        assert wake(fleet, device) == ["new"]
        assert (fleet.wait(again[0], WITHIN).status, fleet.result(names[0]).published) == ("succeeded", 1)


def test_a_ledger_restored_from_a_backup_takes_a_new_name_and_runs_nothing_twice(
    tmp_path, mosquitto, db, fleet, backup
):
    """It gives a number again that the device knows: the answer's CRC shows it, and nothing is believed."""
    device = make_device(tmp_path, mosquitto)
    with Running(db, mosquitto):
        greet(fleet, device)
    copy = backup()
    with Running(db, mosquitto):
        names = say(fleet, "one")
        until_sent(fleet, names)
        assert wake(fleet, device) == ["one"]
        assert fleet.wait(names[0], WITHIN).status == "succeeded"
    with Fleet(copy) as old:
        before = old.ledger.name("dev")
        with Running(copy, mosquitto):
            taken = say(old, "other")
            until_sent(old, taken)
            assert wake(old, device) == []
            assert old.wait(taken[0], WITHIN).status == "rejected"
            assert old.ledger.name("dev") != before
            fresh = say(old, "fresh")
            until_sent(old, fresh)
            assert wake(old, device) == ["fresh"]
            assert old.wait(fresh[0], WITHIN).status == "succeeded"


def test_a_ledger_put_back_takes_its_new_name_before_anything_is_published(tmp_path, mosquitto, db, fleet, backup):
    """The device's retained report shows numbers that this copy never gave; a command was waiting in it."""
    device = make_device(tmp_path, mosquitto)
    with Running(db, mosquitto):
        greet(fleet, device)
    say(fleet, "waits")
    copy = backup()
    with Running(db, mosquitto):
        names = say(fleet, "one", "two")
        until_sent(fleet, names)
        assert wake(fleet, device) == ["waits", "one", "two"]
        device.wake()  # its report repeats the windows at the end of that wake
    with Fleet(copy) as old, Running(copy, mosquitto):
        rows = "SELECT max(since), (SELECT min(at) FROM command_events WHERE status = 'publishing') FROM ledger_names"

        def times() -> tuple[float, float | None]:
            with old.ledger.database.reading() as connection:
                named, published = connection.exec_driver_sql(rows).one()
            return named, published

        until(lambda: times()[1] is not None)
        named, published = times()
        assert published is not None
        assert named < published
        assert wake(old, device) == []


class Slow:
    """Lies before a broker, and lets what it publishes wait for a while after its other packets."""

    def __init__(self, broker: LocalBroker, seconds: float) -> None:
        self._broker, self._seconds = broker.address, seconds
        self._acceptor = Acceptor(self._serve)
        self.address = replace(broker.address, port=self._acceptor.port)
        self._acceptor.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection((self._broker.host, self._broker.port)) as broker:
            threading.Thread(target=self._up, args=(client, broker), daemon=True).start()
            packets = broker.makefile("rb")
            while first := packets.read(1):
                length = packets.read(1)
                assert length[0] < 128, "short ones only"
                if first[0] >> 4 == 3:
                    time.sleep(self._seconds)
                client.sendall(first + length + packets.read(length[0]))

    def _up(self, client: socket.socket, broker: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(4096):
                broker.sendall(data)
            broker.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._acceptor.end()


def test_a_slow_broker_is_given_time_to_say_what_it_kept(mosquitto, db, fleet):
    """Its retained report shows that this ledger is an older copy: nothing goes out under its old name before."""
    fleet.ledger.take([Incoming("dev", protocol.WAKE, b'{"wake":1,"state":"s1"}')], None)
    say(fleet, "waits")
    before = str(fleet.ledger.name("dev"))
    report = {"wake": 2, "state": "s1", "end": {"wake": 1, "state": "s1", "windows": {before: [9, "s8"]}}}
    with Publisher(mosquitto.address) as publisher:
        publisher.publish(protocol.topic("dormouse", "dev", protocol.WAKE), [json.dumps(report).encode()], retain=True)
    slow = Slow(mosquitto, 0.3)
    try:
        with Running(db, slow):
            until(lambda: "queued" not in fleet.ledger.counts())
    finally:
        slow.stop()
    with fleet.ledger.database.reading() as connection:
        named = connection.execute(select(func.max(schema.ledger_names.c.since))).scalar()
        published = connection.execute(select(func.min(schema.command_events.c.at))).scalar()
    assert fleet.ledger.name("dev") != before
    assert named < published


def test_telemetry_that_nobody_heard_is_asked_for_and_stored_once(tmp_path, mosquitto, db, fleet):
    """Before the relay's first connection the broker acknowledges records and throws them away."""
    device = make_device(tmp_path, mosquitto, app=WITH_TELEMETRY)
    for _ in range(3):
        device.wake()
    with Running(db, mosquitto):
        for _ in range(5):
            wake(fleet, device)
            until(lambda: not {"queued", "publishing"} & set(fleet.ledger.counts()))  # what the next wake is to find
        until(lambda: len(list(fleet.export("telemetry"))) == 8)
        numbers = [row["number"] for row in fleet.export("telemetry")]
        assert sorted(numbers) == list(range(1, 9))
        assert set(fleet.ledger.counts()) == {"succeeded"}
        assert fleet.status("dev")[0].dropped == 0


def test_a_broker_that_knows_no_mqtt_5_gets_3_1_1(db):
    """amqtt does not even answer a CONNECT of version 5."""
    with Embedded() as broker, Running(db, broker) as running:
        assert running.events.count("disconnected") == 1


def test_a_relay_stops_on_sigterm_and_says_so(tmp_path, mosquitto, db):
    argv = [sys.executable, "-m", "dormouse_host.cli", "relay", "--json", "--name", "test", "--db", db]
    child = subprocess.Popen([*argv, "--broker", mosquitto.address.url], stderr=subprocess.PIPE, text=True)
    assert child.stderr
    assert any(json.loads(line)["event"] == "connected" for line in child.stderr)
    child.send_signal(signal.SIGTERM)
    errors = child.stderr.read()
    child.wait(WITHIN)
    assert child.returncode == 0, errors
    assert json.loads(errors.splitlines()[-1])["event"] == "stopped"


FORK = multiprocessing.get_context("fork")  # starts in no time, so that the kill hits the work and not the imports


def relay_until_killed(db: str, broker: Mosquitto) -> None:
    Relay(Ledger(db), broker.address, "dormouse", "test").run()


def test_a_relay_killed_at_random_points_loses_and_doubles_nothing(tmp_path, mosquitto, db, fleet):
    """Ten kills while commands go out and answers come in."""
    dice = random.Random(7)
    device = make_device(tmp_path, mosquitto)
    with Running(db, mosquitto):
        greet(fleet, device)
    names, texts, said = [], [], []
    for turn in range(10):
        more = [f"t{turn}.{n}" for n in range(4)]
        names += say(fleet, *more)
        texts += more
        child = FORK.Process(target=relay_until_killed, args=(db, mosquitto))
        child.start()
        time.sleep(dice.uniform(0, 0.3))
        with device.start() as process:
            time.sleep(dice.uniform(0, 0.3))
            child.kill()
            said += process.end().said
        child.join()
    with Running(db, mosquitto):
        deadline = (
            time.monotonic() + 60
        )  # what the broker kept is taken in first, and wakes without a pause look like it
        while time.monotonic() < deadline and not all(fleet.result(name).final for name in names):
            said += wake(fleet, device)
        assert statuses(fleet, names) == ["succeeded"] * len(names)
    assert sorted(said) == sorted(texts)
