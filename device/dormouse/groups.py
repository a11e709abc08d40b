"""Records and groups of them as bytes: what the journal's files are made of.

Must stay true: nothing here joins a group that goes to flash, nor keeps one that is read again: a heap that is nearly
full has only small holes left.

Little-endian; crc is CRC-32.
    record      kind u8, length u16, data (at most 4096 bytes)
    group       length u16, crc of body (from a seed) u32, body
"""

from binascii import crc32
from struct import pack, unpack_from

SEED = 77  # of the first group, the head: the generation u16


def records(b, i, end):
    """Iterate over (kind, data) of the records that `b` has from `i` to `end`."""
    while i < end - 2:
        kind, n = unpack_from("<BH", b, i)
        i += 3 + n
        yield kind, bytes(b[i - n : i])


def wanted_of(pieces, wanted):
    """Iterate over the data of all records of one kind in a file that begins with its head and was found right."""
    buf = b""  # a piece, and of a record that is wanted what came before it
    at = 8  # where in `buf` the next record begins, or past it; the head has none
    left = 0  # bytes of this group that are still to come
    for piece in pieces:
        buf += piece
        while len(buf) - at >= (3 if left else 6):
            if not left:
                left = unpack_from("<H", buf, at)[0]
                at += 6
                continue
            kind, n = unpack_from("<BH", buf, at)
            n += 3
            if kind == wanted:
                if at + n > len(buf):
                    break
                yield buf[at + 3 : at + n]
            at += n
            left -= n
        at -= len(buf)
        buf = buf[at:] if at < 0 else b""
        at = max(at, 0)


def group(pieces, seed):
    """A group of the records in `pieces`, in pieces too."""
    size, crc = 0, seed
    for data in pieces:
        size += len(data)
        crc = crc32(data, crc)
    return [pack("<HI", size, crc)] + pieces


def head(generation):
    """The first group of a file, in pieces."""
    return group([pack("<H", generation)], SEED)
