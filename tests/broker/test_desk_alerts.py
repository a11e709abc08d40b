"""Alerts with a real broker, a real HTTP server and relays as processes: each episode is told once at its opening and
once at its end, on every channel, whatever is killed.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import typer.testing
from sqlalchemy import select

from dormouse_host import Fleet, processes
from dormouse_host.broker.client import Publisher
from dormouse_host.cli import app
from dormouse_host.desk import config, webhook
from dormouse_host.desk.desk import Desk
from dormouse_host.desk.notify import Notifier
from dormouse_host.errors import HostError
from dormouse_host.ledger import desk_schema
from dormouse_host.ledger.store import Ledger
from support.judging import Bench
from support.ledgers import sqlite_only
from support.receiver import SECRET, Receiver
from support.relays import Running
from support.subscriber import Subscriber
from support.waiting import until

HOUR = 3600.0
PROCESSES = 120  # seconds for what two relays do that start on a busy machine, with tries 5 to 20 s apart


def settings(folder: Path, receiver: Receiver, *more: str) -> None:
    lines = ["[alerts]", "every = 1", f'webhook = "{receiver.url}"', f'webhook_key = "{SECRET}"', *more]
    (folder / "dormouse.toml").write_text("\n".join(lines) + "\n")


def alerts_of(folder: Path) -> config.Alerts:
    found = config.read(folder, {}).alerts
    assert found is not None
    return found


def start_relay(folder: Path, db: str, broker, name: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "dormouse_host.cli", "relay", "--name", name, "--db", db]
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [*argv, "--broker", broker.address.url], cwd=folder, stdout=log, stderr=log, env=dict(os.environ)
        )


def report(publisher: Publisher, device: str, wake: int, **fields: object) -> None:
    said = {"wake": wake, "state": f"s{device}", "next": 900, **fields}
    publisher.publish(f"dormouse/{device}/up/wake", [json.dumps(said).encode()])


def holder(db: str) -> str:
    with Ledger(db) as ledger, ledger.database.reading() as connection:
        return connection.execute(select(desk_schema.desk.c.instance)).scalar() or ""


def test_two_relays_one_killed_and_a_webhook_that_fails_tell_each_episode_once(tmp_path, mosquitto, postgresql_url):
    """Five episodes of two hours ago whose messages nobody has delivered end; five begin while the relay that had the
    desk is dead.
    """
    old, new = [f"old{n}" for n in range(5)], [f"new{n}" for n in range(5)]
    with Receiver(lambda number: 503 if number % 3 == 0 else 200) as receiver:
        settings(tmp_path, receiver)
        wanted = alerts_of(tmp_path)
        bench = Bench(postgresql_url, wanted.rules)
        bench.now = time.time() - 2 * HOUR
        slow = {"next": 86400}  # nobody is overdue, however long a slow machine takes
        bench.reports([*old, *new], slow)
        bench.after(1)
        bench.reports(old, {"cause": "watchdog", **slow})
        assert bench.after(1) == 5
        bench.reports(old, slow)
        bench.close()
        relays = {}
        try:
            with Subscriber(mosquitto.address, "dormouse/alerts/#") as seen, Publisher(mosquitto.address) as publisher:
                for name in ("one", "two"):
                    relays[name] = start_relay(tmp_path, postgresql_url, mosquitto, name)
                until(lambda: len(receiver.taken) == 10, PROCESSES)
                until(lambda: len(seen.came) == 15, PROCESSES)
                victim = next(name for name, relay in relays.items() if f"/{relay.pid}/" in holder(postgresql_url))
                relays[victim].kill()
                relays[victim].wait()
                for device in new:
                    report(publisher, device, 2, cause="watchdog")
                relays[victim] = start_relay(tmp_path, postgresql_url, mosquitto, victim)
                until(lambda: len(receiver.taken) == 15, PROCESSES)
                until(lambda: len(seen.latest) == 5, PROCESSES)
                time.sleep(2)
        finally:
            for relay in relays.values():
                processes.stop(relay)
        told = [(each.said["device"], each.said["event"]) for each in receiver.taken]
        assert sorted(told) == sorted(
            [(name, event) for name in old for event in ("opened", "closed")] + [(name, "opened") for name in new]
        )
        for name in old:
            assert told.index((name, "opened")) < told.index((name, "closed"))
        assert receiver.forged == 0
        assert len({each.id for each in receiver.taken}) == 15
        assert {each.status for each in receiver.came} == {200, 503}
        said = [json.loads(payload)["event"] for _, payload, _ in seen.came if payload]
        assert (said.count("opened"), said.count("closed"), len(seen.came)) == (10, 5, 20)
        assert sorted(seen.latest) == [f"dormouse/alerts/{name}/watchdog" for name in new]
    assert "s3cret" not in "".join(file.read_text() for file in tmp_path.glob("*.log"))


@sqlite_only
def test_a_device_that_comes_back_closes_its_alert_and_the_topic_is_cleared(tmp_path, mosquitto, where):
    with Receiver() as receiver:
        settings(tmp_path, receiver)
        wanted = config.read(tmp_path, {})
        bench = Bench(where, replace(alerts_of(tmp_path).rules, channels=()))
        bench.now = time.time() - 5 * HOUR
        bench.report("dev")
        bench.judge.look()
        bench.close()
        beside = Desk(Ledger(where), wanted, "dormouse", settle=0)
        with Running(where, mosquitto, beside=beside), Publisher(mosquitto.address) as publisher:
            until(lambda: len(receiver.came) == 1)
            with Subscriber(mosquitto.address, "dormouse/alerts/#") as seen:  # it comes later: the alert is retained
                until(lambda: seen.json("dormouse/alerts/dev/overdue"))
                opened = seen.json("dormouse/alerts/dev/overdue")
                assert (opened["event"], opened["device"], opened["kind"]) == ("opened", "dev", "overdue")
                assert "wakes missed, last heard" in opened["text"]
                report(publisher, "dev", 2)
                until(lambda: not seen.latest and len(seen.came) == 3)
                closed = json.loads(seen.came[1][1])
                assert (closed["event"], closed["ending"]) == ("closed", "the device was heard again")
            until(lambda: len(receiver.came) == 2)
        assert [each.said["event"] for each in receiver.came] == ["opened", "closed"]
        with Fleet(where) as fleet:
            assert fleet.alerts() == []


# ---- channels


def test_a_webhook_is_signed_as_the_standard_has_it():
    """The example of the specification: its key, id, time and body give this signature."""
    import base64

    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = webhook.signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("how", ["silent", "drip", "refused", "nonsense", "redirect"])
def test_a_webhook_that_does_not_answer_well_is_an_error_in_time_and_tells_no_secret(how):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        stop = threading.Event()

        def serve():
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                if how == "nonsense":
                    peer.sendall(b"what?\r\n\r\n")
                if how == "redirect":
                    peer.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n")
                while how == "drip" and not stop.wait(0.1):
                    try:
                        peer.sendall(b"H")
                    except OSError:
                        return
                stop.wait(20)

        if how == "refused":
            server.close()
        else:
            threading.Thread(target=serve, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(HostError) as caught:
            webhook.post(f"http://user:pass@127.0.0.1:{port}/s3cret", b"k" * 32, "1-opened", 1, b"{}", within=1.0)
        stop.set()
    assert time.monotonic() - began < 5
    assert str(caught.value).startswith(f"webhook http://127.0.0.1:{port}: ")
    assert not any(word in str(caught.value) for word in ("s3cret", "pass", "\n"))


def test_apprise_delivers_and_a_failure_tells_no_secret(capfd):
    """Its own plug-in for JSON over HTTP, at a real server."""
    with Receiver() as receiver:
        Notifier(f"json://user:s3cret@127.0.0.1:{receiver.port}/", "alerts.notify 1").send(
            "dormouse: x", "line 1\nline 2"
        )
        (came,) = receiver.came
        assert (came.said["title"], came.said["message"]) == ("dormouse: x", "line 1\nline 2")
    with Receiver(lambda number: 500) as receiver:
        notifier = Notifier(f"json://user:s3cret@127.0.0.1:{receiver.port}/", "alerts.notify 1")
        with pytest.raises(HostError, match="^notify json: not delivered$"):
            notifier.send("dormouse: x", "text")
    with pytest.raises(HostError, match=r"^alerts.notify 2: not a URL of Apprise \(nothing://…\)$"):
        Notifier("nothing://s3cret", "alerts.notify 2")
    assert "s3cret" not in "".join(capfd.readouterr())


# ---- the command


def run(*words: str) -> tuple[int, str]:
    done = typer.testing.CliRunner().invoke(app.app, list(words))
    return done.exit_code, done.output if not done.exception or done.exit_code else str(done.exception)


@sqlite_only
def test_the_command_lists_alerts_and_tests_every_channel(tmp_path, mosquitto, where, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Receiver() as receiver, Subscriber(mosquitto.address, "dormouse/alerts/#") as seen:
        settings(tmp_path, receiver, f'notify = ["json://127.0.0.1:{receiver.port}/"]')
        bench = Bench(where, alerts_of(tmp_path).rules)
        bench.reports(["dev", "other"])
        assert run("alerts", "--db", where) == (0, "no alert is open\n")
        bench.report("dev", cause="watchdog")
        bench.after(1)
        bench.close()
        code, text = run("alerts", "--db", where)
        assert code == 3
        assert text.rstrip().endswith("dev watchdog: the watchdog has reset the board; 3 messages wait")
        code, text = run("alerts", "dev", "--db", where, "--json")
        assert (code, json.loads(text)["kind"]) == (3, "watchdog")
        assert run("alerts", "other", "--db", where)[0] == 0
        code, text = run("alerts", "--test", "--broker", mosquitto.address.url)
        assert (code, text) == (0, "mqtt: delivered\nnotify 1: delivered\nwebhook: delivered\n")
        until(lambda: len(seen.came) == 1)
        assert (seen.came[0][0], len(receiver.came)) == ("dormouse/alerts/*/test", 2)
    code, text = run("alerts", "--test", "--broker", mosquitto.address.url, "--json")
    assert code == 1
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["channel"], line["delivered"]) for line in lines] == [
        ("mqtt", True),
        ("notify 1", False),
        ("webhook", False),
    ]
    assert "s3cret" not in text
