"""The interpreters of the matrix: the one that all tests take, that of Debian's next release, and a preview.

Must stay true: what is fetched is verified, by apt's signatures or by a hash, and is in the cache whole or not at all.
"""

import os
import subprocess
import sys
from pathlib import Path

from dormouse_host.agent import newer_release, toolchain
from dormouse_host.errors import HostError

_PREVIEW = Path(__file__).parents[2] / "project" / "interpreter-preview.txt"
_INSTALLS = 300.0  # seconds for pip
_WRAPPER = """#!/bin/sh
exec "{python}" -I -S -c 'import sys; sys.path.insert(0, sys.argv.pop(1)); import micropython_run as m
sys.exit(m.run_main(["micropython", *sys.argv[1:]]))' "${{0%/*}}/lib" "$@"
"""


def own() -> Path:
    """The interpreter of every other test. HostError where there is none."""
    return toolchain.require_micropython().path


def forky() -> Path:
    """The 32-bit one of Debian's next release. HostError where there is none."""
    folder = toolchain.cache_folder() / "micropython" / "forky"
    try:
        if newer_release.os_release().get("ID") != "debian":
            raise newer_release.Unavailable("only on Debian")
        architecture = newer_release.architectures()[0]
        if not folder.is_dir():
            with toolchain.appearing_whole(folder) as new:
                newer_release.unpack_micropython(new, architecture, ("forky",))
    except newer_release.Unavailable as error:
        raise HostError(str(error)) from None
    return folder / "micropython"


def preview() -> Path:
    """The 64-bit preview, a wheel for CPython 3.11 on x86_64. HostError where it can't be installed."""
    folder = toolchain.cache_folder() / "micropython" / "preview"
    if not folder.is_dir():
        with toolchain.appearing_whole(folder) as new:
            argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            argv += ["--require-hashes", "--only-binary", ":all:", "--target", str(new / "lib"), "-r", str(_PREVIEW)]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=_INSTALLS, check=False)
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
                raise HostError(lines[-1].removeprefix("ERROR: "))
            _wrap(new / "micropython")
    program = folder / "micropython"
    if program.read_text() != _WRAPPER.format(python=sys.executable):  # of an environment that may be gone
        _wrap(program)
    return program


def _wrap(program: Path) -> None:
    new = program.with_name(f"{program.name}.{os.getpid()}")
    new.write_text(_WRAPPER.format(python=sys.executable))
    new.chmod(0o755)
    new.replace(program)


ALL = {"own": own, "forky": forky, "preview": preview}
