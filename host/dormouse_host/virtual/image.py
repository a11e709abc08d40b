"""The flash image of a virtual board, read by littlefs-python, which is not MicroPython's littlefs.

The image is never written here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from littlefs import LittleFS, LittleFSError
from littlefs.context import UserContext

from dormouse_host.errors import HostError
from dormouse_host.virtual.kind import BoardKind


@contextmanager
def _mounted(kind: BoardKind, image: Path) -> Iterator[LittleFS]:
    """Mount a copy in memory, because littlefs may write when it mounts."""
    context = UserContext(kind.flash)
    try:
        context.buffer[:] = image.read_bytes()
        files = LittleFS(
            context=context,
            block_size=kind.block,
            block_count=kind.flash // kind.block,
            prog_size=kind.program,
            read_size=32,
            mount=False,
        )
        files.mount()
    except (OSError, ValueError, LittleFSError) as error:
        raise HostError(f"{image}: not a file system of a {kind.name} ({error})") from error
    yield files


def read_file(kind: BoardKind, image: Path, path: str) -> bytes:
    """One file's bytes."""
    with _mounted(kind, image) as files:
        try:
            with files.open(path, "rb") as file:
                data: bytes = file.read()
        except (OSError, LittleFSError) as error:
            raise HostError(f"{path}: not on the board's flash ({error})") from error
    return data


def list_files(kind: BoardKind, image: Path) -> list[str]:
    """The paths of all files."""
    with _mounted(kind, image) as mounted:
        found = [f"{folder.rstrip('/')}/{name}" for folder, _, names in mounted.walk("/") for name in names]
    return sorted(found)
