"""What Home Assistant gets from a relay, and what it may order: with a real broker. The real Home Assistant is asked by
`python -m proofs.homeassistant`.
"""

import json
import subprocess
import sys
import time
from zlib import crc32

import pytest

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.broker.client import Publisher
from dormouse_host.desk import desk, homes
from dormouse_host.desk.config import Home, Wanted
from dormouse_host.desk.desk import Desk
from dormouse_host.desk.homes import Homes
from dormouse_host.ledger import updates
from dormouse_host.ledger.store import Incoming, Ledger
from dormouse_host.relay.beside import Aside
from dormouse_host.release import Release
from support.ledgers import sqlite_only
from support.relays import Running
from support.subscriber import Subscriber
from support.waiting import until

CATALOGUE = {
    "commands": [
        ["blink", [["times", ["int", 3]]], 5, True],
        ["fan", [["on", "bool"]], 5, True],
        ["say", [["text", "str"]], 5, True],
        ["water", [["s", "int"]], 60, False],
    ],
    "standard": [],
}
STATE, CONFIG, SET = (f"homeassistant/dormouse/dev/{leaf}" for leaf in ("state", "config", "set"))
CONFIG = "homeassistant/device/dormouse_dev/config"
AVAILABLE = "homeassistant/dormouse/dev/availability"
RELAY = "homeassistant/dormouse/relay"


def running(db, broker):
    """A relay in a thread, with Home Assistant beside it."""
    return Running(db, broker, beside=Desk(Ledger(db), Wanted(home=Home()), "dormouse"))


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Home Assistant is looked after more often than it need be."""
    monkeypatch.setattr(desk, "_HOME", 0.3)
    monkeypatch.setattr(desk, "_TICK", 0.2)
    monkeypatch.setattr(homes, "_WALK", 0.5)


@pytest.fixture
def fleet(where):
    with Fleet(where) as opened:
        yield opened


def take(fleet, leaf, said, at=None):
    """Something of the device's, stored at a time."""
    clock = fleet.ledger._clock
    fleet.ledger._clock = clock if at is None else (lambda: at)
    try:
        assert fleet.ledger.take([Incoming("dev", leaf, json.dumps(said).encode())], None) == []
    finally:
        fleet.ledger._clock = clock


def greet(fleet, wake=1, at=None, **fields):
    """A wake, and the catalogue that it was asked for."""
    take(fleet, protocol.WAKE, {"wake": wake, "state": "s1", "next": 900, "catalogue": "c1", **fields}, at)
    with fleet.ledger.database.writing() as connection:
        sql = f"UPDATE devices SET catalogue = '{json.dumps(CATALOGUE)}', catalogue_hash = 'c1'"
        connection.exec_driver_sql(sql)


def telemetry(fleet, *records, at=None):
    take(fleet, protocol.TELEMETRY, {"state": "s1", "records": [list(record) for record in records]}, at)


@sqlite_only
def test_a_device_is_one_retained_message_with_its_readings_and_commands(mosquitto, where, fleet):
    greet(fleet, battery=3.9, rssi=-61, agent="0.1.0", fw="1.26 on RPI_PICO_W")
    now = time.time()
    telemetry(fleet, (3, now - 10, {"temp": 21.5, "door": True, "note": "ok", "lost": None, "more": [1]}))
    telemetry(fleet, (1, now - 600, {"temp": 11, "old": 1}))  # sent again, later: not the newest
    with running(where, mosquitto), Subscriber(mosquitto.address, "homeassistant/#") as seen:
        until(lambda: seen.json(STATE) and seen.json(CONFIG))
        config, state = seen.json(CONFIG), seen.json(STATE)
        until(lambda: seen.latest.get(RELAY) == b"online" and seen.latest.get(AVAILABLE) == b"online")
        assert config["device"] == {
            "identifiers": ["dormouse_dev"],
            "name": "dev",
            "manufacturer": "Dormouse",
            "model": "1.26 on RPI_PICO_W",
            "sw_version": "0.1.0",
        }
        assert config["availability"] == [{"topic": RELAY}, {"topic": AVAILABLE}]
        components = config["components"]
        assert {slug: each["platform"] for slug, each in components.items() if slug[:2] in ("r_", "c_")} == {
            "r_temp": "sensor",
            "r_door": "binary_sensor",
            "r_note": "sensor",
            "r_old": "sensor",
            "c_blink": "button",
            "c_fan": "switch",
            "c_water": "number",
        }
        temp = components["r_temp"]
        assert (temp["device_class"], temp["unit_of_measurement"]) == ("temperature", "°C")
        assert (state["r_temp"], state["r_door"], state["r_note"], state["r_old"]) == (21.5, True, "ok", 1)
        assert (state["d_battery"], state["d_rssi"], state["d_problem"]) == (3.9, -61, False)
        telemetry(fleet, (4, now, {"temp": 22.5}))
        until(lambda: seen.json(STATE)["r_temp"] == 22.5)
        with fleet.ledger.database.writing() as connection:  # a command that its program has no longer
            connection.exec_driver_sql("UPDATE devices SET catalogue = '{\"commands\": []}'")
        greet_again = {"wake": 2, "state": "s1", "next": 900, "catalogue": "c1"}
        take(fleet, protocol.WAKE, greet_again)
        until(lambda: seen.json(CONFIG)["components"]["c_water"] == {"platform": "number"})
        fleet.ledger.remove_device("dev")
        until(lambda: seen.latest.keys() == {RELAY})
    with Subscriber(mosquitto.address, "homeassistant/#") as seen:  # retained
        until(lambda: seen.latest == {RELAY: b"offline"})


