"""The session as a broker sees it: the first flight, the fence, and what umqtt.simple gets wrong (docs/design.md).

Must stay true: the packets are read here byte by byte (tests/support/peer.py), by no code of the device's; each fault
of umqtt.simple has a test of its own, which fails when its workaround in session.py is taken out.
"""

import json
import struct
import time

import pytest

from dormouse_host.broker.local import Mosquitto
from support.device_folder import APP, Device, Host, command, say
from support.needs import need_mosquitto
from support.peer import (
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    SUBSCRIBE,
    Connection,
    Peer,
    answers,
    connack,
    honest,
    is_fence,
    packet,
    puback,
    publish,
    suback,
)

METRIC = """
from dormouse import telemetry

@telemetry()
def metric(wake):
    return {"pad": "x" * 450}
"""


def fields_of_connect(body: bytes) -> tuple[bytes, int, int, int, list[bytes]]:
    """Protocol name, level, flags, keepalive and the strings of the payload (MQTT 3.1.1, section 3.1)."""
    name, body = body[2 : 2 + (body[0] << 8 | body[1])], body[2 + (body[0] << 8 | body[1]) :]
    level, flags, keepalive = struct.unpack(">BBH", body[:4])
    strings, body = [], body[4:]
    while body:
        size = body[0] << 8 | body[1]
        assert len(body) >= 2 + size
        strings.append(body[2 : 2 + size])
        body = body[2 + size :]
    return name, level, flags, keepalive, strings


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


# ---- the faults of umqtt.simple


def test_silent_link_after_connack_ends_within_budget(interpreter, tmp_path):
    """wait_msg forgets its timeout: umqtt.simple hangs here for ever."""

    def script(connection: Connection) -> None:
        connection.send(connack(), suback(connection.flight()[1].pid))
        connection.listen()

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url, budget=2).wake()
        assert ran.code == 1
        assert ran.one("error")["kind"] == "LinkError"
        assert ran.in_time(2)


def test_endless_stream_ends_within_budget(interpreter, tmp_path):
    """Bytes that never pause are no reason to stay awake: the deadline counts, whether or not there is more to read."""

    def script(connection: Connection) -> None:
        connection.welcome(connection.flight())
        while True:
            connection.send(b"\xd0\x00" * 5000)

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url, budget=2).wake()
    assert ran.code == 1
    assert ran.one("error")["why"] == "the wake's budget is used up"
    assert ran.in_time(2)


def test_message_that_never_ends_is_left_within_budget(interpreter, tmp_path):
    """The same inside one packet, which is read off in pieces."""

    def script(connection: Connection) -> None:
        connection.welcome(connection.flight())
        connection.send(publish(connection.topic("down/cmd"), b"", 1, size=200_000_000))
        while True:
            connection.send(b"x")
            time.sleep(0.02)

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url, budget=2).wake()
    assert ran.code == 1
    assert ran.in_time(2)


def test_message_cut_in_the_middle_is_not_handed_to_the_app(interpreter, tmp_path):
    """A short read at the end of the stream is handed over as a whole message; ours comes again, whole, and once."""
    whole = say("whole")

    def cut(connection: Connection) -> None:
        connection.welcome(connection.flight())
        topic = connection.topic("down/cmd")
        connection.send(publish(topic, whole, 7, size=len(whole) + 9))  # all of the JSON, not all of the message

    with Peer(cut, honest(whole, present=True)) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == ["whole"]
    assert peer.connections[0].of(PUBACK) == []


@pytest.mark.parametrize(
    "sent",
    [b"\x20\x02", connack(), connack() + b"\x90", connack() + b"\x30\x80", connack() + b"\x32\x20\x00\x0cdorm"],
    ids=["in CONNACK", "after CONNACK", "in SUBACK", "in a length", "in a topic"],
)
def test_end_of_stream_is_a_link_error_not_indexerror(interpreter, tmp_path, sent):
    """It surfaces as IndexError or TypeError in umqtt.simple, wherever the stream ends."""

    def script(connection: Connection) -> None:
        connection.flight()
        connection.send(sent)

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
    assert ran.code == 1
    assert ran.one("error")["kind"] == "LinkError", ran.output


def test_puback_order_never_matters(interpreter, tmp_path):
    """In nested wait loops each swallows the other's acknowledgements; here they come backwards, between commands."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        wake, telemetry, fence = flight[2:]
        connection.send(connack())
        connection.command(say("before SUBACK"))
        connection.send(puback(fence.pid))
        connection.command(say("second"))
        connection.send(suback(flight[1].pid), puback(telemetry.pid))
        connection.return_fence(fence)
        result = connection.until(lambda p: p.kind == PUBLISH and p.topic.endswith("up/result"))
        connection.command(say("beside its own result"))
        later = connection.until(lambda p: p.kind == PUBLISH and p.topic.endswith("up/result"))
        connection.silent(0.3)  # it waits for the acknowledgement of its wake report
        connection.send(puback(later.pid), puback(later.pid), puback(40000), puback(wake.pid))
        connection.silent(0.3)
        connection.send(puback(result.pid))
        connection.until(lambda p: p.kind == DISCONNECT)

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url, METRIC + APP).wake()
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == ["before SUBACK", "second", "beside its own result"]
    assert [result["status"] for result in peer.results()] == ["succeeded"] * 3


@pytest.mark.parametrize(
    "first, harmless", [(0xD0, True), (0x62, True), (0x70, False), (0xB0, False), (0xF0, False), (0x00, False)]
)
def test_unknown_packet_does_not_put_the_stream_out_of_step(interpreter, tmp_path, first, harmless):
    """Its body stays unread in umqtt.simple, and is then taken for packets: here the body is one."""
    body = (
        b"" if first == 0xD0 else b"\x00\x07" if harmless else publish("dormouse/dev/down/cmd", say("from a body"), 9)
    )

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight)
        connection.send(packet(first, body))
        connection.command(say("behind it"))
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(script, honest(say("behind it"), present=True)) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == ["behind it"]
    assert len(peer.connections) == (1 if harmless else 2)


READING = """
from dormouse import command, telemetry

