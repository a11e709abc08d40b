"""The wire to a board: mpremote's own transport, with a deadline on everything.

Every byte to or from a board goes through mpremote as it is installed, and what it prints is suppressed. No call waits
longer, and no answer is longer, than it says. A board that vanishes is a LostBoard; this module raises nothing else.
"""

import contextlib
import io
import json
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport
from serial import SerialException

from dormouse_host.flash.ports import Place

_BYTE = 5.0  # seconds for one read or write of the port
_CHUNK = 1024  # bytes of a file in one command, four times what mpremote takes by itself: a quarter of the turns
_POLL = 0.05
_LONGEST = 10  # times the patience between two bytes: all that a command on the board may take
_ANSWER = 128 << 10  # bytes: the hashes of a thousand files
_ENTER, _CHATTER = 20.0, 1 << 20  # seconds and bytes of output while a board is stopped
_RAW = 3.0  # seconds in which its raw prompt is there
_WRITE, _SLOWEST = 60.0, 1000  # seconds for a file, and bytes a second of it, at 115200 baud and in base64
_BREAK = b"\r\x03\x02"  # Ctrl-C ends the program, Ctrl-B a raw REPL that an earlier connection left
_PROMPT = b">>> "
_WINDOW = b" window {"  # in the device's log: it listens for Ctrl-C now
_AGAIN = 1.0  # seconds after which Ctrl-C is sent again: not sooner, lest it hits the device writing a mark
_WIRE = (TransportError, SerialException, OSError, ValueError, TypeError, IndexError, SyntaxError)


class LostBoard(Exception):
    """The board does not answer, or not as MicroPython does, or has vanished."""


class Refused(LostBoard):
    """The board's MicroPython raised: `text` is the last line of its traceback."""


class TooMuch(OSError):
    """The board prints without end, or is too slow."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class Guard:
    """Wraps the port `serial` with bounds on what mpremote reads, in whatever loop it does."""

    def __init__(self, serial: Any) -> None:
        self.__dict__.update(_serial=serial, _until=None, _left=0, _seconds=0.0, _bytes=0)

    @contextlib.contextmanager
    def allow(self, seconds: float, count: int) -> Iterator[None]:
        """Allow `seconds` and `count` bytes meanwhile."""
        self.__dict__.update(_until=time.monotonic() + seconds, _left=count, _seconds=seconds, _bytes=count)
        try:
            yield
        finally:
            self.__dict__.update(_until=None)

    def _check(self) -> None:
        if self._until is None:
            return
        if time.monotonic() > self._until:
            raise TooMuch(f"the board did not finish in {self._seconds:.0f} s")
        if self._left < 0:
            raise TooMuch(f"the board printed more than {self._bytes} bytes")

    def read(self, size: int = 1) -> bytes:
        """As the port's."""
        self._check()
        data: bytes = self._serial.read(size)
        self.__dict__["_left"] -= len(data)
        self._check()
        return data

    def inWaiting(self) -> int:
        """As the port's."""
        self._check()
        return int(self._serial.in_waiting)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._serial, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._serial, name, value)


