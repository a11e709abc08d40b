"""`dormouse broker check` against five brokers: what it finds is what they do, and nothing of it is left behind."""

import json
import socket
import subprocess
import sys

import pytest

from dormouse_host import Fleet
from dormouse_host.address import BrokerAddress
from dormouse_host.broker.client import Publisher
from dormouse_host.broker.local import Embedded, Mosquitto
from dormouse_host.broker_check import kept, rights
from dormouse_host.broker_check.check import check, severity
from dormouse_host.broker_check.findings import Case, Row, trial
from dormouse_host.broker_check.probe import Client, NoAnswer, fresh
from dormouse_host.errors import HostError
from support import made_broker
from support.brokers import Nats, Rabbit
from support.needs import need_mosquitto
from support.relays import Running
from support.waiting import until

DEPTH = 1200  # above mosquitto's stock limit of 1000
SLOW = 3  # this machine may be busy

pytestmark = pytest.mark.timeout(400)  # four of them at once, and RabbitMQ, on two cores


def found(case: Case) -> dict[str, Row]:
    return {row.key: row for row in check(case)}


def grades(rows: dict[str, Row], grade: str) -> set[str]:
    return {row.key for row in rows.values() if row.grade == grade}


OPEN = {"tls", "anonymous", "rights", "takeover"}  # what every broker without credentials has


@pytest.mark.proof
def test_mosquitto_as_it_comes_drops_what_is_above_its_limit():
    """By the command, whose exit code is the worst row's."""
    with Mosquitto(need_mosquitto()) as broker:
        run = [sys.executable, "-m", "dormouse_host.cli", "broker", "check", broker.address.url]
        argv = [*run, "--depth", str(DEPTH), "--slow", str(SLOW), "--json"]
        told = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        rows = {row["key"]: Row(**row) for row in map(json.loads, told.stdout.splitlines())}
    assert told.returncode == severity(list(rows.values())) == 3, told.stderr
    assert grades(rows, "broken") == set(), rows
    assert grades(rows, "warning") == {*OPEN, "depth-down", "depth-up"}
    assert rows["depth-down"].seen == f"the first 1000 of {DEPTH}; no PUBACKs said so"
    assert rows["depth-up"].seen == f"the first 1000 of {DEPTH}; no PUBACKs said so"
    assert rows["window"].seen == "20"
    assert rows["qos0"].seen == "dropped"
    assert rows["message-expiry"].seen == "overdue ones are dropped"
    none = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert none.returncode == 1
    assert none.stderr.startswith("dormouse: broker 127.0.0.1:")


def test_mosquitto_as_it_comes_forgets_everything_in_a_kill():
    with Mosquitto(need_mosquitto()) as broker:

        def restart():
            assert broker._child
            broker._child.kill()
            broker.stop()
            broker.start()

        row = next(kept.restart(Case(broker.address, restart=restart)))
    assert row.grade == "warning"
    assert row.seen.startswith("session_present=0, 0 of 20 arrived")


@pytest.mark.proof
def test_broker_of_init_keeps_everything_and_lets_nobody_else_in(tmp_path):
    made = made_broker.make(tmp_path / "b")
    with made_broker.MadeBroker(made) as broker:

        def restart():
            broker.kill()
            broker.start()

        with trial(made, DEPTH) as case:
            case.restart, case.slow = restart, SLOW
            rows = found(case)
            used = [case.host, *case.devices]
        assert grades(rows, "ok") | grades(rows, "note") == set(rows), [
            row for row in rows.values() if row.grade not in ("ok", "note")
        ]
        assert {"tls", "tls-old", "tls-clear", "session", "fence", "restart", "anonymous", "rights"} <= grades(
            rows, "ok"
        )
        assert severity(list(rows.values())) == 0
        for credential in used:
            with pytest.raises(NoAnswer, match="refused"), Client(credential, fresh(), clean=True) as client:
                client.connect()
    assert "check-" not in (made.broker / "acl").read_text() + made.passwd.read_text()
    assert [path.name for path in made.path.glob("relay-*")] == ["relay-main.env"]


@pytest.mark.proof
def test_amqtt_is_for_the_demo_only():
    with Embedded() as broker:
        rows = found(Case(broker.address, depth=DEPTH, slow=SLOW))
    assert rows["session"].grade == rows["order"].grade == rows["fence"].grade == "ok"
    assert rows["cut"].grade == "warning"
    assert rows["qos0"].seen == "5 of 5 kept"
    assert rows["mqtt5"].grade == "note"


@pytest.mark.proof
def test_nats_withholds_what_a_power_cut_left():
    with Nats() as broker:
        rows = found(Case(broker.address, depth=DEPTH, slow=SLOW))
    assert grades(rows, "broken") == set(), rows
    assert grades(rows, "warning") == {*OPEN, "cut"}
    assert rows["cut"].seen.startswith("60 of 60 missing when the fence came")
    assert rows["depth-down"].grade == rows["depth-up"].grade == "ok"
    assert rows["window"].seen == "all 60"


@pytest.mark.proof
def test_rabbitmq_keeps_all_but_the_retained_report():
    with Rabbit() as broker:
        rows = found(Case(broker.address, depth=DEPTH, slow=SLOW))
    assert grades(rows, "broken") == set(), rows
    assert grades(rows, "warning") == {*OPEN, "retained"}
    assert rows["window"].seen == "10"
    assert rows["qos0"].seen == "5 of 5 kept"
    assert rows["depth-down"].grade == rows["depth-up"].grade == "ok"


def test_rights_that_are_too_wide_are_found(tmp_path):
    """The same broker with its two locks taken off: the check has to see the difference."""
    made = made_broker.make(tmp_path / "b")
    conf = made.configuration
    conf.write_text(conf.read_text().replace("use_username_as_clientid true", "").replace("acl_file", "# acl_file"))
    with made_broker.MadeBroker(made), trial(made, 100) as case:
        case.slow = SLOW
        rows = {row.key: row for probe in (rights.rights, rights.takeover) for row in probe(case)}
    assert rows["rights"].seen == (
        "read its commands, send it commands, send it fences, answer for it, send commands to itself"
    )
    assert rows["takeover"].seen == "yes"


def test_a_relay_beside_the_check_registers_nobody_and_complains_of_nothing(tmp_path):
    """Where the broker asks for no credential, it takes whoever speaks like a device for a new one."""
    db = str(tmp_path / "ledger.db")
    with Mosquitto(need_mosquitto()) as broker, Running(db, broker) as relay:
        rows = found(Case(broker.address, depth=100, slow=SLOW))
        with Publisher(broker.address) as publisher:
            publisher.publish(
                "dormouse/dev/up/wake", [*(b'{"check":%b}' % said for said in (b"[]", b'true,"wake":1', b"9" * 7))]
            )
        until(lambda: relay.events.count("not understood") >= 3)
    assert rows["depth-up"].grade == rows["retained"].grade == rows["fence"].grade == "ok"
    assert rows["rights"].seen == "read its commands, send it commands, send it fences, answer for it"
    assert relay.events.count("not understood") == 3, "and what only looks like the check's is told as before"
    with Fleet(db) as fleet:
        assert fleet.status() == []


def test_a_peer_that_is_no_broker_ends_the_check():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        case = Case(BrokerAddress("127.0.0.1", silent.getsockname()[1]))
        with pytest.raises(HostError, match="no answer to CONNECT") as caught:
            list(check(case))
    assert caught.value.code == 1
