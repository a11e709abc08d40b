"""How the way to a file is walked: folder by folder, each opened below the one before.

Must stay true: only root and this process's user decide where a path leads: a symbolic link is followed only where it
and its folder belong to one of them, and the last part of a path is no link. An opened file is a plain file with one
name; a link put in its place between the check and the use changes nothing, because what was checked is used.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_WALK = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe without a writer opens at once
_LINKS = 40  # on one way, as Linux counts them
_TRIES = 100  # while other processes put new files in this one's place


class Unsafe(OSError):
    """The file is refused; `strerror` says why."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.ELOOP, why)


@contextmanager
def folder(path: Path, make: int | None = None) -> Iterator[int]:
    """A descriptor of the folder `path`, to open things below. `make`: the mode of missing folders, which are created.

    OSError where there is none, Unsafe where another user decides where it is.
    """
    parts = [*reversed(path.parts)]
    at = os.open(parts.pop() if path.is_absolute() else ".", _WALK)
    links = 0
    try:
        while parts:
            name = parts.pop()
            try:
                below = _enter(at, name, make)
            except NotADirectoryError:
                leads = Path(_link(at, name))
                links += 1
                if links > _LINKS:
                    raise Unsafe("too many links") from None
                parts += reversed(leads.parts)
                if leads.is_absolute():
                    below = os.open(parts.pop(), _WALK)
                else:
                    continue
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


def _enter(at: int, name: str, make: int | None) -> int:
    try:
        return os.open(name, _WALK, dir_fd=at)
    except FileNotFoundError:
        if make is None:
            raise
    with suppress(FileExistsError):  # another process was faster, or it is a link to nowhere
        os.mkdir(name, make, dir_fd=at)
    return os.open(name, _WALK, dir_fd=at)


def _link(at: int, name: str) -> str:
    """The target of a link that may be followed. NotADirectoryError where it is no link."""
    found = os.stat(name, dir_fd=at, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    trusted = {0, os.geteuid()}
    if found.st_uid not in trusted or os.fstat(at).st_uid not in trusted:
        raise Unsafe(f"{name} is a link that another user can change")
    return os.readlink(name, dir_fd=at)


def opened(at: int, name: str, flags: int = os.O_RDONLY) -> int:
    """A plain file of one name in the folder `at`. OSError where there is none, Unsafe where it is a link of either
    kind, a pipe or a device.
    """
    for _ in range(_TRIES):
        try:
            found = os.open(name, _FILE | flags, dir_fd=at)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):  # a link; a socket
                raise Unsafe("not a plain file") from None
            raise
        try:
            if _is_plain(at, name, found):
                return found
        except BaseException:
            os.close(found)
            raise
        os.close(found)
    raise Unsafe("it is replaced all the time")


def settled(path: Path) -> None:
    """For a program that opens files by their paths: Unsafe where another user may say where this one leads, or put
    another file in its place or beside it, or where it is no file. Nothing is opened, because SQLite's locks end where
    their process closes the file; where there is no file yet, only its folder is judged.
    """
    for _ in range(_LINKS):
        with folder(path.parent) as at:
            ours = os.fstat(at)
            if ours.st_uid not in (0, os.geteuid()):
                raise Unsafe("its folder belongs to another user, who could replace it")
            if ours.st_mode & stat.S_IWOTH:
                raise Unsafe("everybody may write in its folder, and could replace it")
            try:
                found = os.stat(path.name, dir_fd=at, follow_symlinks=False)
            except FileNotFoundError:
                return
            if stat.S_ISLNK(found.st_mode):
                path = path.parent / _link(at, path.name)
                continue
            if not stat.S_ISREG(found.st_mode):
                raise Unsafe("not a plain file")
            return
    raise Unsafe("too many links")


def _is_plain(at: int, name: str, found: int) -> bool:
    """Is this the file of that name, with no other name? False where the name belongs to another file now.

    The name is queried in one call: by the descriptor alone a second name could have been removed meanwhile.
    """
    here = os.fstat(found)
    if not stat.S_ISREG(here.st_mode):
        raise Unsafe("not a plain file")
    try:
        there = os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
        return False
    if there.st_nlink != 1:
        raise Unsafe("it has a second name (a hard link)")
    return True
