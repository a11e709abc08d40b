"""What a person waits for: the program `dormouse`, a process of its own on some ledger."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from proofs.scale.plant import peak

_LOOK = 0.01  # seconds between two looks at a process


class Broken(Exception):
    """A run that is not whole."""


def asked(url: str | None, words: Sequence[str]) -> tuple[float, float, str]:
    """Seconds that a command took on the ledger at `url`, the most memory that it had in MB, and what it printed. Its
    byte code is kept from the first run on, as it is where the program was installed.
    """
    argv = [sys.executable, "-m", "dormouse_host.cli", *words, *(("--db", url) if url else ())]
    there = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began, most = time.monotonic(), 0.0
    with tempfile.TemporaryFile() as out, subprocess.Popen(argv, stdout=out, stderr=out, env=there) as child:
        while child.poll() is None:
            with contextlib.suppress(OSError, ValueError):  # it is just ending
                most = max(most, peak(child.pid))
            time.sleep(_LOOK)
        seconds = time.monotonic() - began
        out.seek(0)
        told = out.read().decode()
    if child.returncode:
        raise Broken(f"{' '.join(words)}: {told[-300:]}")
    return seconds, most, told
