"""The session as a broker sees it: the first flight, and the fence that proves a queue empty (docs/design.md).

Must stay true: the packets are read here byte by byte (tests/support/peer.py), by no code of the device's.
"""

import json
import struct

from dormouse_host.broker.local import Mosquitto
from support.device_folder import Device, Host, say
from support.needs import need_mosquitto
from support.peer import (
    CONNECT,
    PUBACK,
    PUBLISH,
    SUBSCRIBE,
    Connection,
    Peer,
    answers,
    connack,
    honest,
    is_fence,
    publish,
)
from support.session import METRIC, fields_of_connect

# ---- the first flight


def test_first_flight_leaves_in_one_write_before_connack(interpreter, tmp_path):
    """All that the broker can be told without its answer costs one round trip and one segment."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.silent(0.3)
        assert connection.segments == len(connection.chunks) == 1
        assert len(connection.chunks[0]) < 1400
        connection.welcome(flight)
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url, METRIC).wake()
        connection = peer.settled().last
    assert ran.code == 0, ran.output
    connect, subscribe, wake, telemetry, fence = connection.received[:5]
    name, level, flags, keepalive, strings = fields_of_connect(connect.body)
    assert (name, level, flags, strings) == (b"MQTT", 4, 0, [b"dev"])  # flags 0: the session is kept
    assert keepalive > 0
    assert subscribe.first == 0x82
    assert subscribe.body[2:] == struct.pack(">H", 19) + b"dormouse/dev/down/#" + b"\x01"
    assert [(p.kind, p.qos, p.retain, p.topic) for p in (wake, telemetry, fence)] == [
        (PUBLISH, 1, True, "dormouse/dev/up/wake"),
        (PUBLISH, 1, False, "dormouse/dev/up/telemetry"),
        (PUBLISH, 1, False, "dormouse/dev/down/fence"),
    ]
    assert len(connection.of(SUBSCRIBE)) == 1
    report = json.loads(wake.payload)
    assert report["wake"] == 1
    assert json.loads(telemetry.payload)["records"][0][0] == 1


def test_client_id_and_nonce_of_two_wakes_are_the_same_and_another(interpreter, tmp_path):
    """The id finds the session; a nonce that came twice could be an orphaned fence taken for proof."""
    with Peer(honest()) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url)
        assert [device.wake().code for _ in range(2)] == [0, 0]
        first, second = peer.settled().connections
    assert [fields_of_connect(c.of(CONNECT)[0].body)[4] for c in (first, second)] == [[b"dev"], [b"dev"]]
    nonces = {packet.payload for c in (first, second) for packet in c.of(PUBLISH) if is_fence(packet)}
    assert len(nonces) == 2


def test_first_flight_is_at_most_30_packets_and_4_kib_and_the_rest_follows_connack(interpreter, tmp_path):
    """aedes closes beyond 42 packets, and a Pico W's first window holds 4.4 KB (docs/design.md)."""
    early: list[int] = []

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.silent(0.2)
        early.append(sum(map(len, connection.chunks)))
        assert len(flight) <= 30
        assert is_fence(flight[-1])
        connection.welcome(flight)
        connection.return_fence(flight[-1])
        connection.serve()

    device = Device(tmp_path / "device", interpreter, "mqtt://127.0.0.1:9", METRIC, sample_every=1, connect_every=9000)
    for _ in range(12):
        device.wake("timer")
    with Peer(script) as peer:
        device.configure(broker=peer.url)
        assert device.wake("power").code == 0
        connection = peer.settled().last
    assert 2048 < early[0] <= 4096
    numbers = [number for batch in connection.told("/up/telemetry") for number, _, _ in batch["records"]]
    assert numbers == list(range(1, 14))
    assert len(connection.told("/up/telemetry")) > 4


def test_a_flight_never_costs_more_than_one_write_each(interpreter, tmp_path):
    """Ten commands: their PUBACKs, their results and the end are a segment each, where umqtt.simple sends a hundred."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        queue = [publish(connection.topic("down/cmd"), say(f"text {n}"), n) for n in range(1, 11)]
        fence = publish(connection.topic("down/fence"), flight[-1].payload, 11)
        connection.send(connack(), *answers(flight), *queue, fence)
        connection.serve()
        assert len(connection.of(PUBACK)) == 11
        assert connection.segments <= 5

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        peer.settled()
    assert ran.said == [f"text {n}" for n in range(1, 11)]
    assert ran.one("asleep")["flights"] <= 5
    assert len(peer.results()) == 10


# ---- the fence


def test_orphaned_fence_of_an_earlier_wake_is_acknowledged_and_proves_nothing(interpreter, tmp_path):
    """It comes first, ahead of the commands that it would hide."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight)
        orphan = connection.command(b"0badf00d", "down/fence")
        assert connection.until(lambda p: p.kind == PUBACK).pid == orphan
        connection.silent(0.05)  # a device that took it for proof would be gone
        connection.command(say("after the orphan"))
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == ["after the orphan"]
    assert peer.results()[0]["status"] == "succeeded"


