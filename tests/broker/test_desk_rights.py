"""Alerts and Home Assistant at a broker of `dormouse broker init`: who may write and read what, on a real mosquitto."""

import json
import logging
import threading
import time

import pytest
import typer.testing

from dormouse_host.address import BrokerAddress, parse
from dormouse_host.broker import access, folder
from dormouse_host.broker_check.probe import Client
from dormouse_host.cli import app
from dormouse_host.desk import desk
from dormouse_host.desk.config import Alerts, Home, Wanted
from dormouse_host.fleet import Fleet
from dormouse_host.ledger.store import Ledger
from dormouse_host.relay.relay import Relay
from support import made_broker
from support.judging import RULES, Bench
from support.waiting import until

SET = "homeassistant/dormouse/dev/set"
CATALOGUE = '{"commands": [["water", [["s", "int"]], 60, false]]}'


@pytest.fixture
def running(tmp_path):
    with made_broker.MadeBroker(made_broker.make(tmp_path / "b")) as broker:
        yield broker


@pytest.fixture
def ledger_file(tmp_path):
    """A ledger with a device that its watchdog has just reset."""
    bench = Bench(str(tmp_path / "ledger.db"))
    bench.now = time.time() - 60
    bench.report("dev", catalogue="c1")
    bench.judge.look()
    bench.report("dev", catalogue="c1", cause="watchdog")
    with bench.ledger.database.writing() as connection:
        connection.exec_driver_sql("UPDATE devices SET catalogue_hash = 'c1', catalogue = ?", (CATALOGUE,))
    bench.close()
    return bench.where


class Beside:
    """A relay in a thread, with alerts and Home Assistant beside it."""

    def __init__(self, db: str, address: BrokerAddress) -> None:
        ledger = Ledger(db)
        own = desk.Desk(ledger, Wanted(Alerts(RULES, 1.0), Home()), "dormouse", settle=0)
        self.relay = Relay(ledger, address, "dormouse", "main", beside=own)
        self.thread = threading.Thread(target=self.relay.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        until(lambda: self.relay.connected)

    def __exit__(self, *_):
        self.relay.stop()
        self.thread.join(40)
        assert not self.thread.is_alive()


def add_user(made: folder.BrokerFolder, name: str, *how: str) -> BrokerAddress:
    words = ["broker", "add-user", name, *how, "--folder", str(made.path)]
    assert typer.testing.CliRunner().invoke(app.app, words).exit_code == 0
    said = access.read_environment(made.user_file(name).read_text())
    return parse(said["DORMOUSE_BROKER"], said)


def sent(fleet: Fleet) -> list[dict]:
    return [row for row in fleet.export("commands") if row["do"] != "describe"]


def test_home_assistants_user_has_its_topics_and_nothing_else(running, ledger_file):
    home = add_user(running.made, "home", "--home-assistant")
    looker = add_user(running.made, "grafana", "--read-only")
    order = {"device": "dev", "do": "water", "args": {"s": 1}, "at": time.time()}
    with Client(home, "any") as client, Client(looker, "any") as reader:
        client.connect().subscribe("#")
        reader.connect().subscribe("#")
        with Beside(ledger_file, running.of_relay()):
            assert client.work(lambda: len({m.topic for m in client.came}) >= 4, 40)
            for topic in ("dormouse/dev/down/cmd", "dormouse/dev/up/wake", "dormouse/alerts/dev/watchdog"):
                client.publish(topic, [b"{}"])
            client.publish(SET, [json.dumps(order).encode()])
            client.rest(0.5)
            with Fleet(ledger_file) as fleet:
                until(lambda: [row["do"] for row in sent(fleet)] == ["water"])
            assert reader.work(lambda: bool(reader.came), 40)
            assert {m.topic.split("/")[0] for m in client.came} == {"homeassistant"}
            assert {m.topic for m in reader.came} == {"dormouse/alerts/dev/watchdog"}
            assert json.loads(reader.came[0].payload)["text"] == "the watchdog has reset the board"


def test_a_relay_without_the_rights_says_so_once_and_works_on(running, ledger_file, caplog):
    """One whose credential is of before."""
    made = running.made
    acl = made.broker / "acl"
    rights = acl.read_text()
    old = [line for line in rights.splitlines() if "alerts" not in line and "homeassistant" not in line]
    acl.write_text("\n".join(old) + "\n")
    assert made.reload()
    logging.getLogger("dormouse.relay").setLevel(logging.INFO)
    caplog.set_level(logging.INFO, "dormouse.relay")
    with Fleet(ledger_file) as fleet, Beside(ledger_file, running.of_relay()):
        until(lambda: any("refuses" in str(record.__dict__.get("fields")) for record in caplog.records))
        fleet.send("dev", "water", {"s": 1})
        until(lambda: [row["status"] for row in sent(fleet)] == ["sent"])
        assert [view.kind for view in fleet.alerts()] == ["watchdog"]
    told = [str(record.__dict__.get("fields")) for record in caplog.records]
    assert sum("refuses" in line for line in told) == 1
    events = [record.getMessage() for record in caplog.records]
    assert events.count("connected") == 1
    assert "disconnected" not in events
