"""Our wake on littlefs over simulated NOR flash; it runs on MicroPython.

The agent is the one that is flashed, and everything that it writes goes to the flash that is counted.

    micropython nor.py IMAGE BLOCKS FOLDER PROGRAM       prints `flash ERASES MS` and `memory BYTES` at its end
"""

import gc
import sys

import norflash
import vfs

import dormouse
from dormouse.ports.posix import Port

IMAGE, BLOCKS, FOLDER, PROGRAM = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])


class Board(Port):
    """The device in FOLDER with its state on flash."""

    peak = 0

    def __init__(self):
        super().__init__(FOLDER)
        self.storage = type(self.storage)("/flash/state")

    def emit(self, line):
        gc.collect()
        Board.peak = max(Board.peak, gc.mem_alloc())
        super().emit(line)


def main():
    """Mount, run one wake, print the figures."""
    flash = norflash.NorFlash(open(IMAGE, "r+b"), BLOCKS)
    sys.path.insert(0, FOLDER)
    try:
        vfs.mount(vfs.VfsLfs2(flash, progsize=PROGRAM), "/flash")
    except OSError:
        vfs.VfsLfs2.mkfs(flash, progsize=PROGRAM)
        vfs.mount(vfs.VfsLfs2(flash, progsize=PROGRAM), "/flash")
    flash.zero()
    gc.collect()
    before = gc.mem_alloc()
    failure = dormouse.run("app", Board())
    print("flash", flash.erases, flash.ms())
    print("memory", Board.peak - before)
    sys.exit(0 if failure is None else 1)


main()
