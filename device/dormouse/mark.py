"""A small value on flash, whole or absent, written again at no erase.

Must stay true: the file is replaced at one instant and believed only with its checksum: `crc of data u32, data`.
"""

from binascii import crc32
from struct import pack, unpack_from

from dormouse.errors import StorageError

_SEED = 77  # where its CRC-32 starts, so that no other file passes for one


class Mark:
    """A value of at most storage.inline - 4 bytes in a file of its own; writing it again costs no erase."""

    def __init__(self, storage, name):
        self._s = storage
        self._name = name

    def load(self):
        """The bytes last saved, or None when there are none or their checksum does not hold."""
        b = self._s.read(self._name)
        if b and len(b) > 3 and unpack_from("<I", b)[0] == crc32(b[4:], _SEED):
            return b[4:]
        return None

    def save(self, data):
        if len(data) > self._s.inline - 4:
            raise StorageError("%s: %d bytes do not fit" % (self._name, len(data)))
        self._s.replace(self._name, pack("<I", crc32(data, _SEED)) + data)
