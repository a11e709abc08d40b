"""The flash chip of an emulated board: counters, wear per sector, the file system's part in a file, power cuts.

Must stay true: the file holds at every instant what the chip holds; after a cut nothing more is written. `cut` is
"n:mode" as in boards/virtual/norflash.py: power goes at the n-th program or erase from the boot on, `before` it,
after `half` of it, `torn` (each bit changed or not, the same for the same n) or `after` it.
"""

import random
from collections.abc import Callable
from pathlib import Path

from dormouse_host.virtual.cuts import parse_cut

SECTOR, PAGE = 4096, 256


class Nor:
    """`memory` is the chip, `start` where the file system begins in it, `file` what holds that part."""

    def __init__(self, memory: memoryview, start: int, size: int, file: Path, on_cut: Callable[[], object]) -> None:
        self._memory, self._start, self._on_cut = memory, start, on_cut
        if not file.is_file() or file.stat().st_size != size:
            file.write_bytes(b"\xff" * size)
        memory[start : start + size] = file.read_bytes()
        self._file = file.open("r+b", buffering=0)
        self._size = size
        self.erases = self.programs = self.program_bytes = 0
        self.ops = 0  # programs and erases since the boot
        self.wear = [0] * (size // SECTOR)
        self._cut: tuple[int, str] | None = None
        self.dead = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def boot(self, cut: str | None) -> None:
        """A boot: operations count anew; `cut` is where the power goes."""
        self.ops = 0
        self.dead = False
        self._cut = parse_cut(cut) if cut else None

    def erase(self, address: int, size: int) -> None:
        """Erase `size` bytes, a sector or 64 KiB."""
        self.erases += size // SECTOR
        for at in range(address, address + size, SECTOR):
            block = (at - self._start) // SECTOR
            if 0 <= block < len(self.wear):
                self.wear[block] += 1
        half = b"\xff" * (size // 2) + bytes(self._memory[address + size // 2 : address + size])
        self._change(address, b"\xff" * size, half)

    def program(self, address: int, data: bytes) -> None:
        """Program up to a page: bits only go from 1 to 0, and a page wraps at its end."""
        self.programs += 1
        self.program_bytes += len(data)
        page = address & -PAGE
        self._change(page, self._programmed(address, data), self._programmed(address, data[: len(data) // 2]))

    def _programmed(self, address: int, data: bytes) -> bytes:
        page, offset = address & -PAGE, address % PAGE
        now = bytearray(self._memory[page : page + PAGE])
        for n, byte in enumerate(data):
            now[(offset + n) % PAGE] &= byte
        return bytes(now)

    def _change(self, address: int, new: bytes, half: bytes) -> None:
        if self.dead:
            return
        self.ops += 1
        if self._cut and self.ops == self._cut[0]:
            self._write(address, half if self._cut[1] == "half" else self._in_part(address, new, self._cut[1]))
            self.dead = True
            self._on_cut()
        else:
            self._write(address, new)

    def _in_part(self, address: int, new: bytes, mode: str) -> bytes:
        old = bytes(self._memory[address : address + len(new)])
        if mode == "before":
            return old
        if mode == "torn":
            mask = random.Random(self.ops).randbytes(len(new))
            return bytes((n & m) | (o & ~m & 0xFF) for n, o, m in zip(new, old, mask, strict=True))
        return new

    def _write(self, address: int, data: bytes) -> None:
        self._memory[address : address + len(data)] = data
        first, last = max(address, self._start), min(address + len(data), self._start + self._size)
        if first < last:
            self._file.seek(first - self._start)
            self._file.write(data[first - address : last - address])
