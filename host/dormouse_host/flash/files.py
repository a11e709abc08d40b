"""The files of a flashed board, path by path, before a byte of them is sent.

Everything that can be wrong with the files is found here. main.py is the last file, so that until it is there a board
starts with a prompt. No path leads out of the board's root or over a file of the agent's.
"""

import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from dormouse import protocol
from dormouse.inbox import Inbox
from dormouse.ports.storage import Storage
from dormouse_host import written
from dormouse_host.agent import mpy, toolchain
from dormouse_host.errors import HostError
from dormouse_host.flash import packages
from dormouse_host.flash.kinds import Board
from dormouse_host.flash.project import DeviceFiles, Project
from dormouse_host.release import MOST_BYTES, Release, check

STATE = "state"  # the agent's folder on a board
MAIN = "main.py"
MAIN_TEXT = b'import guard\n\nguard.run("app")\n'
_GUARD = "guard.mpy"
_UMQTT = "umqtt.simple"
_BOOT = "lib/dormouse/ports/boot.mpy"
_RESERVED = (MAIN, _GUARD, "boot.py", "config.json", "secrets.json", "release", "new")
_HIDING = [
    f"{name}{end}" for name in ("dormouse", "umqtt") for end in ("", ".py", ".mpy")
]  # in a slot's root or its lib


def outside(device: DeviceFiles) -> dict[str, bytes]:
    """What is in no slot: path on the board -> bytes, in the order in which they take effect."""
    return {_GUARD: mpy.guard(), **device.contents(), MAIN: MAIN_TEXT}


def collect(project: Project, board: Board, app: Path | None) -> Release:
    """The release that a flash puts into a slot. HostError naming what is wrong.

    `app` is the user's program, app.py on the board whatever its name here; None: the one of the project file.
    """
    files = in_slot(board.port)
    files.update(of_packages(project))
    for name in project.app.files:
        place = own_path(project, name)
        files[place] = read(project.folder / name)
    source = app or main(project)
    files["app.py"] = read(source)
    for name in files:
        if name.endswith(".py"):
            shown = source.name if name == "app.py" else PurePosixPath(name).name
            mpy.compile_mpy(written.text(Path(name), files[name]), shown)
    return check(Release(files, agent=protocol.VERSION, port=board.port, mpy=(packages.MPY_VERSION, 0)))


def umqtt() -> dict[str, bytes]:
    """umqtt.simple for a board without it: from mip's index, or 1.3.4 from the cache when that is unreachable."""
    try:
        return packages.fetch(_UMQTT, Path())
    except HostError:
        source = toolchain.umqtt_folder() / "umqtt" / "simple.py"
        return {"lib/umqtt/simple.mpy": mpy.compile_mpy(source.read_text(), "simple.py")}


def new_state() -> tuple[str, dict[str, bytes]]:
    """A new device's random state name, and its first journal: path on the board -> bytes."""
    with tempfile.TemporaryDirectory() as folder:
        inbox = Inbox(Storage(folder), secrets.token_bytes, 1, lambda name: None)
        written = {
            f"{STATE}/{path.name}": path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.name != "cmd.r"
        }
        return str(inbox.state), written


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def differing(files: Mapping[str, bytes], there: Mapping[str, str | None]) -> list[str]:
    """The paths whose content on the board differs or is missing; `there` has their SHA-256 in hex."""
    return [name for name, data in files.items() if there.get(name) != digest(data)]


def in_slot(port: str) -> dict[str, bytes]:
    """The agent's files in a slot: all but boot.py, which is outside."""
    return {name: data for name, data in mpy.agent_files(port).items() if name != _BOOT}


def of_packages(project: Project) -> dict[str, bytes]:
    """The files of `[app] packages`, path on the board -> bytes. HostError for a package that brings one of the
    agent's.
    """
    found: dict[str, bytes] = {}
    for package in project.app.packages:
        files = packages.fetch(package, project.folder)
        for name in files:
            if _is_agents(PurePosixPath(name)):
                why = "that path on the board belongs to the agent: take this package out"
                raise HostError(f"app.packages: {package}: {name}: {why}", 2)
        found.update(files)
    return found


def main(project: Project) -> Path:
    """The file of `[app] main`. HostError for what leads out of the project, by a link too."""
    _inside(project, "main", project.app.main)
    return project.folder / project.app.main


def own_path(project: Project, name: str) -> str:
    """`name` of `[app] files` as a path on the board. HostError for what leads out of the project, by a link too."""
    path = _inside(project, "files", name)
    if _is_agents(path):
        raise HostError(f"app.files: {name}: that path on the board belongs to the agent", 2)
    return str(path)


def _inside(project: Project, key: str, name: str) -> PurePosixPath:
    """`name`, of this key of `[app]`, as a path in the project's folder."""
    path = PurePosixPath(name)
    real, root = (Path(os.path.realpath(place)) for place in (project.folder / name, project.folder))
    if path.is_absolute() or ".." in path.parts or not path.parts or not real.is_relative_to(root):
        raise HostError(f"app.{key}: {name}: expected a path inside the project's folder", 2)
    return path


def _is_agents(path: PurePosixPath) -> bool:
    """Does this path on the board belong to the agent, or would it be imported in place of the agent's?"""
    first, *others = path.parts
    module = others[0] if first == "lib" and others else first
    return str(path) in _RESERVED or first == STATE or module in _HIDING


def read(path: Path) -> bytes:
    """The bytes of a file of the project. HostError where it can't be read, or no release could hold it."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise HostError(f"{path} is not a plain file", 2)
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}", 2) from None
    if len(data) > MOST_BYTES:
        raise HostError(f"{path} is too big: a release has {MOST_BYTES >> 20} MB at most", 2)
    return data
