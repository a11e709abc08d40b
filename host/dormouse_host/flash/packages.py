"""Packages for a board, found by mpremote's own `mip` and kept here until a flash has all of them.

No file is written to a board before every package is complete. A package that was fetched once can be flashed again
without a network. `python -m dormouse_host.flash.packages` writes device/package.json, the agent as a package.
"""

import argparse
import contextlib
import hashlib
import io
import json
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from mpremote.commands import CommandError
from mpremote.mip import do_mip
from mpremote.transport import Transport

from dormouse import protocol
from dormouse_host.agent import toolchain
from dormouse_host.errors import HostError

MPY_VERSION = 6  # of the bytecode that every MicroPython from 1.20 on loads
_ELSEWHERE = ("ports/posix.py",)
_NETWORK = 15.0  # seconds without a byte from an index


class _Folder(Transport):
    """A board for mip: the files that it would write are kept in `files`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def exec(self, command: str, data_consumer: object = None) -> bytes:
        """mip imports sys before it asks for the bytecode's version."""
        return b""

    def eval(self, expression: str, parse: bool = True) -> int:
        """The only query of mip when a target is given."""
        return MPY_VERSION

    def fs_exists(self, src: str) -> bool:
        """Folders are made when files are copied."""
        return True

    def fs_hashfile(self, path: str, algo: str, chunk_size: int = 256) -> bytes:
        """Nothing is there yet."""
        raise FileNotFoundError(path)

    def fs_writefile(self, dest: str, data: bytes, chunk_size: int = 256, progress_callback: object = None) -> None:
        """Keep the file."""
        self.files[dest.removeprefix("/")] = bytes(data)


def fetch(package: str, folder: Path) -> dict[str, bytes]:
    """Path on the board -> bytes of `package`, as `mpremote mip install` takes it, relative ones from `folder`.

    An earlier copy is used when the network is down. HostError where there is none.
    """
    kept = toolchain.cache_folder() / f"mip-{hashlib.sha256(package.encode()).hexdigest()[:16]}"
    source = str(folder / package) if "://" not in package and (folder / package).exists() else package
    try:
        files = _install(source)
        if out := [name for name in files if ".." in Path(name).parts or Path(name).is_absolute()]:
            raise HostError(f"package {package}: {out[0]}: its path leads out of lib: take this package out", 2)
    except (CommandError, OSError, ValueError, KeyError, TypeError) as error:
        if files := _read(kept):
            return files
        raise HostError(f"package {package}: {str(error).strip() or type(error).__name__}") from None
    _keep(files, kept)
    return files


def _install(package: str) -> dict[str, bytes]:
    transport = _Folder()
    state = SimpleNamespace(transport=transport, did_action=lambda: None, ensure_raw_repl=lambda: None)
    args = argparse.Namespace(command=["install"], packages=[package], index=None, target="/lib", mpy=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_NETWORK)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            do_mip(state, args)
    finally:
        socket.setdefaulttimeout(before)
    return transport.files


def _read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _keep(files: dict[str, bytes], folder: Path) -> None:
    """Replace the kept copy by `files`, in one rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mip-", suffix=".tmp", dir=folder.parent) as work:
        for name, data in files.items():
            path = Path(work, "new", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was faster
            Path(work, "new").rename(folder)


# ---- the agent as a package


def package_json() -> str:
    """device/package.json, by which `mpremote mip install` finds the agent's sources."""
    root = toolchain.agent_folder()
    names = sorted(str(path.relative_to(root / "dormouse")) for path in (root / "dormouse").rglob("*.py"))
    urls = [[f"dormouse/{name}", f"dormouse/{name}"] for name in names if name not in _ELSEWHERE]
    package = {"version": protocol.VERSION, "deps": [["umqtt.simple", "latest"]], "urls": urls}
    lines = ",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in package.items())
    return "{\n" + lines.replace("], [", "],\n    [") + "\n}\n"


def main() -> int:
    """Write device/package.json."""
    path = Path(toolchain.agent_folder()) / "package.json"
    path.write_text(package_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
