"""The serial line of a virtual board: a pty behind a symbolic link, and a TCP port for socket://host:port.

As with a board's own USB, the port is gone in sleep and at a reset, and a reader gets the end. Output that is not read
is lost after a second, as on a wire; nothing here blocks.
"""

import contextlib
import math
import os
import pty
import select
import socket
import time
import tty
from pathlib import Path

from dormouse_host.errors import HostError

_KEPT = 1.0  # seconds that output waits for a reader
_MOST = 1 << 16  # bytes of it


class _Pending:
    """Output that one reader has not taken yet."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.since = 0.0

    def add(self, data: bytes) -> None:
        if not self.data:
            self.since = time.monotonic()
        self.data += data
        del self.data[:-_MOST]

    def took(self, count: int) -> None:
        del self.data[:count]
        self.since = time.monotonic()

    def expire(self) -> None:
        if self.data and time.monotonic() - self.since > _KEPT:
            self.data.clear()


class Console:
    """`link`: the path of the port's symbolic link; `tcp`: a port of 127.0.0.1, 0 for any."""

    def __init__(self, link: Path, tcp: int = 0) -> None:
        self._link = link
        self._master = self._slave = -1
        self._ending: list[tuple[int, int, float]] = []  # removed ports that are still read: master, slave, deadline
        try:
            self._server = socket.create_server(("127.0.0.1", tcp))
        except OSError as error:
            raise HostError(f"port {tcp}: {error.strerror}; choose another --tcp") from None
        self._server.setblocking(False)
        self.tcp: int = self._server.getsockname()[1]
        self._client: socket.socket | None = None
        self._to_pty, self._to_client = _Pending(), _Pending()

    @property
    def plugged(self) -> bool:
        """Is there a port?"""
        return self._master >= 0

    def plug(self) -> None:
        """Create the port."""
        if self.plugged:
            return
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)  # held open, so that it stays raw and a close of the other side ends nothing
        os.set_blocking(self._master, False)
        new = self._link.with_name(self._link.name + ".new")
        new.unlink(missing_ok=True)
        new.symlink_to(os.ttyname(self._slave))
        new.replace(self._link)

    def unplug(self) -> None:
        """Remove the port, also from those who have it open."""
        if self.plugged:
            self._link.unlink(missing_ok=True)
            self._ending.append((self._master, self._slave, time.monotonic() + _KEPT))
            self._master = self._slave = -1
            self._end(time.monotonic())
        self._end_client()
        self._to_pty, self._to_client = _Pending(), _Pending()

    def _end(self, now: float) -> None:
        """Let readers get what was written before the port went, and then the end."""
        for pair in list(self._ending):
            master, slave, until = pair
            # Not FIONREAD: it counts only what the kernel's worker has moved to the slave by now; poll moves it first.
            poll = select.poll()
            poll.register(slave, select.POLLIN)
            unread = poll.poll(0)
            if not unread or now >= until:
                self._ending.remove(pair)
                os.close(slave)
                os.close(master)

    @property
    def ending(self) -> bool:
        """Is there a removed port that is not read to its end?"""
        return bool(self._ending)

    def close(self) -> None:
        """End everything."""
        self.unplug()
        self._end(math.inf)
        self._server.close()

    def _end_client(self) -> None:
        if self._client:
            self._client.close()
            self._client = None

    def write(self, data: bytes) -> None:
        """Output of the board."""
        if self.plugged:
            self._to_pty.add(data)
        if self._client:
            self._to_client.add(data)
        self.flush()

    def flush(self) -> None:
        """Write what readers can take."""
        self._end(time.monotonic())
        for pending, file in ((self._to_pty, self._master), (self._to_client, self._client)):
            pending.expire()
            if pending.data and file not in (None, -1):
                try:
                    pending.took(os.write(file if isinstance(file, int) else file.fileno(), pending.data))
                except BlockingIOError:
                    pass
                except OSError:
                    pending.data.clear()

    def register(self, poll: select.poll, reading: bool) -> None:
        """Wait for input, where `reading`, and for room for output."""
        if self.plugged:
            poll.register(
                self._master, (select.POLLIN if reading else 0) | (select.POLLOUT if self._to_pty.data else 0)
            )
        poll.register(self._server, select.POLLIN)
        if self._client:
            events = (select.POLLIN if reading else 0) | (select.POLLOUT if self._to_client.data else 0)
            poll.register(self._client, events)

    def read(self, ready: set[int]) -> bytes:
        """Read the input of our descriptors in `ready`."""
        data = b""
        if self._server.fileno() in ready:
            self._accept()
        if self.plugged and self._master in ready:
            with contextlib.suppress(OSError):
                data += os.read(self._master, 4096)
        if self._client and self._client.fileno() in ready:
            try:
                came = self._client.recv(4096)
            except BlockingIOError:
                return data
            except OSError:
                came = b""
            data += came
            if not came:
                self._end_client()
        return data

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._server.accept()
            client.setblocking(False)
            if self._client or not self.plugged:
                client.close()  # one at a time, and none while there is no port
            else:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._client = client
