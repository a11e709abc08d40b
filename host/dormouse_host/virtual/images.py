"""Flashed images that the tests of one session share: what takes long is done once for each program and configuration.

Must stay true: a device from an image is one that was flashed and has not yet run: its first wake, journal and records
are its own. An image is of exactly the files that a flash would send.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from dormouse_host.flash.flash import Request, flash
from dormouse_host.flash.ports import Place
from dormouse_host.virtual.board import VirtualBoard

_BOOTS = 60  # seconds until a flashed board has come to its rescue window


class Images:
    """The images in `folder`, by what was flashed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Path] = {}

    def put(
        self,
        kind: str,
        target: Path,
        files: dict[str, bytes],
        request: Callable[[Place], Request],
        say: Callable[[str], None],
    ) -> None:
        """Copy an image to `target`: a board of that kind after `request` of its port, which flashes `files`.

        The board of an image is flashed at its first use, and stopped in the rescue window after it: nothing of the
        agent has run. HostError where that fails.
        """
        key = _key(kind, files)
        if key not in self._made:
            with VirtualBoard(kind, self._folder / key) as board:
                board.wait_boot()
                flash(request(Place(board.port)), say)
                board.wait_console("window {", _BOOTS)
            self._made[key] = board.image
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._made[key], target)


def _key(kind: str, files: dict[str, bytes]) -> str:
    """A name for these files on that kind of board."""
    whole = hashlib.sha256(kind.encode())
    for name, data in sorted(files.items()):
        whole.update(b"%d %s %d " % (len(name), name.encode(), len(data)) + data)
    return whole.hexdigest()[:16]
