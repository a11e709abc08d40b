"""Files that hold secrets, and files that another process reads or replaces while we rewrite them.

Must stay true: a file is there whole or not at all; it is never readable by more than it should be; it belongs to the
owner of its folder; whoever can write to that folder has no say in what is read or written instead (places.py). What is
read in order to be rewritten is read and written by one process at a time, in `alone`.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dormouse_host import places
from dormouse_host.errors import HostError

PRIVATE, SHARED, PUBLIC = 0o600, 0o640, 0o644  # SHARED: for the folder's group, where that may read the folder
_PATIENCE = 60.0  # seconds to wait for other processes, each of which takes one at most unless the broker is silent
_LOOK = 0.02  # seconds between two tries
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def folder(path: Path, mode: int = 0o700) -> Path:
    """Create a folder with its parents, unless it exists. HostError where that is impossible."""
    try:
        with places.folder(path, mode):
            return path
    except OSError as error:
        raise _cannot("create", path, error) from None


def give(path: Path, user: int, group: int, mode: int) -> None:
    """Give a folder to this user and group. HostError where that is impossible."""
    try:
        with places.folder(path) as at:
            here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
            try:
                os.fchown(here, user, group)
                os.fchmod(here, mode)
            finally:
                os.close(here)
    except OSError as error:
        raise _cannot("change the owner of", path, error) from None


def write(path: Path, data: str | bytes, mode: int = PRIVATE) -> None:
    """Replace the file by one with `data`, atomically. HostError where that is impossible."""
    blob = data.encode() if isinstance(data, str) else data
    try:
        with places.folder(path.parent) as at:
            aside = f".{path.name}-{secrets.token_hex(4)}"
            _check_target(at, path.name)
            try:
                _fill(at, aside, blob, mode)
                os.rename(aside, path.name, src_dir_fd=at, dst_dir_fd=at)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(aside, dir_fd=at)
                raise
    except OSError as error:
        raise _cannot("write", path, error) from None


def _check_target(at: int, name: str) -> None:
    """Only a plain file may be replaced."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            raise places.Unsafe("not a plain file")


def _fill(at: int, name: str, blob: bytes, mode: int) -> None:
    """Write a new file, which only its owner can read until it is whole."""
    with os.fdopen(os.open(name, _CREATE, PRIVATE, dir_fd=at), "wb") as file:
        file.write(blob)
        file.flush()
        os.fsync(file.fileno())
        owner = os.fstat(at)
        if os.geteuid() == 0:
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        os.fchmod(file.fileno(), mode & (owner.st_mode | PRIVATE) if mode == SHARED else mode)


def new(path: Path) -> BinaryIO:
    """A new file, open for writing. FileExistsError where there is one, else OSError."""
    with places.folder(path.parent) as at:
        return os.fdopen(os.open(path.name, _CREATE, PRIVATE, dir_fd=at), "wb")


def fresh(path: Path) -> BinaryIO:
    """A new file in place of an existing one, open for writing. HostError where that is impossible."""
    remove(path)
    try:
        return new(path)
    except OSError as error:
        raise _cannot("write", path, error) from None


def find(path: Path) -> bytes | None:
    """The bytes of a file; None where there is none. HostError where it cannot be read."""
    try:
        with places.folder(path.parent) as at, os.fdopen(places.opened(at, path.name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _cannot("read", path, error) from None


def read(path: Path, default: str | None = None) -> str:
    """The text of a file. HostError where there is none and no `default`."""
    found = find(path)
    if found is None:
        if default is not None:
            return default
        raise _cannot("read", path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    try:
        return found.decode()
    except UnicodeError as error:
        raise _cannot("read", path, error) from None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is no file. HostError where it holds something else."""
    try:
        text = find(path)
        found = {} if text is None else json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise damaged(path)
    return found


def remove(path: Path) -> None:
    """Remove a file if it exists. HostError where that is impossible."""
    try:
        with places.folder(path.parent) as at:
            os.unlink(path.name, dir_fd=at)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _cannot("remove", path, error) from None


def lock(path: Path) -> tuple[int, bool]:
    """Open a lock file, created if missing: its descriptor, and whether this process holds it until that is closed."""
    try:
        with places.folder(path.parent) as at:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path.name, _CREATE, PRIVATE, dir_fd=at))
            descriptor = places.opened(at, path.name, os.O_RDWR)
    except OSError as error:
        raise _cannot("open", path, error) from None
    return descriptor, _taken(descriptor)


def damaged(path: Path) -> HostError:
    """The error for a file of ours with unexpected content."""
    return HostError(f"{path} is damaged: restore a copy of it", 2)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock on the folder, which no other process changes meanwhile; not to be nested. HostError after a timeout.

    The lock is on the folder itself, so that it leaves no file, and ends with the process.
    """
    try:
        with places.folder(path) as at:
            descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
    except OSError as error:
        raise _cannot("open", path, error) from None
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _taken(descriptor):
            if time.monotonic() > deadline:
                raise HostError(f"{path} is locked by another process for {_PATIENCE:.0f} s")
            time.sleep(_LOOK)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _cannot(what: str, path: Path, error: Exception) -> HostError:
    why = getattr(error, "strerror", None) or "not text"
    return HostError(f"cannot {what} {path}: {why}", 2)
