"""A board's flash under littlefs, in memory: a file's content changes at one instant, when it is flushed or closed.

Must stay true: after a power cut nothing changes any more; what `open`, `os` and `vfs` are to ports/storage.py they are
here, so that the storage of a board runs unmodified. `operation(kind)` is called before and after each change, and
may end the world of whoever calls it. Now and then an append is cut in its middle: the contract allows that. A change
that flash refuses changes nothing.
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
        self.refuses: Callable[[int], int] = lambda _grown: 0  # errno for a change that takes so many bytes more, or 0
        self._operation = operation
        self.used = 0  # bytes that are taken
        self.path = ""  # of what is changed now

    def change(self, path: str, data: bytes | None, ms: float) -> None:
        """One atomic change; None removes."""
        self.path = path
        self._operation("before", ms)
        old = self.files.get(path)
        grown = len(data or b"") - len(old or b"")
        if grown > 0 and self.used + grown > self.size:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._refuse(grown)
        if self._operation("half", 0) and old is not None and data is not None and data.startswith(old):
            data = data[: len(old) + (len(data) - len(old)) // 2]
            grown = len(data) - len(old)
        self.used += grown
        if data is None:
            self.files.pop(path, None)
        else:
            self.files[path] = data
        self._operation("after", 0)

    def _refuse(self, grown: int) -> None:
        if number := self.refuses(grown):
            raise OSError(number, "flash")

    def wipe(self) -> None:
        """Everything is gone."""
        self.files.clear()
        self.used = 0

    def put(self, path: str, data: bytes) -> None:
        """What a flash from outside writes."""
        self.used += len(data) - len(self.files.get(path, b""))
        self.files[path] = data

    # ---- what storage.py takes for os, open and vfs

    def open(self, path: str, mode: str = "r") -> "_Reader | _Writer":
        """Like `open`, with Latin-1 for text."""
        if mode in ("r", "rb"):
            if path not in self.files:
                raise OSError(errno.ENOENT, "No such file")
            data = self.files[path]
            return _Reader(data if mode == "rb" else data.decode("latin-1"))
        return _Writer(self, path, self.files.get(path, b"") if mode == "ab" else b"", mode)

    def mkdir(self, path: str) -> None:
        """Folders need not be made."""

    def getcwd(self) -> str:
        """The root."""
        return "/"

    def listdir(self, path: str) -> list[str]:
        """Names in a folder, of files and of folders."""
        path = path.rstrip("/") + "/"
        return list(dict.fromkeys(name[len(path) :].partition("/")[0] for name in self.files if name.startswith(path)))

    def rmdir(self, path: str) -> None:
        """A folder is there while a file in it is."""

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
        self.path = new
        self._operation("before", 3)
        self._refuse(0)
        gone = self.files.get(new)
        self.used -= len(gone or b"")
        self.files[new] = self.files.pop(old)
        self._operation("after", 0)

    def statvfs(self, path: str) -> tuple[int, ...]:
        """Free blocks are number 4."""
        return (BLOCK, BLOCK, self.size // BLOCK, 0, (self.size - self.used) // BLOCK, 0, 0, 0, 0, 255)

    def mount(self) -> list[tuple[Any, str]]:
        """One file system."""
        return [(VfsLfs2(), "/")]


class _Reader:
    def __init__(self, data: Any) -> None:
        self._data, self._at = data, 0

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int = -1) -> Any:
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

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: Any) -> int:
        self._data += data.encode("latin-1") if isinstance(data, str) else data
        self._dirty = True
        return len(data)

    def flush(self) -> None:
        if self._dirty:
            self._dirty = False
            small = self._mode[0] == "w" and len(self._data) <= INLINE
            self._flash.change(self._path, bytes(self._data), 2 if small else 50 * (1 + len(self._data) // BLOCK))

    def close(self) -> None:
        self.flush()
