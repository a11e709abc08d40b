"""A stop that a signal asks for, and the wait that it ends.

Must stay true: what a signal's handler calls takes no lock, for the handler may run in the middle of the very wait that
holds it; `threading.Event` takes one, and now and then neither of the two returns.
"""

import contextlib
import os
import select
import signal
import time
import weakref
from collections.abc import Iterable, Iterator


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Stop:
    """As a threading.Event that is never cleared; `set` may be called from a signal's handler, and from any thread."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self._asked = False
        self._reader, self._writer = os.pipe()  # not inherited by a child
        for descriptor in (self._reader, self._writer):
            os.set_blocking(descriptor, False)
        weakref.finalize(self, _close, self._reader, self._writer)

    def set(self) -> None:
        """Ask for the stop, and end every wait for it."""
        self._asked = True
        with contextlib.suppress(BlockingIOError):  # full of what was asked before
            os.write(self._writer, b"!")

    def is_set(self) -> bool:
        """Has somebody asked?"""
        return self._asked

    def wait(self, seconds: float) -> bool:
        """Wait until somebody asks, so many seconds at most. Has somebody?"""
        deadline = time.monotonic() + seconds
        left = seconds
        while not self._asked and left >= 0:
            if select.select([self._reader], [], [], left)[0] and not self._asked:
                with contextlib.suppress(BlockingIOError):  # another signal's, or another thread has taken it
                    os.read(self._reader, 512)
            left = deadline - time.monotonic()
        return self._asked

    @contextlib.contextmanager
    def on(self, numbers: Iterable[int]) -> Iterator[None]:
        """Meanwhile these signals ask; in the main thread. A wait ends whichever thread gets the signal."""
        before = {number: signal.signal(number, lambda *_: self.set()) for number in numbers}
        woken = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
