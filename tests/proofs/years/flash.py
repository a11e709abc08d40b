"""A board's flash under littlefs, in memory: a file's content changes at one instant, when it is flushed or closed.

Must stay true: after a power cut nothing changes any more; what `open`, `os` and `vfs` are to ports/storage.py they are
here, so that the storage of a board runs unmodified. `operation(kind)` is called before and after each change, and
may end the world of whoever calls it. Now and then an append is cut in its middle: the contract allows that.
"""

import errno
from collections.abc import Callable
from typing import Any

INLINE = 128
BLOCK = 4096


class VfsLfs2:
    """What storage.py looks for."""


class Flash:
    """Files by path. `size` bytes fit."""

    def __init__(self, operation: Callable[[str, float], bool], size: int = 256 * 1024) -> None:
        """`operation(kind, ms)`: a change of that kind is about to be made, or was; True: half of it only."""
        self.files: dict[str, bytes] = {}
        self.size = size
        self._operation = operation
        self._used = 0

    def change(self, path: str, data: bytes | None, ms: float) -> None:
        """One atomic change; None removes."""
        self._operation("before", ms)
        old = self.files.get(path)
        grown = len(data or b"") - len(old or b"")
        if grown > 0 and self._used + grown > self.size:
            raise OSError(errno.ENOSPC, "No space left on device")
        if self._operation("half", 0) and old is not None and data is not None and data.startswith(old):
            data = data[: len(old) + (len(data) - len(old)) // 2]
            grown = len(data) - len(old)
        self._used += grown
        if data is None:
            self.files.pop(path, None)
        else:
            self.files[path] = data
        self._operation("after", 0)

    def wipe(self) -> None:
        """Everything is gone."""
        self.files.clear()
        self._used = 0

    # ---- what storage.py takes for os, open and vfs

    def open(self, path: str, mode: str = "rb") -> "_Reader | _Writer":
        """Like `open`."""
        if mode == "rb":
            if path not in self.files:
                raise OSError(errno.ENOENT, "No such file")
            return _Reader(self.files[path])
        return _Writer(self, path, self.files.get(path, b"") if mode == "ab" else b"", mode)

    def mkdir(self, path: str) -> None:
        """Folders need not be made."""

    def getcwd(self) -> str:
        """The root."""
        return "/"

    def listdir(self, path: str) -> list[str]:
        """Names in a folder."""
        return [name[len(path) :] for name in self.files if name.startswith(path) and "/" not in name[len(path) :]]

    def stat(self, path: str) -> tuple[int, ...]:
        """Its size is number 6."""
        if path not in self.files:
            raise OSError(errno.ENOENT, "No such file")
        return (0x8000, 0, 0, 0, 0, 0, len(self.files[path]), 0, 0, 0)

    def remove(self, path: str) -> None:
        """Remove a file."""
        self.stat(path)
        self.change(path, None, 2)

    def rename(self, old: str, new: str) -> None:
        """Rename, over what is there."""
        self.stat(old)
        self._operation("before", 3)
        gone = self.files.get(new)
        self._used -= len(gone or b"")
        self.files[new] = self.files.pop(old)
        self._operation("after", 0)

    def statvfs(self, path: str) -> tuple[int, ...]:
        """Free blocks are number 4."""
        return (BLOCK, BLOCK, self.size // BLOCK, 0, (self.size - self._used) // BLOCK, 0, 0, 0, 0, 255)

    def mount(self) -> list[tuple[Any, str]]:
        """One file system."""
        return [(VfsLfs2(), "/")]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._at + size
        piece = self._data[self._at : end]
        self._at += len(piece)
        return piece

    def close(self) -> None:
        pass


class _Writer:
    def __init__(self, flash: Flash, path: str, data: bytes, mode: str) -> None:
        self._flash, self._path, self._mode = flash, path, mode
        self._data = bytearray(data)
        self._dirty = True

    def write(self, data: bytes) -> int:
        self._data += data
        self._dirty = True
        return len(data)

    def flush(self) -> None:
        if self._dirty:
            self._dirty = False
            small = self._mode == "wb" and len(self._data) <= INLINE
            self._flash.change(self._path, bytes(self._data), 2 if small else 50 * (1 + len(self._data) // BLOCK))

    def close(self) -> None:
        self.flush()
