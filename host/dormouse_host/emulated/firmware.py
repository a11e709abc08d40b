"""MicroPython's firmware for an RP2040 as a file: UF2, or the bytes of flash from its start (.bin).

Must stay true: a file that is not for this board is refused before anything runs; a block that is missing is named.
"""

import struct
from pathlib import Path

from dormouse_host.errors import HostError
from dormouse_host.virtual.kind import BoardKind

BASE = 0x10000000  # where flash begins (RP2040 datasheet, 2.2)
_BLOCK = 512  # of a UF2 file
_WORDS = struct.Struct("<8I")  # magic, magic, flags, address, size, number, count, family
_MAGIC, _SECOND, _LAST = 0x0A324655, 0x9E5D5157, 0x0AB16F30  # UF2's specification
_NOT_FLASH, _HAS_FAMILY = 0x00000001, 0x00002000
_FAMILY = 0xE48BFF56  # RP2040
_ABSOLUTE = 0xE48BFF57  # the family of a block that picotool adds for RP2350's sake; the RP2040 ignores it
_MOST = 256  # bytes of flash in a block, as the RP2040's bootrom takes them
_LEAST = 0x1000


def load(file: Path, kind: BoardKind) -> bytes:
    """The bytes of flash from its start. HostError, code 2, where `file` is not firmware for that board."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise HostError(f"{file}: {error.strerror}", 2) from None
    image = _uf2(file, data) if data[:4] == _MAGIC.to_bytes(4, "little") else data
    if len(image) < _LEAST or image[:256] == bytes(256):
        raise HostError(f"{file} is no firmware of an RP2040: expected MicroPython's .uf2 or .bin", 2)
    if kind.machine.encode() not in image:
        raise HostError(f"{file} is not MicroPython for {kind.name}: it does not name {kind.machine!r}", 2)
    return image


def _uf2(file: Path, data: bytes) -> bytes:
    """The flash that the blocks of a UF2 file describe; what lies between them is erased."""
    image = bytearray()
    numbers: set[int] = set()
    expected = 0
    for at in range(0, len(data), _BLOCK):
        block = data[at : at + _BLOCK]
        if len(block) < _BLOCK or block[-4:] != _LAST.to_bytes(4, "little"):
            raise HostError(f"{file}: the UF2 block at byte {at} is broken or cut off", 2)
        first, second, flags, address, size, number, count, family = _WORDS.unpack_from(block)
        if (first, second) != (_MAGIC, _SECOND) or size > _BLOCK - _WORDS.size - 4:
            raise HostError(f"{file}: the UF2 block at byte {at} is broken", 2)
        if flags & _NOT_FLASH or (flags & _HAS_FAMILY and family == _ABSOLUTE):
            continue
        if flags & _HAS_FAMILY and family != _FAMILY:
            raise HostError(f"{file} is for another chip: UF2 family 0x{family:08x}, not 0x{_FAMILY:08x}", 2)
        start = address - BASE
        if not 0 <= start <= (16 << 20) - _MOST:
            raise HostError(f"{file}: a block for address 0x{address:08x}, which is not flash", 2)
        image.extend(b"\xff" * (start + size - len(image)))
        image[start : start + size] = block[_WORDS.size : _WORDS.size + size]
        numbers.add(number)
        expected = count
    missing = sorted(set(range(expected)) - numbers)
    if missing:
        raise HostError(f"{file} is incomplete: block {missing[0]} of {expected} is missing", 2)
    return bytes(image)
