"""Child processes that end with us, and a stop that a signal asks for.

A child is gone when `stop` returns. When this process is killed, the kernel kills the child (Linux; elsewhere only an
orderly end takes the children along). What a signal's handler calls takes no lock, because the handler may run in the
middle of the wait that holds it; `threading.Event` takes one.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Self

_GRACE = 10.0  # seconds between SIGTERM and SIGKILL: mosquitto saves its sessions, on a busy machine, too


def _leash() -> list[str]:
    """The words before a command that make the kernel end it with its parent (util-linux)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def start(
    argv: Sequence[str], *, output: int | IO[bytes], env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `argv` with stdout and stderr going to `output`.

    Its own session keeps the terminal's Ctrl-C from it, so that we end it in our order. Call from the main thread only,
    because the kernel takes the end of the starting thread for the parent's.
    """
    return subprocess.Popen(
        [*_leash(), *argv],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=env,
        start_new_session=True,
    )


def stop(child: subprocess.Popen[bytes]) -> None:
    """End `child` with SIGTERM, after ten seconds with SIGKILL. No error where it has ended already."""
    child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class Started(ABC):
    """A context manager: started when it is entered, closed when it is left and where its start fails."""

    @abstractmethod
    def start(self) -> object:
        """Start it."""

    @abstractmethod
    def close(self) -> None:
        """End all that was started; no error where nothing was."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Stop:
    """Like a threading.Event that is never cleared; `set` may be called from a signal handler and from any thread."""

    def __init__(self) -> None:
        """Not requested yet."""
        self._asked = False
        self._reader, self._writer = os.pipe()  # not inherited by a child
        for descriptor in (self._reader, self._writer):
            os.set_blocking(descriptor, False)
        weakref.finalize(self, _close, self._reader, self._writer)

    def set(self) -> None:
        """Request the stop and end every wait for it."""
        self._asked = True
        with contextlib.suppress(BlockingIOError):  # full of earlier requests
            os.write(self._writer, b"!")

    def is_set(self) -> bool:
        """Is a stop requested?"""
        return self._asked

    def wait(self, seconds: float) -> bool:
        """Wait for the request, `seconds` at most. Is a stop requested?"""
        deadline = time.monotonic() + seconds
        left = seconds
        while not self._asked and left >= 0:
            if select.select([self._reader], [], [], left)[0] and not self._asked:
                with contextlib.suppress(BlockingIOError):  # written by another signal, or read by another thread
                    os.read(self._reader, 512)
            left = deadline - time.monotonic()
        return self._asked

    @contextlib.contextmanager
    def on(self, numbers: Iterable[int]) -> Iterator[None]:
        """Meanwhile these signals request the stop; call it in the main thread. Any thread may get the signal."""
        before = {number: signal.signal(number, lambda *_: self.set()) for number in numbers}
        woken = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
