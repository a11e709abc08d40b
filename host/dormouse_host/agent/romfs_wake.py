"""One wake with the agent in a ROMFS image; it runs on MicroPython's unix port.

The image is outside of the heap, as a board's flash is; agent and umqtt.simple are imported from it. An interpreter
without ffi can't map it: there it is in the heap, which `process.command` makes larger by as much.

    micropython wake.py IMAGE FOLDER       exits as `dormouse.ports.posix` does
"""

import sys


def mount(path):
    """Map the file into memory, and mount it where a board has its ROM partition."""
    import vfs

    vfs.mount(vfs.VfsRom(image(path)), "/rom")
    sys.path.insert(0, "/rom/lib")


def image(path):
    """The file's bytes."""
    import os

    try:
        import ffi
    except ImportError:
        with open(path, "rb") as file:
            return file.read()
    import uctypes

    libc = ffi.open("libc.so.6")
    file = libc.func("i", "open", "si")(path, 0)  # O_RDONLY
    size = os.stat(path)[6]
    at = libc.func("P", "mmap", "PLiiiL")(0, size, 1, 2, file, 0)  # PROT_READ, MAP_PRIVATE
    return uctypes.bytearray_at(at, size)


mount(sys.argv[1])
from dormouse.ports.posix import main  # noqa: E402

sys.exit(main(sys.argv[2]))
