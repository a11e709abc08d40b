"""The relay's own reading of MQTT packets gives what paho's does, however they are cut into pieces."""

import random
import socket

import pytest
from paho.mqtt import client as paho

from dormouse_host.broker.client import PACKET, Client
from support.peer import packet, publish

DICE = random.Random(7)
KINDS = [paho.MQTTv5, paho.MQTTv311]


class Reading:
    """A client whose socket is ours, and what it hands on."""

    def __init__(self, protocol: int, *, own: bool) -> None:
        self.ours, theirs = socket.socketpair()
        how = {} if protocol == paho.MQTTv5 else {"clean_session": False}
        self.client = Client("x", protocol=protocol, manual_ack=own, **how)
        self.client._sock = theirs
        theirs.setblocking(False)
        self.heard: list[tuple[str, bytes, int, bool]] = []
        self.client.on_message = self._hear

    def _hear(self, _client, _data, message) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "?"
        self.heard.append((topic, bytes(message.payload), message.qos, bool(message.retain)))

    def read(self, pieces: list[bytes]) -> int:
        """The result of the last look; one look at least after each piece, and more until nothing is left."""
        found = 0
        for piece in pieces:
            self.ours.sendall(piece)
            for _ in range(2 if len(piece) < 10 else 100):
                found = self.client.loop(0.0)
                if found:
                    return int(found)
        return int(found)


def flags(data: bytes, first: int) -> bytes:
    """The packet with these bits in its first byte."""
    return bytes([data[0] | first]) + data[1:]


def packets(protocol: int) -> list[bytes]:
    lead = b"\0" if protocol == paho.MQTTv5 else b""
    many = [publish(f"dormouse/dev{at}/up/wake", lead + DICE.randbytes(at * 7), at + 1) for at in range(60)]
    return [
        *many,
        publish("dormouse/dev/up/end", lead + b"{}", qos=0),
        flags(publish("dormouse/dev/up/wake", lead + b"{}", 7), 0x01),  # retained
        flags(publish("dormouse/dev/up/wake", lead + b"{}", 7), 0x08),  # once more
        publish("dormouse/dev/up/wake", lead, 8),
        publish("dormouse/dev/up/wake", lead + b"x" * 40_000, 9),
        packet(0xD0, b""),  # PINGRESP
        publish("a", lead + b"y", 10),
    ]


@pytest.mark.parametrize("protocol", KINDS)
@pytest.mark.parametrize("size", [1, 3, 1000, 100_000])
def test_messages_are_the_same_however_they_come(protocol, size):
    every = b"".join(packets(protocol))
    if size < 10:
        every = b"".join(packets(protocol)[:20])
    pieces = [every[at : at + size] for at in range(0, len(every), size)]
    own, theirs = Reading(protocol, own=True), Reading(protocol, own=False)
    assert own.read(pieces) == theirs.read(pieces) == paho.MQTT_ERR_SUCCESS
    assert own.heard == theirs.heard
    assert len(own.heard) in (20, 66)


def test_properties_are_passed_over():
    with_expiry = b"\x05\x02\0\0\0\x09"
    own = Reading(paho.MQTTv5, own=True)
    own.read([publish("a", with_expiry + b"x", 1) + publish("b", b"\0y", 2)])
    assert own.heard == [("a", b"x", 1, False), ("b", b"y", 1, False)]


def test_nothing_is_read_while_it_is_full_and_nothing_is_lost():
    own = Reading(paho.MQTTv5, own=True)

    def fill(*said) -> None:
        own._hear(*said)
        own.client.full = len(own.heard) % 2 == 0

    own.client.on_message = fill
    own.ours.sendall(b"".join(publish("a", b"\0" + bytes([at]), at + 1) for at in range(5)))
    counts = []
    for _ in range(4):
        own.client.loop(0.0)
        own.client.loop(0.0)
        counts.append(len(own.heard))
        own.client.full = False
    assert counts == [2, 4, 5, 5]


@pytest.mark.parametrize(
    "bad",
    [
        publish("a", b"\0x", 1, qos=2),
        packet(0x30, b"\0\x05ab"),  # a topic longer than its packet
        packet(0x32, b"\0\x01a"),  # without an id
        packet(0x36, b"\0\x01a\0\1\0"),  # QoS 3
        b"\x32\xff\xff\xff\xff\x7f",  # a length without an end
    ],
)
def test_a_malformed_packet_ends_it_as_in_paho(bad):
    own, theirs = Reading(paho.MQTTv5, own=True), Reading(paho.MQTTv5, own=False)
    found = [reading.read([publish("a", b"\0x", 1) + bad]) for reading in (own, theirs)]
    assert found[0] == found[1] != paho.MQTT_ERR_SUCCESS
    assert own.heard == theirs.heard == [("a", b"x", 1, False)]


def test_the_end_of_the_connection_is_seen():
    own = Reading(paho.MQTTv5, own=True)
    own.ours.sendall(publish("a", b"\0x", 1))
    own.ours.close()
    assert [own.client.loop(0.0) for _ in range(3)][-1] != paho.MQTT_ERR_SUCCESS
    assert own.heard == [("a", b"x", 1, False)]


def test_a_long_message_comes_truncated():
    own = Reading(paho.MQTTv5, own=True)
    data = publish("a", b"\0" + b"x" * 3 * PACKET, 1) + publish("b", b"\0y", 2)
    own.read([data[at : at + 20_000] for at in range(0, len(data), 20_000)])
    assert [topic for topic, *_ in own.heard] == ["a", "b"]
    assert len(own.heard[0][1]) < 2 * PACKET
