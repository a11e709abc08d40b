"""paho's client with a bound on what a broker can make it keep.

Must stay true: no packet takes more memory than PACKET, however long it says it is; nothing waits without end in paho
to be sent to a broker that does not read; a message that nobody asked for at QoS 2 is not kept. A PUBLISH that is
longer is read off in pieces, and its payload reaches `on_message` cut off at the end, so that the session goes on and
whoever stores it says what was wrong; anything else that breaks a bound ends the connection, with a reason in `broke`.
"""

from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PACKET = 66_000  # bytes; the largest payload that the relay reads is 64 KiB
_PIECE = 16 * 1024  # bytes that are read at once of what is thrown away
_ANSWERS = 70_000  # packets that may wait to be sent beside our own publishes: more than there are packet ids
_PUBLISH, _QOS, _QOS2 = 0x30, 0x06, 0x04  # first byte of a packet: MQTT 3.1.1, section 3.3.1


class Client(paho.Client):
    """As paho's, with callbacks of version 2."""

    def __init__(self, client_id: str = "", **how: Any) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id, **how)
        self.broke = ""  # the bound that the broker broke, in words
        self.full = False  # nothing more is read until this is taken back: what came is to be worked off first

    def _packet_read(self) -> MQTTErrorCode:
        return MQTTErrorCode.MQTT_ERR_AGAIN if self.full else super()._packet_read()

    def _sock_recv(self, size: int) -> bytes:
        packet = self._in_packet
        if not packet["have_remaining"]:  # first byte or length
            return super()._sock_recv(size)
        self._check(packet["command"], packet["remaining_length"])
        room = PACKET - len(packet["packet"])
        if room > 0:
            return super()._sock_recv(min(size, room))
        data = super()._sock_recv(min(size, _PIECE))
        if len(data) > 1:  # paho takes nothing for the end of the connection: one byte stands for the piece
            packet["to_process"] -= len(data) - 1
        return data[:1]

    def _check(self, command: int, length: int) -> None:
        publish = command & 0xF0 == _PUBLISH
        if publish and command & _QOS == _QOS2:
            self.broke = "it sent a message at QoS 2, which was not subscribed to"
        elif not publish and length > PACKET:
            self.broke = f"it sent a packet of {length} bytes"
        elif len(self._out_packet) > _ANSWERS + len(self._out_messages):
            self.broke = "it sends without end and reads no answer"
        if self.broke:
            raise ConnectionError(self.broke)


def asked(**values: int) -> Properties:
    """The properties of an MQTT 5 CONNECT: these, and the largest packet that the broker is to send."""
    properties = Properties(PacketTypes.CONNECT)
    properties.MaximumPacketSize = PACKET
    for name, value in values.items():
        setattr(properties, name, value)
    return properties
