"""What the tests of the session share: an app with one long reading, and the fields of a CONNECT."""

import struct

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
