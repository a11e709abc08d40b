"""The agent as a process of this machine: command line and environment for CPython or MicroPython.

The process imports the agent, umqtt.simple and its device folder, and nothing from this process's import path.
MicroPython gets what a board has: the agent compiled to .mpy, and a heap for as many objects, on 32 bits and on 64.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dormouse_host.agent import mpy, toolchain
from dormouse_host.errors import HostError

Kind = Literal["cpython", "micropython"]
BOARD_HEAP = "192k"  # free after the start of an ESP32 or a Pico W, 32 bit


def command(
    kind: Kind, device_dir: str | Path, heap: str = BOARD_HEAP, *, rom: bool = False
) -> tuple[list[str], dict[str, str]]:
    """argv and environment of one wake of the device in `device_dir`. NoMicropython where MicroPython is missing.

    `rom`: on MicroPython the agent is run from a ROMFS image, not copied into the heap.
    """
    if rom and kind == "micropython":
        found, image = toolchain.require_micropython(), mpy.rom(toolchain.agent_folder())
        arguments = [str(Path(__file__).with_name("romfs_wake.py")), str(image), str(device_dir)]
        extra = 0 if found.ffi else image.stat().st_size
        return interpreter(kind, arguments, [], heap, extra)
    library = mpy.bundle(toolchain.agent_folder()) if kind == "micropython" else toolchain.agent_folder()
    return interpreter(kind, ["-m", "dormouse.ports.posix", str(device_dir)], [library], heap)


def interpreter(
    kind: Kind, arguments: Sequence[str], path: Sequence[Path], heap: str = BOARD_HEAP, extra: int = 0
) -> tuple[list[str], dict[str, str]]:
    """argv and environment that run `arguments` with `path` and umqtt.simple to import from. `extra`: bytes of heap
    that no board has.
    """
    folders = [*map(str, path), str(toolchain.umqtt_folder())]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MICROPYPATH")}
    if kind == "cpython":
        environment["PYTHONPATH"] = os.pathsep.join(folders)
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # a device folder holds what a device put there
        return [sys.executable, *arguments], environment
    found = toolchain.require_micropython()
    environment["MICROPYPATH"] = ":".join([*folders, ".frozen"])
    return [str(found.path), "-X", f"heapsize={heap_size(heap, found.bits, extra)}", *arguments], environment


def heap_size(heap: str, bits: int, extra: int = 0) -> str:
    """`heap` as on a board, for an interpreter of `bits`: twice on 64, where every word is twice as wide; and `extra`
    bytes more.
    """
    if not (heap[:-1].isdigit() and heap[-1] in "kM"):
        raise HostError(f"heap {heap}: expected a size such as 192k or 1M", 2)
    size = f"{int(heap[:-1]) * bits // 32}{heap[-1]}"
    return size if not extra else str((int(size[:-1]) << (10 if size[-1] == "k" else 20)) + extra)
