"""`dormouse demo` as a person runs it: a real broker, a real publisher, real device processes, both interpreters."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from dormouse_host.address import BrokerAddress
from dormouse_host.broker.local import Mosquitto, free_port
from dormouse_host.lab.bench.proxy import Conversation, Proxy, packets
from dormouse_host.lab.demo import Run, Variant
from dormouse_host.lab.demo_device import DemoDevice
from dormouse_host.terminal import Console
from support import peers
from support.needs import need_mosquitto
from support.waiting import until

PROGRAM = [sys.executable, "-m", "dormouse_host.cli", "demo"]
WITHOUT_MOSQUITTO = """
import sys
from dormouse_host.agent import toolchain
from dormouse_host.cli import app
toolchain.mosquitto = lambda: None
sys.argv[0] = "dormouse"
app.main()
"""


def demo(*arguments: object, program=PROGRAM, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end; whatever it is asked, it answers within the test's time and without a traceback."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MQTT_")}
    done = subprocess.run(
        [*program, *map(str, arguments)], capture_output=True, text=True, env={**clean, **environment}, timeout=110
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def received(output: str) -> list[int]:
    return [int(number) for number in re.findall(r"📨 Received offline message: Offline message (\d+)$", output, re.M)]


def table(output: str) -> list[list[str]]:
    """The rows under the closing table's head."""
    rows = output[output.index("─────") :].splitlines()[1:]
    return [re.split(r"\s{2,}", row.strip()) for row in rows]


def assert_nobody_listens(output: str) -> None:
    match = re.search(r"on 127\.0\.0\.1:(\d+), started for this run", output)
    assert match
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(match[1])), timeout=1)


def test_demo_tells_three_phases_and_delivers_every_message_once_in_order(interpreter):
    done = demo("--device", interpreter.kind)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Broker: mosquitto ")
    assert [line[:8] for line in lines if line.startswith("Phase")] == ["Phase 1:", "Phase 2:", "Phase 3:"]
    assert "  📨 Received: Test message" in lines
    assert received(done.stdout) == [1, 2, 3]
    assert "  ✓ 3 of 3 messages arrived, each exactly once and in order" in lines
    assert "  ✓ Queue empty: the fence came back behind the last message" in lines
    assert [row[:5] for row in table(done.stdout)] == [
        ["False", "1", "3 of 3", "1", "fence"],
        ["True", "1", "0 of 3", "0", "fence"],
        ["False", "0", "0 of 3", "1", "fence"],
    ]
    assert_nobody_listens(done.stdout)


def test_demo_as_json_is_a_line_for_each_variant_and_nothing_else():
    done = demo("--device", "cpython", "--messages", 2, "--json")
    assert done.returncode == 0, done.stderr
    told, *others = map(json.loads, done.stdout.splitlines())
    assert (told["complete"], told["arrived"], told["variant"]) == (True, [1, 2], {"clean": False, "qos": 1})
    assert [other["arrived"] for other in others] == [[], []]


def test_five_hundred_messages_arrive_in_order(interpreter):
    """Far more than one PUBACK window (20), one inbox (64) and one sequence window (256)."""
    done = demo("--messages", 500, "--device", interpreter.kind)
    assert done.returncode == 0, done.stderr
    assert received(done.stdout) == list(range(1, 501))


def test_queue_limit_of_a_stock_broker_is_noticed_and_named(interpreter):
    """The publisher got 2000 PUBACKs: only what arrives tells that the broker dropped half of them."""
    done = demo("--messages", 2000, "--device", interpreter.kind)
    assert done.returncode == 1
    assert received(done.stdout) == list(range(1, 1001))
    assert done.stderr.count("\n") == 1
    assert "1000 of 2000 messages arrived; missing: 1001–2000" in done.stderr
    assert "max_queued_messages" in done.stderr


@pytest.mark.parametrize(
    "arguments, present, cause",
    [
        (["--clean"], "0", "with clean_session=True the broker deletes the session at the disconnect"),
        (["--qos", "0"], "1", "QoS 0 is not queued for a sleeping device"),
    ],
)
def test_variant_that_loses_messages_shows_it_beside_the_one_that_keeps_them(arguments, present, cause):
    done = demo(*arguments, "--device", "cpython")
    assert done.returncode == 1
    assert received(done.stdout) == []
    assert done.stderr == f"dormouse: 0 of 3 messages arrived; missing: 1–3; {cause}\n"
    rows = table(done.stdout)
    assert rows[0][2:4] == ["0 of 3", present]
    assert ["False", "1", "3 of 3", "1"] in [row[:4] for row in rows[1:]]


