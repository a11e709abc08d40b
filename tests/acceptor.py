"""A listening socket on 127.0.0.1 with a thread for each connection.

Must stay true: `end` returns when every thread has ended, or has had its time.
"""

import socket
import threading
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

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self.listener.accept()
            except OSError:
                return  # closed: the end
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(accepted,), daemon=True)
            self.serving.append(thread)
            thread.start()
