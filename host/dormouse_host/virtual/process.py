"""The processor of a virtual board between two resets: a MicroPython process.

The process gets the firmware, its facts and its flash, and nothing of our environment. SIGKILL is a power cut. Input is
held back until the program runs or has printed, as in a chip's buffer: a Ctrl-C in between would be lost. Ctrl-C is
sent on the line, and the firmware raises it at a step of the program (vb_link.py); as a signal, which may hit the
interpreter anywhere, it is sent only where that has no effect.
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
_COMPUTES = 1.0  # CPU seconds after which a program that does not wait gets Ctrl-C as a signal
_STANDS = 2.0  # seconds after which a program that waits outside of the firmware gets it
_TICK = os.sysconf("SC_CLK_TCK")

SHIM = {"esp32": 51 << 10, "rp2": 48 << 10}  # bytes that the firmware takes of the heap, 32 bit: test_virtual_board.py


@functools.cache
def firmware() -> Path:
    """The folder with the compiled firmware, made at the first call."""
    virtual = kinds.folder() / "virtual"
    own = [*sorted((virtual / "firmware").rglob("*.py")), virtual / "norflash.py"]
    sources = [(path, Path("frozen" if path.parent.name == "frozen" else "") / path.name) for path in own]
    sources += [(path, "frozen" / name) for path, name in mpy.umqtt()]

    def fill(folder: Path) -> None:
        for source, name in sources:
            mpy.compile_file(source, (folder / name).with_suffix(".mpy"))

    return mpy.cached(sources, fill)


@functools.cache
def interpreter() -> toolchain.Interpreter:
    """The MicroPython that virtual boards are."""
    return toolchain.require_micropython()


@functools.cache
def _command() -> list[str]:
    """The command of an interpreter that ends with us and has its own terminal."""
    leash, session = shutil.which("setpriv"), shutil.which("setsid")
    if not leash or not session:
        raise HostError("a virtual board needs setpriv and setsid: install util-linux")
    return [leash, "--pdeathsig", "KILL", "--", session, "--ctty", str(interpreter().path)]


class Processor:
    """The process from one reset to the next. `facts`: the firmware's data about the board and this boot."""

    def __init__(self, facts: dict[str, Any], heap: int) -> None:
        command = _command()
        folder = firmware()
        self.line, theirs = socket.socketpair()
        self.terminal, slave = pty.openpty()
        tty.setraw(slave)
        least = heap + SHIM[facts["port"]]
        size = process.heap_size(f"{least // 1024}k", interpreter().bits)
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
        self.line.sendall(json.dumps(facts, ensure_ascii=False).encode() + b"\n")
        self.line.setblocking(False)
        self._rest = b""
        self._listens = False
        self._pressed: tuple[float, float] | None = None  # when Ctrl-C was sent, and the CPU time then
        self._status: int | None = None  # with which the firmware has asked to be ended

    def listens(self) -> bool:
        """Does the program accept input now?"""
        self._listens = self._listens or self._runs()
        return self._listens

    def _runs(self) -> bool:
        """Does code run, so that Ctrl-C interrupts it? At a prompt it is an ordinary byte."""
        with contextlib.suppress(termios.error):
            return bool(termios.tcgetattr(self.terminal)[3] & termios.ISIG)
        return False

    def read(self) -> bytes | None:
        """The program's output; None when it has ended and all was read."""
        try:
            data = os.read(self.terminal, 65536)
        except BlockingIOError:
            return b""
        except OSError:
            return None
        self._listens = self._listens or bool(data)
        return data or None

    def write(self, data: bytes) -> int:
        """Write input. Returns how much was accepted: what the program does not read fills the line, as on a board."""
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
        """Messages of the firmware: lists that begin with the number of a query, or 0."""
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
        """Is there a Ctrl-C that was not handled?"""
        return self._pressed is not None

    def insist(self) -> None:
        """Send a Ctrl-C as a signal if it was not handled in time."""
        if self._pressed is None:
            return
        passed, busy = time.monotonic() - self._pressed[0], self._busy() - self._pressed[1]
        if busy >= _COMPUTES or (passed >= _STANDS and busy < _COMPUTES / 10):
            self._pressed = None
            with contextlib.suppress(OSError):
                os.write(self.terminal, _CTRL_C)

    def _busy(self) -> float:
        """Its CPU seconds so far."""
        try:
            fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / _TICK

    def answer(self, number: int, value: Any) -> None:
        """Answer a query; number 0 is a notice."""
        with contextlib.suppress(OSError):
            self.line.sendall(json.dumps([number, value], ensure_ascii=False).encode() + b"\n")

    def kill(self) -> None:
        """Kill it at once."""
        self.child.kill()

    def exit(self, status: int) -> None:
        """End it at once because the firmware asks for it: `end` returns `status`."""
        self._status = status
        self.child.kill()

    def end(self) -> int:
        """Wait for its end, close the descriptors and return its exit status."""
        status = self.child.wait()
        if self._status is not None:
            status = self._status
        os.close(self.terminal)
        self.line.close()
        return status