@sqlite_only
def test_asleep_is_online_and_overdue_is_offline(mosquitto, where, fleet):
    """By the same rule as `status --overdue`."""
    greet(fleet, 1, time.time() - 2000)  # one wake is missed: asleep, or late
    with running(where, mosquitto), Subscriber(mosquitto.address, AVAILABLE) as seen:
        until(lambda: seen.latest.get(AVAILABLE) == b"online")
        assert fleet.overdue() == []
        with fleet.ledger.database.writing() as connection:
            connection.exec_driver_sql("UPDATE devices SET seen = seen - 9000, next_due = next_due - 9000")
        until(lambda: seen.latest.get(AVAILABLE) == b"offline")
        assert [view.id for view in fleet.overdue()] == ["dev"]
        greet(fleet, 2)
        until(lambda: seen.latest.get(AVAILABLE) == b"online")


@sqlite_only
def test_an_update_is_shown_and_one_that_failed_is_ordered_again_once(mosquitto, where, fleet):
    greet(fleet)
    release = Release({"app.py": b"x = 1\n"})
    named = f"release {release.id}"
    (name,) = fleet.update(["dev"], release, expires=3600, min_battery=3.5)
    with running(where, mosquitto), Subscriber(mosquitto.address, "homeassistant/#") as seen:

        def shown(key):
            return seen.json(STATE)["d_update"][key]

        def installs():
            return "payload_install" in seen.json(CONFIG)["components"]["d_update"]

        until(lambda: "d_update" in (seen.json(STATE) or {}))
        assert (shown("installed_version"), shown("latest_version")) == ("as flashed", named)
        assert (shown("in_progress"), shown("update_percentage")) == (True, 0)
        assert seen.json(CONFIG)["components"]["d_update"]["platform"] == "update"
        assert not installs(), "it is on its way"
        settle(fleet, name, "failed")
        until(installs)
        assert (shown("in_progress"), shown("latest_version")) == (False, named)
        press = seen.json(CONFIG)["components"]["d_update"]["payload_install"].encode()
        with Publisher(mosquitto.address) as publisher:
            publisher.publish(SET, [press, press])
            until(lambda: len(fleet.updates("dev", final=True)) == 2)
            until(lambda: not installs())
            publisher.publish(SET, [press])
            time.sleep(1)
        again, before = fleet.updates("dev", final=True)
        assert (again.release, again.final, before.name) == (release.id, False, name)
        assert terms(fleet, again.name)[0] - time.time() == pytest.approx(3600, abs=30)
        assert terms(fleet, again.name)[1] == 3.5
        settle(fleet, again.name, "succeeded")
        until(lambda: shown("installed_version") == named)
        other = Release({"app.py": b"x = 2\n"})
        (last,) = fleet.update(["dev"], other)
        until(lambda: shown("latest_version") == f"release {other.id}")
        assert shown("installed_version") == named
        fleet.cancel_update(last)
        until(lambda: shown("latest_version") == named)
        assert not installs(), "somebody has withdrawn it"


def settle(fleet, name, status):
    """What the update has come to."""
    with fleet.ledger.database.writing() as connection:
        (row,) = updates._load(connection, updates.updates.name == name)
        updates._settle(connection, row, status, None, time.time())


def terms(fleet, name):
    with fleet.ledger.database.reading() as connection:
        sql = f"SELECT expires, min_battery FROM updates WHERE name = '{name}'"
        return connection.exec_driver_sql(sql).one()


def order(do, at=None, **args):
    return json.dumps({"device": "dev", "do": do, "args": args, "at": time.time() if at is None else at}).encode()


