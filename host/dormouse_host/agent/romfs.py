"""The agent as a ROMFS image, which MicroPython runs where it lies instead of copying it into the heap.

Must stay true: what is in an image is byte for byte what a flash puts onto the board's file system, under the same
paths; the same files always give the same image.

    romfs_wake.py      one wake from an image, which runs on MicroPython's unix port
"""

from collections.abc import Mapping
from typing import Any

from mpremote.romfs import VfsRomWriter


def image(files: Mapping[str, bytes]) -> bytes:
    """An image with `files`, path -> content (https://docs.micropython.org/en/latest/reference/romfs.html)."""
    tree: dict[str, Any] = {}
    for path, data in sorted(files.items()):
        *folders, name = path.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = data
    writer = VfsRomWriter()
    _add(writer, tree)
    return bytes(writer.finalise())


def _add(writer: VfsRomWriter, tree: dict[str, Any]) -> None:
    for name, content in tree.items():
        if isinstance(content, dict):
            writer.opendir(name)
            _add(writer, content)
            writer.closedir()
        else:
            writer.mkfile(name, content)
