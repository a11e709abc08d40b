"""Checksummed records on flash, in groups: what a power cut can neither lose nor tear. Marks: one small value each.

Must stay true: when commit() or save() returns, a power cut takes nothing of it away; before that, all of it is
there or none. Nothing is believed without its checksum, and no length read from flash is allocated unchecked. Nothing
joins a group that goes to flash, nor keeps one that is read again: a heap that is nearly full has only small holes.

Little-endian; crc is CRC-32. seed = generation << 16 | base, where base is the length of the main file it follows.
    record      kind u8, length u16, data (at most 4096 bytes)
    group       length u16, crc of body (from a seed) u32, body
    <name>      the main file: a group (seed 77) with the generation u16, then groups (seed) of records
    <name>.t<i> the tail, i = 0, 1, …, each at most storage.inline bytes:
                crc of what follows (seed) u32, more u8 (1: the tail goes on in i + 1), a piece of the records
    <name>.r    the reserve: `limit` and 4 to 8 KiB, for compaction on a full file system
    mark        a file of its own: crc of data (seed 77) u32, data; written again at no erase
The tail follows the main file. Once a group is appended there, or another generation is renamed into its place, no
tail written before has the right seed: it is void without another write (docs/formats.md has every case).
"""

from binascii import crc32
from struct import pack, unpack_from

from dormouse.errors import StorageError

_SEED = 77  # of the first group, the head, and of a mark, so that no other file passes for one
_GROUP = 4099  # bytes of records in one commit, at most: one record of 4096 bytes
_PIECE = 256  # bytes of them in one object, if they are several
_BODY = 6144  # bytes of one group in the main file, at most: a commit and the tail before it