class Wire:
    """An open port. As a context manager it is closed at the end, whatever happened."""

    def __init__(self, device: str, patience: float = 1) -> None:
        """Open `device`. `patience`: times as long as a board may take. LostBoard where that is impossible."""
        self._patience, self._byte = patience, _BYTE * patience
        with _quiet():
            self._transport = SerialTransport(device, timeout=self._byte)
        self._guard = self._transport.serial = Guard(self._transport.serial)
        try:
            with _quiet():
                self._transport.serial.write_timeout = self._byte
        except LostBoard:  # just vanished
            self.close()
            raise

    def __enter__(self) -> Self:
        """The wire itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the port and leave the board as it is."""
        with contextlib.suppress(*_WIRE), contextlib.redirect_stdout(io.StringIO()):
            self._transport.close()

    def read(self, seconds: float) -> bytes:
        """Read what comes within `seconds`; b"" for nothing."""
        serial = self._transport.serial
        with _quiet():
            serial.timeout = min(seconds, self._byte)
            try:
                first: bytes = serial.read(1)
                return first + serial.read(serial.in_waiting) if first else b""
            finally:
                serial.timeout = self._byte

    def interrupt(self, seconds: float) -> bool:
        """Send Ctrl-C until the prompt appears. False when it has not after `seconds`.

        A device in the middle of a wake answers the first with a reset and then opens a window for the second.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with _quiet():
                self._transport.serial.write(_BREAK)
            pressed, seen = time.monotonic(), b""
            while time.monotonic() < min(deadline, pressed + _AGAIN) and _WINDOW not in seen:
                seen = (seen + self.read(0.2))[-256:]
                if seen.endswith(_PROMPT):
                    return True
        return False

    def take_over(self, *, afresh: bool) -> None:
        """Enter the raw REPL. `afresh`: by a soft reset, which runs no main.py, for an interpreter that was
        interrupted at a bad moment; without it, nothing starts anew.
        """
        with _quiet(), self._guard.allow(_ENTER * self._patience, _CHATTER):
            self._transport.enter_raw_repl(soft_reset=afresh, timeout_overall=_RAW * self._patience)

    def run(self, code: str, seconds: float = 20) -> str:
        """Run `code` on the board and return its output. The limits: `seconds` between two bytes, _LONGEST times that
        in all, and _ANSWER bytes.
        """
        seconds *= self._patience
        with _quiet(), self._guard.allow(_LONGEST * seconds, _ANSWER):
            out, error = self._transport.exec_raw(code, timeout=seconds)
            if error:
                raise Refused(error.decode(errors="replace").strip().splitlines()[-1])
            text: str = out.decode(errors="replace")
            return text

    def ask(self, code: str, seconds: float = 20) -> Any:
        """As `run`, for code that prints JSON."""
        text = self.run(code, seconds)
        try:
            return json.loads(text)
        except ValueError:
            raise LostBoard(f"the board answered {text[:40]!r}") from None

    def write_file(self, path: str, data: bytes) -> None:
        """Write a file; it is on flash when this returns. Its folder must exist."""
        with _quiet(), self._guard.allow(self._patience * (_WRITE + len(data) / _SLOWEST), _ANSWER + len(data)):
            self._transport.fs_writefile(path, data, chunk_size=_CHUNK)

    def start(self, code: str) -> None:
        """Run `code`, which ends in a reset; later output is read by `read`."""
        with _quiet(), self._guard.allow(_WRITE * self._patience, _CHATTER):
            self._transport.exec_raw_no_follow(code)
            self._transport.in_raw_repl = False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress mpremote's output and turn its errors into LostBoard."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except LostBoard:
        raise
    except TransportExecError as error:
        raise Refused(error.error_output.strip().splitlines()[-1]) from error
    except _WIRE as error:
        raise LostBoard(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    except Exception as error:  # struct.error and others that mpremote raises when the board stops in the middle
        raise LostBoard(f"{type(error).__name__}: {error}") from error


def catch(
    place: Place, seconds: float, tell: Callable[[float], None], *, afresh: bool = False, patience: float = 1
) -> Wire:
    """The wire to the board at `place` with its prompt, now or at its next wake within `seconds`.

    `tell(left)` is called after some seconds, and once a minute from then on.
    `afresh`: see Wire.take_over; `patience`: see Wire.
    LostBoard after `seconds`.
    """
    deadline = time.monotonic() + seconds
    next_told = time.monotonic() + 3
    why = f"{place} did not appear"
    while True:
        device = place.device()
        if device is not None:
            wire = None
            try:
                wire = Wire(device, patience)
                if wire.interrupt(min(3, max(0.5, deadline - time.monotonic()))):
                    wire.take_over(afresh=afresh)
                    return wire
                why = "no prompt: it sleeps, or its program cannot be interrupted"
            except LostBoard as error:
                why = str(error)
            except BaseException:
                if wire:
                    wire.close()
                raise
            if wire:
                wire.close()
        now = time.monotonic()
        if now >= deadline:
            raise LostBoard(why)
        if now >= next_told:
            tell(deadline - now)
            next_told = now + 60
        time.sleep(_POLL)