def test_a_command_from_there_is_in_the_ledger_once_however_often_it_comes(mosquitto, where, fleet):
    greet(fleet)
    press = order("water", s=30)
    with running(where, mosquitto), Publisher(mosquitto.address) as publisher:
        publisher.publish(SET, [press, press])
        until(lambda: len(sent(fleet)) == 1)
    with Publisher(mosquitto.address) as publisher:  # while no relay runs: the broker keeps it for the relay
        publisher.publish(SET, [press, order("fan", on=True), order("blink")])
    with running(where, mosquitto):
        until(lambda: len(sent(fleet)) == 3)
        time.sleep(1)
    assert [(view["do"], view["args"]) for view in sent(fleet)] == [
        ("water", {"s": 30}),
        ("fan", {"on": True}),
        ("blink", {}),
    ]
    assert all(0 < view["expires"] - time.time() <= 86401 for view in sent(fleet))


def sent(fleet):
    return [row for row in fleet.export("commands") if row["do"] not in ("describe", "report", "update")]


@sqlite_only
def test_what_is_no_order_of_the_catalogue_is_refused(where, fleet):
    greet(fleet)
    fleet.add("other")
    queued, other = fleet.update(["dev", "other"], Release({"app.py": b"x = 1\n"}))
    settle(fleet, other, "failed")
    listening = Homes(fleet.ledger, Home())
    wrong = [
        b"PRESS",
        b"[]",
        b"[" * 3000,
        b"\xff\xfe",
        b"{" + b" " * 5000 + b"}",
        b'{"device": "dev", "do": "water", "args": {"s": 1}}',
        b'{"device": "dev", "do": "water", "args": {"s": 1}, "at": true}',
        b'{"device": "dev", "do": "water", "args": {"s": 1}, "at": NaN}',
        b'{"device": "dev", "do": "water", "args": {"s": 1}, "at": 1e400}',
        order("water", time.time() - 90000, s=1),
        order("water", time.time() + 90000, s=1),
        order("water", s="much"),
        order("water"),
        order("water", s=1, more=2),
        order("blink", times=5),
        order("say", text="x"),
        order("reset"),
        order("update", step="end"),
        b'{"device": "dev", "install": "nothing"}',
        json.dumps({"device": "dev", "install": queued}).encode(),
        json.dumps({"device": "dev", "install": other}).encode(),
        b'{"device": "nobody", "install": "nothing"}',
        b'{"device": 1, "install": "nothing"}',
        order("water", s=1).replace(b'"dev"', b'"other"'),
        order("water", s=1).replace(b'"dev"', b'"../dev"'),
    ]
    for payload in wrong:
        assert listening.hear(Aside(SET, payload)) == []
        assert sent(fleet) == [], payload
        assert len(fleet.updates(final=True)) == 2, payload
    assert listening.hear(Aside(SET, order("water", s=1))) == []
    assert len(sent(fleet)) == 1


@sqlite_only
def test_what_a_switch_was_set_to_is_what_the_device_has_done(mosquitto, where, fleet):
    greet(fleet)
    down = "dormouse/dev/down/cmd"
    with running(where, mosquitto), Subscriber(mosquitto.address, "homeassistant/#", down) as seen:
        until(lambda: seen.json(STATE))
        assert seen.json(STATE)["c_fan"] is None
        with Publisher(mosquitto.address) as publisher:
            publisher.publish(SET, [order("fan", on=True)])
            until(lambda: seen.json(STATE)["d_pending"] >= 1 and b"fan" in seen.latest.get(down, b""))
            assert seen.json(STATE)["c_fan"] is None
            said, crc = seen.json(down), crc32(seen.latest[down])
            answer = [{"id": said["id"], "do": "fan", "status": "succeeded", "crc": crc}]
            publisher.publish("dormouse/dev/up/result", [json.dumps(answer).encode()])
        until(lambda: seen.json(STATE)["c_fan"] is True)


@sqlite_only
def test_a_relay_that_is_killed_is_offline_and_another_contradicts(tmp_path, mosquitto, where, fleet):
    greet(fleet)
    (tmp_path / "dormouse.toml").write_text("[homeassistant]\n")

    def start(name):
        argv = [sys.executable, "-m", "dormouse_host.cli", "relay", "--name", name, "--db", where]
        argv += ["--broker", mosquitto.address.url]
        return subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    relays = [start("one")]
    try:
        with Subscriber(mosquitto.address, RELAY) as seen:
            until(lambda: seen.latest.get(RELAY) == b"online")
            relays[0].kill()
            until(lambda: seen.latest.get(RELAY) == b"offline")
            relays.append(start("two"))
            until(lambda: seen.latest.get(RELAY) == b"online")
            with Publisher(mosquitto.address) as publisher:  # as the will of a third one says
                publisher.publish(RELAY, [b"offline"], retain=True)
            until(lambda: seen.came[-1][1] == b"online" and len(seen.came) >= 5)
    finally:
        for relay in relays:
            relay.kill()
            relay.wait()
