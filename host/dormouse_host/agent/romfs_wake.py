"""One wake with the agent in a ROMFS image; it runs on MicroPython's unix port.

The image is outside of the heap, as a board's flash is; agent and umqtt.simple are imported from it.

    micropython wake.py IMAGE FOLDER       exits as `dormouse.ports.posix` does
"""

import sys


def mount(path):
    """Map the file into memory, and mount it where a board has its ROM partition."""
    import os

    import ffi
    import uctypes
    import vfs

    libc = ffi.open("libc.so.6")
    file = libc.func("i", "open", "si")(path, 0)  # O_RDONLY
    size = os.stat(path)[6]
    at = libc.func("P", "mmap", "PLiiiL")(0, size, 1, 2, file, 0)  # PROT_READ, MAP_PRIVATE
    vfs.mount(vfs.VfsRom(uctypes.bytearray_at(at, size)), "/rom")
    sys.path.insert(0, "/rom/lib")


mount(sys.argv[1])
from dormouse.ports.posix import main  # noqa: E402

sys.exit(main(sys.argv[2]))
