"""Files that hold secrets, and files that a broker reads while we rewrite them.

Must stay true: a file is there whole or not at all; it is never, not for an instant, readable by more than it should
be; it belongs to whoever its folder belongs to, so that a broker that is not root reads what root writes.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from dormouse_host.errors import HostError

PRIVATE, PUBLIC = 0o600, 0o644


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


def _cannot(what: str, path: Path, error: Exception) -> HostError:
    why = getattr(error, "strerror", None) or "not text"
    return HostError(f"cannot {what} {path}: {why}", 2)