def test_embedded_broker_stands_in_where_mosquitto_is_missing(interpreter):
    done = demo("--device", interpreter.kind, program=[sys.executable, "-c", WITHOUT_MOSQUITTO, "demo"])
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("Broker: embedded amqtt ")
    assert first.endswith("because mosquitto is not installed")
    assert received(done.stdout) == [1, 2, 3]
    assert_nobody_listens(done.stdout)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A mosquitto that wants user `ann` with password `hunter2`."""
    passwords = tmp_path_factory.mktemp("guarded") / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", passwords, "ann", "hunter2"], check=True)
    with Mosquitto(need_mosquitto(), ["allow_anonymous false", f"password_file {passwords}"]) as broker:
        yield broker.address


def test_credentials_from_the_environment_reach_publisher_and_device_and_no_output(guarded, interpreter):
    done = demo(guarded.url, "--device", interpreter.kind, MQTT_USERNAME="ann", MQTT_PASSWORD="hunter2")
    assert done.returncode == 0, done.stderr
    assert received(done.stdout) == [1, 2, 3]
    assert "hunter2" not in done.stdout


def test_wrong_password_is_one_line_and_not_shown(guarded):
    done = demo(f"mqtt://ann:letmein@{guarded}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "user 'ann' or the password is wrong" in done.stderr
    assert "letmein" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "url, code, words",
    [
        ("mqtt://no-such-broker.invalid", 2, "cannot be resolved"),
        ("mqtt://127.0.0.1:port", 2, "malformed broker URL"),
        ("127.0.0.1", 2, "malformed broker URL"),
        ("mqtts://127.0.0.1", 2, "has no CA"),
        ("mqtt://127.0.0.1:FREE", 1, "Connection refused"),
        (peers.closes_at_once, 1, "closed the connection without an answer"),
        (peers.speaks_http, 1, "not an MQTT broker"),
        (peers.speaks_ssh, 1, "not an MQTT broker"),
        (peers.stays_silent, 1, "does not answer CONNECT"),
        (peers.dies_after_connack, 1, ""),
    ],
)
def test_bad_broker_is_one_clear_line_within_its_deadline(url, code, words):
    began = time.monotonic()
    if callable(url):
        with peers.serving(url) as port:
            done = demo(f"mqtt://127.0.0.1:{port}")
    else:
        done = demo(url.replace("FREE", str(free_port())))
    assert time.monotonic() - began < 30  # 10 on a machine that nothing else keeps busy
    assert done.returncode == code
    assert done.stderr.startswith("dormouse: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--messages", "0"], ["--qos", "2"], ["--device", "toaster"], ["--budget", "x"], ["a", "b"]]
)
def test_wrong_option_is_one_line_with_code_2(arguments):
    done = demo(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("dormouse: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("phase", ["Phase 1", "  ✓ Sent 3"])
def test_interrupted_demo_stops_its_broker_and_its_device(number, code, phase):
    """No orphan process, wherever the interruption falls."""
    process = subprocess.Popen([*PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    output = ""
    while phase not in output:
        line = process.stdout.readline()
        assert line
        output += line
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(number)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert children
    assert not any(Path("/proc", child).exists() for child in children)
    assert_nobody_listens(output + rest)


def test_foreign_broker_is_left_as_it_was_found(mosquitto):
    """On somebody else's broker a forgotten session queues for ever, and a wake report stays retained."""
    done = demo(mosquitto.address.url, "--device", "cpython")
    assert done.returncode == 0, done.stderr
    devices = set(re.findall(r"Connected as ([\w-]+)", done.stdout))
    assert len(devices) == 1
    device = devices.pop()
    for client_id in (device, f"{device}-1", f"{device}-2"):
        assert leftovers(mosquitto.address, client_id) == (False, [])