class Journal:
    """Append-only records in groups: open(), then add() … commit() as often as there is room().

    `limit`: bytes that the main file may grow to, at most 65535. `slots`: files in the tail, so that small groups
    cost no erase until they fill it. `part`: the number of this file in a ring of files `<name>.<part>`, which share
    one tail and have no reserve; commit(True) seals a part before the next one is opened.
    `lost`: bytes that open() dropped as torn.
    """

    def __init__(self, storage, name, limit, slots=4, part=None):
        self._s = storage
        self._name = name
        self._file = name if part is None else "%s.%d" % (name, part)
        self._limit = min(limit, 65535)
        self._slots = min(slots, (_BODY - _GROUP) // storage.inline)
        self._part = part
        self._base = self.lost = 0
        self.drop()

    def open(self):
        """Iterate over (kind, data) of all that is committed, in order. To be read to its end before anything else."""
        s = self._s
        self._reserve()
        self._base = 0
        end, self._gen = yield from read(s, self._file)
        lost = s.size(self._file) - end
        self._doubt = lost > 0
        if not end:  # none yet, or unreadable: no old tail may follow the new one
            self._gen = self._part
            if self._gen is None:
                self._gen = 1
                s.remove(self._slot(0))
            s.replace(self._file, b"".join(head(self._gen)))
            end = 8
            self._doubt = False
        self._void()
        tail = b""
        more = 1
        while more:
            b = s.read(self._slot(self._last))
            if not b or len(b) < 5 or unpack_from("<I", b)[0] != crc32(b[4:], _seed(self._gen, end)):
                break
            self._cut = len(tail)
            more = b[4]
            self._last += more
            tail += b[5:]
        if more:  # there is none; or, after damage that no cut does, it has no end
            lost += len(tail)
            tail = b""
            self._void()
        self._tail = tail
        yield from records(tail, 0, len(tail))
        self.lost = lost
        self._base = end

    def all(self):
        """Two iterators over (kind, data), one after the other of all that is committed by now; nothing is written."""
        return read(self._s, self._file, self._base), records(self._tail, 0, len(self._tail))

    def records(self, wanted):
        """Iterate over the data of what is committed, of the one kind that is wanted. Commit nothing meanwhile."""
        buf = b""  # a piece, and of a record that is wanted what came before it
        at = 8  # where in `buf` the next record begins, or past it; the head has none
        left = 0  # bytes of this group that are still to come
        more = self._base  # … and of the file
        for piece in self._s.chunks(self._file, 128):
            buf += piece[:more]
            more = max(0, more - len(piece))
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
        for kind, data in records(self._tail, 0, len(self._tail)):
            if kind == wanted:
                yield data

    def add(self, kind, data):
        """Take a record into the group, in RAM only. StorageError when group, record or journal would be too long."""
        n = len(data) + 3
        if n + self._size > _GROUP or n > self.room():
            raise StorageError("%s: no room for %d bytes" % (self._file, n))
        record = pack("<BH", kind, n - 3) + data
        if self._new and len(self._new[-1]) + n <= _PIECE:
            self._new[-1] += record
        else:
            self._new.append(record)
        self._size += n

    def drop(self):
        """Forget what was added and not committed."""
        self._new = []  # in pieces, and never in one: memory may be in small pieces, too
        self._size = 0

    def room(self):
        """Bytes of records, with 3 more than its data for each, that can still be added."""
        if not self._base:
            raise StorageError("%s is not open" % self._file)
        return self._limit - self._base - 6 - len(self._tail) - self._size

    def commit(self, seal=False):
        """Make what was added durable, as one group; `seal`: in the main file, and the tail with it.

        After a StorageError all of the group stays added: commit again, or drop() it. Until then, a power cut leaves
        all of it or nothing.
        """
        new = self._new
        if not (new or (seal and self._tail)):
            return
        seed = _seed(self._gen, self._base)
        step = self._s.inline - 5
        more = (len(self._tail) - self._cut + self._size - 1) // step  # slots after the one that is written again
        spill = seal or self._doubt or self._last + more >= self._slots
        if self._doubt:
            self._give_way()
            try:
                self._s.replace(self._file, self._whole())
            finally:
                self._reserve()
        self._doubt = True  # a write that fails may have been done, or in part
        if spill:
            self._s.append(self._file, group([self._tail] + new, seed))
            self._base += 6 + len(self._tail) + self._size
            self._void()
        else:
            new = b"".join(new)
            body = self._tail[self._cut :] + new
            for i in range(more, -1, -1):  # the first one last: until it is written, nobody reads on to the others
                b = bytes([i < more]) + body[i * step : i * step + step]
                self._s.replace(self._slot(self._last + i), pack("<I", crc32(b, seed)) + b)
            self._last += more
            self._cut += more * step
            self._tail += new
        self._doubt = False
        self.drop()

    def compact(self, records):
        """Let the journal hold `records`, an iterable of (kind, data), and nothing else. Old or new after a cut.

        What was added and not committed stays added. StorageError: it holds what it held before. A full file system
        is no reason for one, unless the records are longer than what the journal held.
        """
        self.room()  # is it open?
        gen = self._gen + 1 & 0xFFFF
        self._give_way()
        try:
            self._s.replace(self._file, self._image(gen, records))
        except StorageError:
            for _ in self.open():  # whether the new one got the name, only the file system knows
                pass
            raise
        self._reserve()
        self._gen = gen
        self._base = self._end
        self._doubt = False
        self._void()

    def _image(self, gen, records):
        yield from head(gen)
        self._end = 8
        pieces, size = [], 6
        for kind, data in records:
            if len(data) > 4096 or self._end + size + len(data) + 9 + self._size > self._limit:
                raise StorageError("%s: no room for what is to stay" % self._file)
            pieces += (pack("<BH", kind, len(data)), data)
            size += 3 + len(data)
            if size > 256:
                yield from group(pieces, _seed(gen, self._end))
                self._end += size
                pieces, size = [], 6
        if pieces:
            yield from group(pieces, _seed(gen, self._end))
            self._end += size

    def _whole(self):
        left = self._base
        for piece in self._s.chunks(self._file, 128):
            yield piece if len(piece) <= left else piece[:left]
            left = max(0, left - len(piece))

    def _give_way(self):
        """Before a main file is written beside the old one: where the file system is full, in the reserve's space."""
        s = self._s
        if self._part is None and s.free() < self._limit + 8192:
            s.remove(self._name + ".r")

    def _reserve(self):
        s = self._s
        name = self._name + ".r"
        size = s.size(name)
        if self._part is None and size < self._limit + 4096:
            n = min(self._limit + 8192, s.free()) // 512 - 1  # what the last block has left is littlefs' pointers
            if n * 512 > size:
                try:
                    empty = bytes(128)
                    s.replace(name, (empty for _ in range(n * 4)))
                except StorageError:
                    pass  # asked again at the next open

    def _void(self):
        self._tail = b""
        self._last = self._cut = 0

    def _slot(self, i):
        return "%s.t%d" % (self._name, i)


def _seed(generation, base):
    return generation << 16 | base


def read(storage, file, limit=65536):
    """Iterate over (kind, data) of the records in a main file, as far as its groups hold and begin before `limit`;
    nothing is written. `yield from` gives where they end, and the generation.
    """
    end = generation = 0
    buf = b""
    pieces = storage.chunks(file)
    for piece in pieces:
        buf += piece
        while len(buf) > 5:
            n, crc = unpack_from("<HI", buf)
            n += 6
            if len(buf) < n <= _BODY:
                break
            seed = _seed(generation, end) if end else _SEED
            if n > _BODY or end >= limit or crc != crc32(memoryview(buf)[6:n], seed):
                pieces.close()  # which ends the outer loop, too
                break
            if end:
                yield from records(buf, 6, n)
            else:
                generation = unpack_from("<H", buf, 6)[0]
            buf = buf[n:]
            end += n
    return end, generation


def records(b, i, end):
    """Iterate over (kind, data) of the records that `b` has from `i` to `end`."""
    while i < end - 2:
        kind, n = unpack_from("<BH", b, i)
        i += 3 + n
        yield kind, b[i - n : i]


def group(pieces, seed):
    """A group of the records in `pieces`, in pieces too."""
    size, crc = 0, seed
    for data in pieces:
        size += len(data)
        crc = crc32(data, crc)
    return [pack("<HI", size, crc)] + pieces


def head(generation):
    """The first group of a file, in pieces."""
    return group([pack("<H", generation)], _SEED)


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