def test_puback_of_the_fence_proves_nothing(interpreter, tmp_path):
    """A broker acknowledges a publish when it has it, not when it has delivered what stood before it."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight)
        connection.silent(0.05)
        connection.command(say("late"))
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        peer.settled()
    assert ran.said == ["late"]


def test_second_fence_follows_silence_and_proves_the_queue_empty(interpreter, tmp_path):
    """A fence may be lost with a full queue; one that is overdue is asked for again, once."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight)
        second = connection.until(is_fence)
        connection.send(*answers([second]))
        connection.return_fence(second)
        connection.serve()

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        connection = peer.settled().last
    assert ran.code == 0, ran.output
    assert ran.one("drained")["how"] == "second fence"
    assert ran.one("asleep")["drained"] is True
    assert connection.told("/up/end")[0]["drained"] is True
    assert len([p for p in connection.of(PUBLISH) if is_fence(p)]) == 2


ALLOWED = "topic readwrite #\n"
FORBIDDEN = "topic deny dormouse/dev/down/fence\n" + ALLOWED


def test_forbidden_fence_ends_the_wake_undrained_and_later_wakes_wait_no_longer(interpreter, tmp_path):
    """mosquitto acknowledges what its ACL forbids, and drops it in silence: commands still come, and it is noticed
    when the fence works again.
    """
    rights = tmp_path / "acl"
    rights.write_text(FORBIDDEN)
    with Mosquitto(need_mosquitto(), [f"acl_file {rights}", "log_type all"]) as broker:
        device = Device(tmp_path / "device", interpreter, broker.address.url)
        wakes, denied = [], []
        for n in range(3):
            if n == 2:
                broker.stop()
                rights.write_text(ALLOWED)
                broker.start()
            with Host(broker.address) as host:
                if n == 1:
                    host.send(say("queued"))
                ran = device.wake()
                assert ran.code == 0, ran.output
                end = host.wait("up/end")
                assert ran.said == (["queued"] if n == 1 else [])
                assert (end["drained"], end["fence_dead"]) == ((True, False) if n == 2 else (False, True))
                wakes.append(ran)
                denied.append(broker.log.read_text().count("Denied PUBLISH from dev "))
    first, second, third = wakes
    assert first.one("asleep")["drained"] is False
    assert second.one("asleep")["drained"] is False
    assert denied == [2, 3, 0]  # the second wake asks no second time; the log begins anew with the broker
    assert third.one("drained")["how"] == "fence"


def late_fence(connection: Connection) -> None:
    """A broker that expects no fence in the first flight, and one later."""
    flight = connection.flight()
    assert [each.kind for each in flight] == [CONNECT, SUBSCRIBE, PUBLISH]
    connection.welcome(flight, present=True)
    connection.command(say("queued"))
    fence = connection.until(is_fence)
    assert connection.of(PUBACK)
    connection.send(*answers([fence]))
    connection.return_fence(fence)
    connection.serve()


def test_fence_goes_late_after_three_wakes_that_failed(interpreter, tmp_path):
    """Fences of wakes that died fill the queue until no command has room (130 such wakes: 0 delivered)."""

    def broken(connection: Connection) -> None:
        assert is_fence(connection.flight()[-1])
        connection.send(connack())
        connection.listen()

    with Peer(broken) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url, budget=2)
        assert [device.wake().code for _ in range(3)] == [1, 1, 1]
        device.configure(budget=20)
        peer.scripts = [late_fence]
        ran = device.wake()
        peer.settled()
    assert ran.said == ["queued"], ran.output
    assert ran.one("asleep")["drained"] is True


def test_fence_goes_late_after_three_wakes_that_never_ended(interpreter, tmp_path):
    """A watchdog or a brown-out leaves a fence behind at each wake, as a failure does."""

    def swallows(connection: Connection) -> None:
        assert is_fence(connection.flight()[-1])
        connection.send(connack())
        connection.listen()

    with Peer(swallows, swallows, swallows, late_fence) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url)
        for _ in range(3):
            with device.start() as process:
                process.until("connected")
                process.cut()
        ran = device.wake()
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == ["queued"]
    assert ran.one("asleep")["drained"] is True
