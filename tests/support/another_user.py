"""A process of another user of this machine, for what that one may try against root's.

Must stay true: what is tried is tried with that user's rights, given by the kernel; the process is gone afterwards.
"""

import contextlib
import os
import pwd
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NAME = "nobody"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user, too")


def start(work: Callable[[], object], name: str = NAME) -> int:
    """Begin `work` as `name`; the process's id. Its exit code is 0, or 1 where it raised OSError."""
    who = pwd.getpwnam(name)
    child = os.fork()
    if child:
        return child
    code = 2
    try:
        os.setgroups([])
        os.setgid(who.pw_gid)
        os.setuid(who.pw_uid)
        with contextlib.suppress(OSError):
            code = 1
            work()
            code = 0
    finally:
        os._exit(code)


def does(work: Callable[[], object], name: str = NAME) -> bool:
    """Can `name` do this?"""
    _, status = os.waitpid(start(work, name), 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 1), code
    return code == 0


@contextlib.contextmanager
def keeps_doing(work: Callable[[], object], name: str = NAME) -> Iterator[None]:
    """Meanwhile `name` does this again and again."""

    def again() -> None:
        while True:
            with contextlib.suppress(OSError):
                work()

    child = start(again, name)
    try:
        time.sleep(0.05)
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user gets into; pytest's own are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="dormouse-open-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def readable(folder: Path, name: str = NAME) -> bytes:
    """All that `name` can read in and below a folder."""
    reader, writer = os.pipe()

    def read() -> None:
        for path in sorted(folder.rglob("*")):
            with contextlib.suppress(OSError):
                if path.is_file():
                    os.write(writer, path.read_bytes()[:50_000] + b"\n")

    child = start(read, name)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        found = file.read()
    os.waitpid(child, 0)
    return found
