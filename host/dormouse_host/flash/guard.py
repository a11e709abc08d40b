"""A serial port with a bound: what mpremote reads from it ends in time and in bytes.

Must stay true: within `allow` no read, and no wait for one, goes on past the deadline or past so many bytes, whatever
loop it is called from; outside of it the port is as it was.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any


class TooMuch(OSError):
    """The board prints without end, or is too slow."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class Guard:
    """Stands in for the port `serial`."""

    def __init__(self, serial: Any) -> None:
        self.__dict__.update(_serial=serial, _until=None, _left=0, _seconds=0.0, _bytes=0)

    @contextlib.contextmanager
    def allow(self, seconds: float, count: int) -> Iterator[None]:
        """Meanwhile at most so long, and so many bytes."""
        self.__dict__.update(_until=time.monotonic() + seconds, _left=count, _seconds=seconds, _bytes=count)
        try:
            yield
        finally:
            self.__dict__.update(_until=None)

    def _check(self) -> None:
        if self._until is None:
            return
        if time.monotonic() > self._until:
            raise TooMuch(f"the board did not come to an end in {self._seconds:.0f} s")
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
