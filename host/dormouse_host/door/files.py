"""Files that hold secrets, and files that a broker reads while we rewrite them.

Must stay true: a file is there whole or not at all; it is never, not for an instant, readable by more than it should
be; it belongs to whoever its folder belongs to, so that a broker that is not root reads what root writes. What is read
in order to be written anew is read and written by one process at a time: in `alone`.
"""

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dormouse_host.errors import HostError

PRIVATE, PUBLIC = 0o600, 0o644
_PATIENCE = 60.0  # seconds for those before us, each of which takes one at most unless the broker is silent
_LOOK = 0.02  # seconds between two tries


def folder(path: Path, mode: int = 0o700) -> Path:
    """Make a folder, with those above it, unless it is there. HostError where that can't be."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot("make", path, error) from None
    return path


def write(path: Path, data: str | bytes, mode: int = PRIVATE) -> None:
    """Put `data` in the file's place at once. HostError where that can't be."""
    blob = data.encode() if isinstance(data, str) else data
    temporary = None
    try:
        number, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # readable by its owner only
        temporary = Path(name)
        with os.fdopen(number, "wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
            if os.geteuid() == 0:
                owner = path.parent.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(file.fileno(), mode)
        temporary.replace(path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise _cannot("write", path, error) from None


def read(path: Path) -> str:
    """The text of a file. HostError where there is none."""
    try:
        return path.read_text()
    except (OSError, UnicodeError) as error:
        raise _cannot("read", path, error) from None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is no file. HostError where it holds something else."""
    try:
        found = json.loads(read(path)) if path.exists() else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise damaged(path)
    return found


def damaged(path: Path) -> HostError:
    """What to say of a file of ours that holds something else."""
    return HostError(f"{path} is damaged: put a copy of it back", 2)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """No other process changes what is in this folder; not to be nested. HostError where one has not ended in time.

    The lock is on the folder itself, so that it leaves no file, and ends with the process however that ends.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot("open", path, error) from None
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _taken(descriptor):
            if time.monotonic() > deadline:
                raise HostError(f"{path} is being changed by another process, and was for {_PATIENCE:.0f} s")
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
