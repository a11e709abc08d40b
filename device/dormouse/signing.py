"""HMAC-SHA256 over payloads, with a key that this device and its ledger share (RFC 2104; MicroPython has no hmac).

Must stay true: what `check` returns was signed with this key, byte for byte, for this device and this leaf of its topic
(direction and kind, as `up/wake`); it takes as long for a wrong signature as for a right one; the key is in no message.
Loaded only where a key is set; the host imports this very file, too.
"""

from binascii import hexlify, unhexlify
from hashlib import sha256

from dormouse.errors import ConfigError

SIZE = 65  # bytes that a signature adds: a newline and 64 hex digits


class Signer:
    """`key` is 64 hex digits; `device` the id that stands in its topics."""

    def __init__(self, key, device):
        try:
            key = unhexlify(key)
        except (ValueError, TypeError):
            key = b""
        if len(key) != 32:
            raise ConfigError("secrets: command_key is 64 hex digits")
        self._inner, self._outer = (bytes(b ^ pad for b in key) + bytes((pad,)) * 32 for pad in (0x36, 0x5C))
        self._device = device

    def _mac(self, leaf, pieces):
        inner = sha256(self._inner)
        inner.update(("%s/%s\n" % (self._device, leaf)).encode())
        for data in pieces:
            inner.update(data)
        outer = sha256(self._outer)
        outer.update(inner.digest())
        return hexlify(outer.digest())

    def signature(self, leaf, pieces):
        """What goes behind the bytes in `pieces`."""
        return b"\n" + self._mac(leaf, pieces)

    def sign(self, leaf, data):
        """`data` with its signature behind it."""
        return data + self.signature(leaf, (data,))

    def check(self, leaf, data):
        """What was signed, or None where the signature is missing or not this key's."""
        end = max(0, len(data) - SIZE)
        wrong = len(data) <= SIZE or data[end] ^ 10
        for a, b in zip(self._mac(leaf, (memoryview(data)[:end],)), data[end + 1 :]):
            wrong |= a ^ b
        return None if wrong else bytes(data[:end])