def test_broker_that_forbids_the_fence_costs_the_proof_and_no_message(tmp_path, interpreter):
    """Mosquitto acknowledges what its ACL forbids and drops it: the device goes by silence, and says so."""
    rules = tmp_path / "acl"
    rules.write_text("topic deny dormouse/+/down/fence\ntopic readwrite #\n")
    with Mosquitto(need_mosquitto(), [f"acl_file {rules}"]) as broker:
        done = demo(broker.address.url, "--device", interpreter.kind)
    assert done.returncode == 0, done.stderr
    assert received(done.stdout) == [1, 2, 3]
    assert "  ✗ Queue empty: not proven: no fence came back, then silence" in done.stdout


def test_output_that_nobody_reads_ends_the_demo_and_its_broker():
    """`dormouse demo | head -1`."""
    process = subprocess.Popen(PROGRAM, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stderr
    first = process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.wait(60)
    process.stderr.close()
    assert "Traceback" not in errors
    assert_nobody_listens(first)


def leftovers(address, client_id: str) -> tuple[bool, list[str]]:
    """session_present for that client, and the topics of every retained message."""
    present: list[bool] = []
    topics: list[str] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id, clean_session=False, protocol=paho.MQTTv311)
    client.on_connect = lambda _client, _data, flags, *_: present.append(flags.session_present)
    client.on_message = lambda _client, _data, message: topics.append(message.topic)
    client.connect(address.host, address.port)
    client.loop_start()
    client.subscribe("#")
    until(lambda: present)
    time.sleep(0.3)
    client.disconnect()
    client.loop_stop()
    return present[0], topics


def third_phase(interpreter, folder: Path, broker: BrokerAddress, delay: float) -> Conversation:
    """The third phase of a device behind a slow network; its publisher sits beside the broker."""
    with Proxy((broker.host, broker.port), delay) as proxy:
        device = DemoDevice(folder, "slow", BrokerAddress(proxy.host, proxy.port), interpreter.command(folder))
        run = Run(device, broker, Variant(clean=False, qos=1), 3, 8, Console(quiet=True))
        run.subscribe()
        run.send()
        run.receive()
    assert run.outcome.complete, run.outcome.fault()
    return proxy.conversations[-1]


def test_third_phase_takes_three_round_trips_at_100_ms_each_way(interpreter, mosquitto, tmp_path):
    """TCP, the first flight, the results: one flight each, whatever the number of messages.

    A busy machine can only add to it: the best of three counts.
    """
    for n in range(3):
        conversation = third_phase(interpreter, tmp_path / str(n), mosquitto.address, 0.1)
        found = conversation.round_trips(), 1 + conversation.seconds() / 0.2
        if found[0] == 3 and found[1] < 4:
            break
    assert found[0] == 3
    assert found[1] < 4, "nothing but these is waited for"


def test_first_flight_is_one_write_in_one_segment(interpreter, mosquitto, tmp_path):
    """CONNECT, SUBSCRIBE, the wake report and the fence leave together, before CONNACK has come."""
    conversation = third_phase(interpreter, tmp_path, mosquitto.address, 0.02)
    first = conversation.up[0]
    kinds = [kind >> 4 for kind, _ in packets(first.data)]
    assert kinds[:2] == [1, 8]
    assert kinds[2:] == [3, 3]
    assert len(first.data) < 1400
    assert first.segments == 1
    assert first.came < conversation.down[0].came


def test_a_sleep_longer_than_the_session_loses_everything_and_the_ledger_sends_it_again():
    """What the example that this project started from ends with: MQTT 5 grants a session in seconds."""
    done = demo("--session-expiry", "1s", "--messages", 2, "--device", "cpython")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "asked to be remembered for 1 s, granted 1 s" in done.stdout
    assert done.stdout.count("session_present=0, 0 of 2") == 2
    rows = table(done.stdout)
    assert rows[-2] == ["MQTT 5 client", "0", "0 of 2", "-"]
    assert rows[-1] == ["Dormouse", "0", "0 of 2", "2 of 2"]
    assert_nobody_listens(done.stdout)


@pytest.mark.parametrize(
    "words",
    [("2s", "--clean"), ("0",), ("2h",), ("soon",), ("2s", "--qos", 0), ("2s", "mqtt://127.0.0.1"), ("2s", "--json")],
)
def test_session_expiry_that_cannot_be_shown_is_one_line(words):
    done = demo("--session-expiry", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