@command("say", text=str)
def say(wake, text):
    return {"said": text}

@telemetry()
def climate(wake):
    return {"unit": "21,5 °C"}
"""


def test_non_ascii_topics_and_payloads_keep_lengths_in_bytes(interpreter, tmp_path):
    """umqtt.simple counts characters: one degree sign puts the broker out of step."""
    text = "21,5 °C 漢字 🌙"

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight)
        connection.command(b"{}", "down/größe/漢字")
        connection.command(b"{}", "down/" + 100 * "größe")
        connection.command(json.dumps({"do": "say", "args": {"text": text}}, ensure_ascii=False).encode())
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(script) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url, READING)
        device.secrets(user="Jürgen", password="pässwört €")
        ran = device.wake()
        connection = peer.settled().last
    assert ran.code == 0, ran.output
    strings = fields_of_connect(connection.received[0].body)[4]
    assert [string.decode() for string in strings] == ["dev", "Jürgen", "pässwört €"]
    assert connection.told("/up/telemetry")[0]["records"][0][2] == {"unit": "21,5 °C"}
    *rejected, done = connection.results()
    assert [result["why"] for result in rejected] == ["nothing listens to this topic"] * 2
    assert done["value"] == {"said": text}


def test_qos2_message_is_acknowledged_and_never_comes_again(interpreter, tmp_path):
    """`assert 0` in umqtt.simple: at -O it runs at every wake and is never acknowledged."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight)
        pid = connection.command(command(connection.state, 1, "say", text="exactly"), qos=2)
        assert connection.until(lambda p: p.kind == PUBREC).pid == pid
        connection.send(packet(0x62, struct.pack(">H", pid)))
        assert connection.until(lambda p: p.kind == PUBCOMP).pid == pid
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == ["exactly"]


def test_qos2_message_whose_pubrec_was_lost_runs_once(interpreter, tmp_path):
    """It is taken at its PUBLISH, as at QoS 1; the window knows it when it comes again."""

    def lost(connection: Connection) -> None:
        connection.welcome(connection.flight())
        connection.command(command(connection.state, 1, "say", text="once"), qos=2)
        connection.until(lambda p: p.kind == PUBREC)

    def again(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight, present=True)
        connection.command(command(connection.state, 1, "say", text="once"), qos=2)
        connection.return_fence(flight[-1])
        connection.serve()
        assert len(connection.of(PUBREC)) == 1

    with Peer(lost, again) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == ["once"]


RAISING = """
from dormouse import command

@command("fall")
def fall(wake):
    raise ValueError("over")
"""


def test_raising_handler_is_acknowledged_and_reported(interpreter, tmp_path, mosquitto):
    """A callback that raises is never acknowledged by umqtt.simple: it comes again at every wake, for ever."""
    device = Device(tmp_path / "device", interpreter, mosquitto.address.url, RAISING)
    device.wake()
    with Host(mosquitto.address) as host:
        host.send(command(None, 0, "fall"), command(None, 0, "ping"))
        ran = device.wake()
        assert ran.code == 0, ran.output
        failed, pong = host.results(2)
        assert (failed["status"], failed["why"]) == ("failed", "ValueError: over")
        assert pong["status"] == "succeeded"
        assert device.wake().all("command") == []


def test_payload_of_100_kb_and_one_of_8_mb_are_read_off_and_rejected(interpreter, tmp_path):
    """umqtt.simple allocates whatever length the wire says; here the heap is a board's, and the queue goes on."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight)
        connection.command(command(connection.state, 1, "say", text="y" * 100_000))
        connection.command(command(None, 0, "say", text="z" * 8_000_000))
        connection.command(say("behind them"))
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake(heap="128k")
        connection = peer.settled().last
    assert ran.code == 0, ran.output
    assert ran.said == ["behind them"]
    assert {each.pid for each in connection.of(PUBACK)} >= {101, 102, 103}
    results = connection.results()
    rejected = [(result.get("id"), result["why"]) for result in results if result["status"] == "rejected"]
    assert sorted(rejected, key=str) == [
        (f"{connection.state}-test.1", "100069 bytes, above the limit of 2048"),
        (None, "8000035 bytes, above the limit of 2048"),
    ]


def test_payload_that_claims_256_mb_allocates_nothing_and_its_queue_comes_over_the_next_connection(
    interpreter, tmp_path
):
    """The most that four bytes of length can say (MQTT 3.1.1, section 2.2.3): no heap holds it."""

    def script(connection: Connection) -> None:
        connection.welcome(connection.flight())
        topic = connection.topic("down/cmd")
        connection.send(publish(topic, b"{" * 1_000_000, 2, size=268_435_455 - len(topic) - 4))

    with Peer(script, honest(say("behind it"), present=True)) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake(heap="128k")
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == ["behind it"]
    assert [result["status"] for result in peer.results()] == ["succeeded"]


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
