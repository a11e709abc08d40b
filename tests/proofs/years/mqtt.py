"""MQTT 3.1.1 as a broker reads and writes it on a device's connection."""

from collections.abc import Iterator

Packet = tuple[int, bytes]


def packets(buffer: bytearray) -> Iterator[Packet]:
    """Whole packets at the beginning of the buffer, which they leave: first byte and body."""
    while True:
        size = shift = 0
        at = 1
        while True:
            if at >= len(buffer):
                return
            byte = buffer[at]
            size |= (byte & 127) << shift
            at += 1
            if byte < 128:
                break
            shift += 7
        if len(buffer) < at + size:
            return
        first, body = buffer[0], bytes(buffer[at : at + size])
        del buffer[: at + size]
        yield first, body


def text(body: bytes, at: int) -> tuple[bytes, int]:
    """A string with its length before it; where it ends."""
    end = at + 2 + (body[at] << 8 | body[at + 1])
    return body[at + 2 : end], end


def packet(first: int, body: bytes) -> bytes:
    """A whole packet."""
    size, length = len(body), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes((first,)) + length + body


def publish(topic: str, payload: bytes, qos: int, mid: int, *, retain: bool, dup: bool) -> bytes:
    """PUBLISH."""
    name = topic.encode()
    number = mid.to_bytes(2, "big") if qos else b""
    return packet(0x30 | dup << 3 | qos << 1 | retain, len(name).to_bytes(2, "big") + name + number + payload)
