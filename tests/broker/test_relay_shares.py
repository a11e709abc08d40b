"""Several relays on one ledger: each stores its share of what devices say, and nothing is lost with one of them."""

import json
import multiprocessing
import os
import signal
import threading
from binascii import crc32
from collections import defaultdict

import pytest
from sqlalchemy import func, select

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.broker.client import Publisher
from dormouse_host.ledger import outbound, schema
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.outbound import Ack
from dormouse_host.ledger.store import Incoming, Ledger
from dormouse_host.relay import relay as loop
from dormouse_host.relay.connection import Connection
from support.relays import WITHIN, Running, until

FORK = multiprocessing.get_context("fork")  # starts in no time, so that the kill hits the work and not the imports
NAMES = [f"dev{at}" for at in range(60)]
RECORDS = 3  # messages of telemetry from each device


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """A relay gives a sign of life, and looks for others, every third of a second; one that hangs counts as alive."""
    monkeypatch.setattr(loop, "ALIVE", 1.0)
    monkeypatch.setattr(outbound, "ALIVE", 300.0)


@pytest.fixture
def fleet(where):
    with Fleet(where) as opened:
        opened.add(*NAMES)
        yield opened


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def say(fleet: Fleet) -> list[tuple[str, bytes]]:
    """A command of each device that is out, and what the devices say of it: topic and payload."""
    ledger = fleet.ledger
    report = {"wake": 1, "state": "s1", "next": 900}
    ledger.take([Incoming(name, protocol.WAKE, text(report)) for name in NAMES], "c1")
    ledger.enter([Order(name, "say") for name in NAMES])
    outgoing = ledger.claim("before", "c1", len(NAMES))
    ledger.acknowledged([Ack(one.key, one.times, True) for one in outgoing])
    said: list[tuple[str, str, object]] = []
    for one in outgoing:
        answer = {"id": json.loads(one.payload)["id"], "status": "succeeded", "crc": crc32(one.payload), "value": 1}
        windows = {protocol.split_id(answer["id"])[1]: [1, "s"]}
        end = {"wake": 2, "state": "s1", "present": True, "drained": True, "windows": windows}
        said.append((one.device, protocol.WAKE, {**report, "wake": 2}))
        for at in range(1, RECORDS + 1):
            said.append((one.device, protocol.TELEMETRY, {"state": "s1", "records": [[at, -5, {"t": at}]]}))
        said += [(one.device, protocol.RESULT, [answer]), (one.device, protocol.END, end)]
    return [(protocol.topic("dormouse", device, leaf), text(value)) for device, leaf, value in said]


def publish(broker, said: list[tuple[str, bytes]]) -> None:
    with Publisher(broker.address) as publisher:
        for topic, payload in said:
            publisher.publish(topic, [payload])


def is_whole(fleet: Fleet) -> bool:
    """Has everything come?"""
    counts = fleet.ledger.counts()
    return counts.get("succeeded") == len(NAMES) and rows(fleet, schema.telemetry) == RECORDS * len(NAMES)


def rows(fleet: Fleet, table) -> int:
    with fleet.ledger.database.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar() or 0


def check_once(fleet: Fleet) -> None:
    """Nothing is there twice."""
    assert rows(fleet, schema.results) == len(NAMES)
    assert rows(fleet, schema.telemetry) == RECORDS * len(NAMES)
    assert rows(fleet, schema.ends) == len(NAMES)
    assert rows(fleet, schema.reports) == 2 * len(NAMES)
    told = schema.command_events.c
    with fleet.ledger.database.reading() as connection:
        often = select(told.command).where(told.status == "succeeded").group_by(told.command).having(func.count() > 1)
        assert connection.execute(often).all() == []


def together(*running: Running) -> None:
    """Each knows of the other."""
    until(lambda: all("shares the devices" in one.events for one in running))


def test_each_relay_stores_its_share_and_acknowledges_everything(fleet, where, mosquitto, monkeypatch):
    taken: dict[int | None, set[str]] = defaultdict(set)
    confirmed: dict[int | None, int] = defaultdict(int)
    take, confirm = Ledger.take, Connection.confirm

    def recorded_take(ledger, incoming, *more, **how):
        taken[threading.get_ident()].update(message.device for message in incoming)
        return take(ledger, incoming, *more, **how)

    def recorded_confirm(connection, mids):
        every = list(mids)
        confirmed[threading.get_ident()] += len(every)
        confirm(connection, every)

    said = say(fleet)
    monkeypatch.setattr(Ledger, "take", recorded_take)
    monkeypatch.setattr(Connection, "confirm", recorded_confirm)
    with Running(where, mosquitto, "one") as one, Running(where, mosquitto, "two") as two:
        together(one, two)
        publish(mosquitto, said)
        until(lambda: is_whole(fleet))
        shares = [taken[relay.thread.ident] for relay in (one, two)]
        assert set.union(*shares) == set(NAMES)
        assert set.intersection(*shares) == set()
        until(lambda: [confirmed[relay.thread.ident] for relay in (one, two)] == [len(said)] * 2)
    check_once(fleet)


def relay_alone(db: str, broker, name: str) -> None:
    loop.Relay(Ledger(db), broker.address, "dormouse", name).run()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_relay_had_in_hand_is_stored_by_the_other(fleet, where, mosquitto, how):
    """Killed, or stopped, in the middle: then it counts as alive for a while, and goes on later."""
    said = say(fleet)
    with Running(where, mosquitto, "one") as one:
        child = FORK.Process(target=relay_alone, args=(where, mosquitto, "two"))
        child.start()
        try:
            together(one)
            third = len(said) // 3
            publish(mosquitto, said[:third])
            os.kill(child.pid or 0, how)
            publish(mosquitto, said[third:])
            until(lambda: is_whole(fleet), WITHIN)
            check_once(fleet)
            if how == signal.SIGSTOP:
                os.kill(child.pid or 0, signal.SIGCONT)
                child.join(2)
        finally:
            child.kill()
            child.join()
    check_once(fleet)
