"""Building a release from a project's folder: the program and its packages, and the agent where that is asked for.

Everything that can be wrong with the files is found here. Bytecode for a board keeps its line numbers, so that an error
on the device names the line. The same files make the same release.
"""

import tempfile
from pathlib import Path, PurePosixPath

from dormouse import protocol
from dormouse_host import release, written
from dormouse_host.agent import mpy
from dormouse_host.errors import HostError
from dormouse_host.flash import files, kinds, packages
from dormouse_host.flash.kinds import Board
from dormouse_host.flash.project import Project
from dormouse_host.release import Release

_BYTECODE = packages.MPY_VERSION, 0  # for every architecture
_KEPT_WITH_AGENT = ("lib/umqtt/",)


def kind_of(firmware: str) -> Board | None:
    """The kind of board that reports this firmware; None for a process of a machine. HostError for an unknown one."""
    build = firmware.partition(" ")[0]
    if build in ("cpython", "micropython"):
        return None
    for name in kinds.names():
        board = kinds.load(name)
        if board.port != "posix" and any(build == each or build.startswith(f"{each}-") for each in board.builds):
            return board
    raise HostError(f"no board is known whose firmware is {build or '(not told)'}", 2)


def build(project: Project, board: Board | None, *, agent: bool = False) -> Release:
    """The release of the project's program for a kind of board, None: a process of a machine. Without `agent` the agent
    stays that of the slot that runs.
    """
    if agent and board is None:
        raise HostError("--agent: an agent that is a process of a machine is updated there, by pip", 2)
    found: dict[str, bytes] = {}
    if agent and board is not None:
        found.update(files.in_slot(board.port))
    found.update(files.of_packages(project))
    main = files.main(project)
    sources = {"app.py": main, **{files.own_path(project, name): project.folder / name for name in project.app.files}}
    for name, path in sources.items():
        found.update(_compiled(name, files.read(path), board))
    return release.check(
        Release(
            found,
            keep=_KEPT_WITH_AGENT if agent else release.AGENT,
            agent=protocol.VERSION if agent else None,
            port=board.port if agent and board else None,
            mpy=_BYTECODE if any(name.endswith(".mpy") for name in found) else None,
        )
    )


def _compiled(name: str, data: bytes, board: Board | None) -> dict[str, bytes]:
    """A file of the program as it lies on the device."""
    if not name.endswith(".py"):
        return {name: data}
    text = written.text(Path(name), data)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, PurePosixPath(name).name), Path(folder, "out.mpy")
        source.write_text(text)
        mpy.compile_file(source, target)  # so that what does not compile is found here, for a process too
        return {name: data} if board is None else {name.removesuffix(".py") + ".mpy": target.read_bytes()}
