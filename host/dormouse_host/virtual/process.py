"""One life of a virtual board's processor: a MicroPython process between two resets.

Must stay true: the process sees the firmware, its facts and its flash, and no environment of ours; a SIGKILL is a
power cut; it ends with us, however we end. Input is held back until the program runs or has spoken, as a chip's buffer
does: a Ctrl-C that came in between would be lost. Ctrl-C is told on the line, and the firmware raises it at a step of
the program's (vb_link.py); as a signal, which may hit the interpreter anywhere, it comes only where that is no use.
"""

import contextlib
import functools
import json
import os
import pty
import shutil
import socket
import subprocess
import termios
import time
import tty
from pathlib import Path
from typing import Any

from dormouse_host.agent import mpy, process, toolchain
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds

_CTRL_C = b"\x03"
_COMPUTES = 1.0  # seconds of its processor's time after which a program that does not wait gets Ctrl-C as a signal
_STANDS = 2.0  # seconds after which one that waits where the firmware does not see it gets it
_TICK = os.sysconf("SC_CLK_TCK")

SHIM = 44 << 10  # bytes that the firmware takes of the heap, 32 bit (measured in tests/boards/test_virtual_board.py)


@functools.cache
def firmware() -> Path:
    """The folder with the firmware, compiled; made at the first question, and looked at once in a process."""
    virtual = kinds.folder() / "virtual"
    own = [*sorted((virtual / "firmware").rglob("*.py")), virtual / "norflash.py"]
    sources = [(path, Path("frozen" if path.parent.name == "frozen" else "") / path.name) for path in own]
    sources += [(path, "frozen" / name) for path, name in mpy.umqtt()]

    def fill(folder: Path) -> None:
        for source, name in sources:
            mpy.compile_file(source, (folder / name).with_suffix(".mpy"))

    return mpy.cached(sources, fill)


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
        size = process.heap_size(f"{(heap + SHIM) // 1024}k", bits)
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
        self._pressed: tuple[float, float] | None = None  # when Ctrl-C was told, and its CPU time then

    def listens(self) -> bool:
        """Would input reach the program now?"""
        self._listens = self._listens or self._runs()
        return self._listens

    def _runs(self) -> bool:
        """Does code run, so that Ctrl-C interrupts it? At a prompt it is a byte like any other."""
        with contextlib.suppress(termios.error):
            return bool(termios.tcgetattr(self.terminal)[3] & termios.ISIG)
        return False

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
        if _CTRL_C in data and self._runs():
            data = data[: data.index(_CTRL_C)]
            if not data:
                self._press()
                return 1
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
        said = [json.loads(line) for line in lines]
        if [0, "interrupted"] in said:
            self._pressed = None
        return [message for message in said if message != [0, "interrupted"]]

    def _press(self) -> None:
        if self._pressed is None:
            self._pressed = (time.monotonic(), self._busy())
            self.answer(0, "ctrl-c")

    @property
    def pressed(self) -> bool:
        """Is there a Ctrl-C that nothing has taken?"""
        return self._pressed is not None

    def insist(self) -> None:
        """Make a signal of a Ctrl-C that was told long enough ago."""
        if self._pressed is None:
            return
        passed, busy = time.monotonic() - self._pressed[0], self._busy() - self._pressed[1]
        if busy >= _COMPUTES or (passed >= _STANDS and busy < _COMPUTES / 10):
            self._pressed = None
            with contextlib.suppress(OSError):
                os.write(self.terminal, _CTRL_C)

    def _busy(self) -> float:
        """Seconds that it has computed so far."""
        try:
            fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / _TICK

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
