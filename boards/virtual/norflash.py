"""NOR flash in a host file, for a real VfsLfs2 on MicroPython's unix port; it can lose power at any operation.

Must stay true: only erased bytes are programmed, as on the chip. Programming a byte that is not 0xFF ends the
process with status 70, whatever mode it runs in: it would be a fault of the file system or of this model.

    flash = NorFlash(posix.open("flash.img", "r+b"), 64, cut="17:torn", stop=libc_exit)
    fs = vfs.VfsLfs2(flash, progsize=32)          # 32 as on ESP32, 256 as on Pico W

`cut` is "n:mode": power goes at the n-th program or erase (from 1), in one of four ways:
    before   nothing of it was done
    half     its first half was done
    torn     each bit that had to change did or did not, at random (the same for the same n)
    after    it was done, but nobody was told
The process then ends through `stop(75)`, which must be libc's `_exit`, so that no `finally` and no buffer runs.
Times are typical ones of Winbond's W25Q32JV (data sheet, AC characteristics): 4 KiB sector erase 45 ms (400 ms at
most), page program of up to 256 bytes 0.4 ms (3 ms at most); rounded up here to 50 ms and 0.5 ms.
They pass where `pause` is given: it is called with the milliseconds of each operation, before that is done.
"""

import sys
from array import array

CUT = 75
FAULT = 70
ERASE_MS = 50
PAGE_MS = 0.5
_PAGE = 256


class NorFlash:
    """A block device with the extended interface. Counters: reads, read_bytes, programs, program_bytes, pages,
    erases, wear (erases per block), ops (programs and erases)."""

    def __init__(self, file, blocks, size=4096, cut=None, stop=None, erase=ERASE_MS, page=PAGE_MS, pause=None):
        self.file = file
        self.blocks = blocks
        self.size = size
        self.stop = stop
        self.times = erase, page
        self.pause = pause
        self.at = 0
        self.mode = ""
        if cut:
            at, self.mode = cut.split(":")
            self.at = int(at)
        self.ff = b"\xff" * _PAGE
        self.page = bytearray(_PAGE)  # a file may be closed by the garbage collector, and nothing be allocated then
        self.ops = 0
        self.wear = array("I", [0] * blocks)
        self.zero()

    def zero(self):
        """Set the counters of cost to nothing; ops and wear go on."""
        self.reads = self.read_bytes = self.programs = self.program_bytes = self.pages = self.erases = 0

    def ms(self):
        """Milliseconds that the programs and erases since zero() take at typical times."""
        return self.erases * self.times[0] + self.pages * self.times[1]

    def readblocks(self, block, buf, off=0):
        self.reads += 1
        self.read_bytes += len(buf)
        self.file.seek(block * self.size + off)
        self.file.readinto(buf)

    def writeblocks(self, block, buf, off=None):
        if off is None:
            self._op(block * self.size, self.size, None)
            off = 0
        self._op(block * self.size + off, len(buf), buf)

    def ioctl(self, op, arg):
        if op == 4:
            return self.blocks
        if op == 5:
            return self.size
        if op == 6:
            self._op(arg * self.size, self.size, None)
        return 0

    def _op(self, pos, length, data):
        self.ops += 1
        pages = 0
        if data is None:
            self.erases += 1
            self.wear[pos // self.size] += 1
        else:
            self.programs += 1
            self.program_bytes += length
            pages = (pos + length - 1) // _PAGE - pos // _PAGE + 1
            self.pages += pages
            self._check(pos, length)
        if self.pause:
            self.pause(pages * self.times[1] if pages else self.times[0])
        if self.ops != self.at:
            self._do(pos, length, data)
            return
        if self.mode == "after":
            self._do(pos, length, data)
        elif self.mode == "half":
            half = length // 2
            self._do(pos, half, None if data is None else memoryview(data)[:half])
        elif self.mode == "torn":
            self._tear(pos, length, data)
        elif self.mode != "before":
            raise ValueError(self.mode)
        self._stop(CUT)

    def _check(self, pos, length):
        while length > 0:
            n = min(length, _PAGE)
            self.file.seek(pos)
            self.file.readinto(self.page)
            clean = self.page == self.ff
            if not clean and n < _PAGE:  # what follows does not count
                i = 0
                while i < n and self.page[i] == 0xFF:
                    i += 1
                clean = i == n
            if not clean:
                sys.stderr.write(f"norflash: programs bytes that are not erased, at {pos}\n")
                self._stop(FAULT)
            pos += n
            length -= n

    def _do(self, pos, length, data):
        self.file.seek(pos)
        if data is not None:
            self.file.write(data)
            return
        while length > 0:
            n = min(length, _PAGE)
            self.file.write(self.ff if n == _PAGE else self.ff[:n])
            length -= n

    def _tear(self, pos, length, data):
        self.file.seek(pos)
        old = bytearray(self.file.read(length))
        x = self.ops * 2654435761 & 0xFFFFFFFF
        for i in range(length):
            x = (x * 1664525 + 1013904223) & 0xFFFFFFFF  # a linear congruential generator; its high bits are used
            if data is None:
                old[i] |= x >> 24
            else:
                old[i] &= data[i] | x >> 24
        self.file.seek(pos)
        self.file.write(old)

    def _stop(self, status):
        self.file.flush()
        if self.stop:
            self.stop(status)
        raise OSError(status)
