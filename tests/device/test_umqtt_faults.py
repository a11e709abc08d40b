"""What umqtt.simple gets wrong and the session makes good (docs/design.md).

Must stay true: the packets are read here byte by byte (tests/support/peer.py), by no code of the device's; each fault
of umqtt.simple has a test of its own, which fails when its workaround in session.py is taken out.
"""

import json
import struct
import time

import pytest

from support.device_folder import APP, Device, Host, command, say
from support.peer import (
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    Connection,
    Peer,
    connack,
    honest,
    packet,
    puback,
    publish,
    suback,
)
from support.session import METRIC, fields_of_connect


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
        assert (failed["status"], failed["why"].partition(" at ")[0]) == ("failed", "ValueError: over")
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
