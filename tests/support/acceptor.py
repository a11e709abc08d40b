"""A listening socket on 127.0.0.1 with a thread for each connection.

Must stay true: `end` returns when every thread has ended, or has had its time; whoever had connected before `taken`
was called is among what it returns.
"""

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

WAIT = 30.0  # seconds for a thread to end


class Acceptor:
    """`serve(connection)` is called for each, in a thread of its own, once `start` has been."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.serving: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._accepting = threading.Lock()

    def start(self) -> None:
        """Accept from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no more."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def end(self) -> None:
        """Accept no more, and wait for those that are served."""
        self.stop()
        for thread in [self._thread, *self.serving]:
            thread.join(WAIT)

    def taken(self) -> list[threading.Thread]:
        """The threads of all who have connected by now, also of one whose connection waits to be accepted."""
        until = time.monotonic() + WAIT
        while time.monotonic() < until:
            with self._accepting:
                if not select.select([self.listener], [], [], 0)[0]:
                    return list(self.serving)
            time.sleep(0.01)
        raise AssertionError(f"who has connected is not accepted within {WAIT:.0f} s")

    def _accept(self) -> None:
        while True:
            try:
                select.select([self.listener], [], [])
                with self._accepting:
                    self._begin()
            except (OSError, ValueError):
                return  # closed: the end

    def _begin(self) -> None:
        accepted, _ = self.listener.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        thread = threading.Thread(target=self._serve, args=(accepted,), daemon=True)
        self.serving.append(thread)
        thread.start()
