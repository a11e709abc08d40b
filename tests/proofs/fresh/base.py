"""The minimal root of a distribution's release, made by debootstrap once and kept in the cache.

Must stay true: it appears whole or not at all, no run ever changes it, and it holds what the README asks for (git,
make, python3) and nothing that would hide a missing step of `make setup`.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from dormouse_host.agent import newer_release
from proofs.fresh import machine

WANTED = ("git", "make", "python3")
_TAKES = 1200.0  # seconds; 42 measured
_SCRIPTS = Path("/usr/share/debootstrap/scripts")  # one a release; for one that is newer than debootstrap, its kind's


def check_tools() -> None:
    """Root, debootstrap and unshare, or one line that says what is missing."""
    if os.geteuid() != 0:
        raise machine.Unusable("make fresh needs root, for it makes a root file system: sudo make fresh")
    for program, package in (("debootstrap", "debootstrap"), ("unshare", "util-linux"), ("git", "git")):
        if shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is None:
            raise machine.Unusable(f"make fresh needs {program}: apt-get install {package}")


def make(cache: Path, suite: str) -> Path:
    """The root of `suite` in the cache, made at need."""
    root = cache / suite
    if root.is_dir():
        return root
    cache.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f".making-{suite}-", dir=cache) as work:
        new = Path(work, "root")
        log = Path(work, "log")
        # In mount and process namespaces of its own: what debootstrap mounts and starts goes when it does.
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "debootstrap", "--variant=minbase"]
        argv += [f"--include={','.join(WANTED)}", suite, str(new), machine.mirror(machine.sources(suite))]
        if not (_SCRIPTS / suite).exists():
            argv.append(str(_SCRIPTS / ("gutsy" if newer_release.os_release().get("ID") == "ubuntu" else "sid")))
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
        with log.open("wb") as output:
            done = subprocess.run(argv, stdout=output, stderr=output, timeout=_TAKES, env=environment, check=False)
        if done.returncode:
            lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise machine.Unusable(f"debootstrap could not make {suite}: {lines[-1]}")
        shutil.rmtree(new / "var/cache/apt/archives", ignore_errors=True)
        (new / "var/cache/apt/archives/partial").mkdir(parents=True)
        new.rename(root)
    print(f"made {suite} in {time.monotonic() - began:.0f} s", flush=True)
    return root
