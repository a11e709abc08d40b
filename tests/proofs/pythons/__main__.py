"""`make pythons`: the package and its tests of the host on each Python from 3.11 on that this machine has, as a table.

python -m proofs.pythons [3.12 …]       some of them

Each gets a venv of its own with the newest versions that pyproject.toml's bounds allow, not those of the lock.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = "alerts,emulator,metrics,web,postgresql,dev"
TESTS = ("tests/unit/host", "tests/project/test_wheel.py", "tests/web/test_gate.py")
_WITHIN = 3600  # s for the tests of one


def interpreter(version: str) -> str | None:
    """An interpreter of this version that starts, or None."""
    found = [
        shutil.which(f"python{version}"),
        *sorted(map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))),
    ]
    for path in filter(None, found):
        done = subprocess.run([path, "-c", "import ssl, sqlite3, venv"], capture_output=True, timeout=60, check=False)
        if done.returncode == 0:
            return path
    return None


def tried(path: str, folder: Path) -> str:
    """The last line of the tests, or of what went wrong before them."""
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{ROOT}[{EXTRAS}]"]
    for argv in ([path, "-m", "venv", str(folder)], install):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_WITHIN, check=False)
        if done.returncode:
            return f"FAILED to install: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
    argv = [str(python), "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_WITHIN, check=False, cwd=ROOT)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return "\n      ".join([*lines, done.stdout.strip().splitlines()[-1]])


def main(words: list[str]) -> int:
    """0 where all tests passed on each Python that there is, and there is one."""
    bad = seen = 0
    for version in words or PYTHONS:
        path = interpreter(version)
        if path is None:
            print(f"{version:5} not on this machine", flush=True)
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="dormouse-python-") as folder:
            told = tried(path, Path(folder))
        print(f"{version:5} {told}; {time.monotonic() - began:.0f} s", flush=True)
        bad += "FAILED" in told or "ERROR" in told or " passed" not in told
        seen += 1
    return int(bad > 0 or not seen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
