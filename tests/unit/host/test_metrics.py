"""`dormouse metrics`: what Prometheus is given, when a figure is gone, and what dashboard and rules ask for."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from importlib.resources import files
from pathlib import Path

import pytest
import typer.testing
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from dormouse_host import Fleet
from dormouse_host.cli import app
from dormouse_host.desk.metrics import FILES, MetricsServer, exposition
from dormouse_host.errors import HostError
from dormouse_host.ledger.outbound import Ack
from dormouse_host.ledger.store import Incoming
from support.reports import NOW, Clock, enter, report

LAST = {"ended": "finished", "ms": 3500, "erases": 2}


@pytest.fixture
def fleet(where):
    with Fleet(where, clock=Clock()) as opened:
        opened.add("dev")
        yield opened


def scraped(fleet: Fleet) -> dict[str, float]:
    """`name{label=value,…}` -> value, as Prometheus itself would read it."""
    found = {}
    for family in text_string_to_metric_families(exposition(fleet).decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def say(fleet: Fleet, wake: int = 1, **fields) -> None:
    assert fleet.ledger.take([report(wake, **fields)], "c") == []


def test_a_device_is_told_as_it_was_and_its_figures_vanish_after_two_missed_wakes(fleet):
    say(fleet, battery=3.71, rssi=-67, free=90_000, last=LAST, agent="0.1.0", fw="1.29", failures=1)
    fleet.group("field", ["dev"])
    found = scraped(fleet)
    device = "{device=dev}"
    assert found[f"dormouse_device_last_seen_timestamp_seconds{device}"] == NOW
    assert found[f"dormouse_device_next_wake_timestamp_seconds{device}"] == NOW + 900
    told = {
        "battery_volts": 3.71,
        "rssi_dbm": -67,
        "free_bytes": 90_000,
        "awake_seconds": 3.5,
        "erases": 2,
        "failures": 1,
    }
    for name, value in told.items():
        assert found[f"dormouse_device_{name}{device}"] == value
    assert found["dormouse_device_info{agent=0.1.0,device=dev,firmware=1.29}"] == 1
    assert found["dormouse_device_group{device=dev,group=field}"] == 1
    (view,) = fleet.status()
    missed = [0, 1, 2, 3]
    for count in missed:
        while view.missed(fleet.clock()) < count:
            fleet.clock.now += 60
        found = scraped(fleet)
        assert found[f"dormouse_device_missed_wakes{device}"] == count
        assert found[f"dormouse_device_overdue{device}"] == (count > 2) == bool(fleet.overdue())
        assert [f"dormouse_device_{name}{device}" in found for name in told] == [count < 2] * len(told), count
        assert f"dormouse_device_last_seen_timestamp_seconds{device}" in found
    say(fleet, 2, battery=3.6)
    found = scraped(fleet)
    assert found[f"dormouse_device_battery_volts{device}"] == 3.6
    assert f"dormouse_device_erases{device}" not in found, "what it did not tell this time"


def test_a_revoked_or_removed_device_is_not_expected(fleet):
    say(fleet, battery=3.7)
    fleet.set_revoked("dev")
    fleet.clock.now += 1e6
    found = scraped(fleet)
    assert found["dormouse_device_revoked{device=dev}"] == 1
    assert found["dormouse_device_overdue{device=dev}"] == 0
    assert "dormouse_device_next_wake_timestamp_seconds{device=dev}" not in found
    fleet.remove("dev", None)
    assert not any("device=dev" in name for name in scraped(fleet))


def test_commands_and_the_backlog(fleet):
    enter(fleet.ledger, "a")
    assert scraped(fleet)["dormouse_relay_backlog"] == 0, "nobody can publish to a device that never connected"
    say(fleet)
    (first,) = [fleet.recent()[0]]
    fleet.send("dev", "ping", after=first)
    fleet.clock.now += 50
    found = scraped(fleet)
    assert (found["dormouse_relay_backlog"], found["dormouse_relay_backlog_age_seconds"]) == (1, 50)
    assert found["dormouse_commands{status=queued}"] == found["dormouse_device_pending_commands{device=dev}"] == 2
    (sent,) = fleet.ledger.claim("r", "c", 10)
    fleet.ledger.acknowledged([Ack(sent.key, sent.times, True)])
    found = scraped(fleet)
    assert (found["dormouse_relay_backlog"], found["dormouse_relay_backlog_age_seconds"]) == (0, 0)
    assert found["dormouse_commands{status=sent}"] == 1
    instance = fleet.ledger.register("main")
    assert scraped(fleet)["dormouse_relay_up{relay=main}"] == 1
    fleet.ledger.release("main", instance)
    assert "dormouse_relay_up{relay=main}" not in scraped(fleet)


@pytest.mark.parametrize("value", ["3.7", True, None, [1], {"v": 1}, 10**400, "x" * 9000, 'a"\\\n} 5\nforged 1'])
def test_a_devices_nonsense_is_left_out_and_forges_nothing(fleet, value):
    say(fleet, battery=value, rssi=value, last=value, agent=value, fw=value, failures=value, free=value)
    say(fleet, 2, last={"ms": value, "erases": value, "ended": value}, battery=value)
    found = scraped(fleet)
    told = [name for name in found if re.match(r"dormouse_device_(battery|rssi|awake|erases|failures|free)", name)]
    assert told == []
    assert all(name.startswith("dormouse_") for name in found)
    assert len(exposition(fleet)) < 10_000


def test_dashboard_and_rules_ask_for_what_there_is(fleet):
    """Each metric that they name is one that a fleet with everything has; and each label."""
    say(fleet, battery=3.7, rssi=-60, free=1, last=LAST, agent="a", fw="f", failures=1)
    fleet.group("field", ["dev"])
    enter(fleet.ledger, "a")
    fleet.ledger.register("main")
    there = {name.partition("{")[0]: set(re.findall(r"(\w+)=", name)) for name in scraped(fleet)}
    board, rules = (files("dormouse_host.desk").joinpath(name).read_text() for name in FILES)
    panels = [target["expr"] for panel in json.loads(board)["panels"] for target in panel["targets"]]
    (group,) = yaml.safe_load(rules)["groups"]
    alerts = [rule["expr"] for rule in group["rules"]]
    assert len(panels) >= 12
    assert len(alerts) >= 8
    for query in panels + alerts:
        names = re.findall(r"dormouse_\w+", query)
        assert names, query
        for name in names:
            assert name in there, f"{query}: no metric {name}"
        for name, labels in re.findall(r"(dormouse_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)\s*=~?", labels)) <= there[name], query
        assert query.count("(") == query.count(")")
    for rule in group["rules"]:
        labels = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        (name, *_) = re.findall(r"dormouse_\w+", rule["expr"])
        assert labels <= there[name], rule["alert"]
    used = {name for query in panels + alerts for name in re.findall(r"dormouse_\w+", query)}
    assert re.search(r"battery_volts", str(used))
    ids = [panel["id"] for panel in json.loads(board)["panels"]]
    assert len(ids) == len(set(ids))


def test_the_documented_metrics_are_those_that_there_are(fleet):
    from support import pages

    say(fleet, battery=3.7, rssi=-60, free=1, last=LAST, agent="a", fw="f", failures=1)
    fleet.group("field", ["dev"])
    enter(fleet.ledger, "a")
    fleet.ledger.register("main")
    there = {name.partition("{")[0] for name in scraped(fleet)} - {"dormouse_strangers_created"}
    rows = pages.table(pages.page("operating"), "metric")
    assert {name for row in rows for name in re.findall(r"dormouse_\w+", row[0])} == there


def get(url: str, method: str = "GET") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_over_http_and_a_ledger_that_is_gone_is_a_503(sqlite_file):
    told: list[str] = []
    with Fleet(sqlite_file) as fleet, MetricsServer(fleet, "127.0.0.1", 0, told.append) as server:
        fleet.add("dev")
        thread = threading.Thread(target=server.run)
        thread.start()
        url = f"http://127.0.0.1:{server.port}"
        code, text = get(f"{url}/metrics")
        assert (code, "dormouse_device_overdue" in text) == (200, True)
        assert get(f"{url}/")[0] == 404
        assert get(f"{url}/metrics", "POST")[0] == 405
        assert get(f"{url}/metrics", "HEAD") == (200, "")
        with pytest.raises(HostError, match=f"cannot listen on 127.0.0.1:{server.port}: .*--port"):
            MetricsServer(fleet, "127.0.0.1", server.port)
        with socket.create_connection(("127.0.0.1", server.port)) as slow:  # holds nobody else up
            slow.send(b"GET /met")
            assert get(f"{url}/metrics")[0] == 200
        Path(sqlite_file).rename(f"{sqlite_file}.away")
        assert get(f"{url}/metrics") == (503, "the ledger can't be read\n")
        assert len(told) == 1
        assert "\n" not in told[0]
        Path(f"{sqlite_file}.away").rename(sqlite_file)
        assert get(f"{url}/metrics")[0] == 200
        server.stop()
        thread.join()


def test_the_command_serves_until_it_is_ended(sqlite_file):
    with Fleet(sqlite_file) as fleet:
        fleet.add("dev")
    argv = [sys.executable, "-m", "dormouse_host.cli", "metrics", "--port", "0", "--db", sqlite_file]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        assert 'dormouse_device_overdue{device="dev"} 0.0' in get(url)[1]
        process.send_signal(signal.SIGINT)
        _, wrong = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in wrong


def test_files_and_usage(sqlite_file, tmp_path):
    def run(*words: str) -> tuple[int, str]:
        result = typer.testing.CliRunner().invoke(app.app, ["metrics", *words, "--db", sqlite_file])
        return result.exit_code, str(result.exception or result.output)

    code, said = run("--write", str(tmp_path / "files"))
    assert code == 0
    names = sorted(path.name for path in (tmp_path / "files").iterdir())
    assert names == ["dormouse-alerts.yml", "dormouse-grafana.json"]
    assert said.count("\n") == 2
    assert "exists already" in run("--write", str(tmp_path / "files"))[1]
    assert "expected an address" in run("--listen", "localhost")[1]
    assert "no ledger" in run()[1]


def test_ten_thousand_devices_are_told_in_time(sqlite_file):
    """Prometheus asks every 15 s, and gives up after 10; how long it takes is in docs/results.md."""
    with Fleet(sqlite_file) as fleet:
        names = [f"d{n}" for n in range(2000)]
        fleet.add(*names)
        said = json.dumps({"wake": 1, "state": "s1", "next": 900, "battery": 3.7, "last": LAST}).encode()
        fleet.ledger.take([Incoming(name, "up/wake", said) for name in names], None)
        assert scraped(fleet)["dormouse_device_erases{device=d1999}"] == 2
