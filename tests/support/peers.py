"""Servers on 127.0.0.1 that are no good broker, each in one way.

Must stay true: a peer listens as soon as it is entered and is gone when it is left.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CONNACK = b"\x20\x02\x00\x00"


def closes_at_once(peer: socket.socket) -> None:
    """Resets: what the client sent is never read."""
    peer.close()


def closes_after_connect(peer: socket.socket) -> None:
    """Ends in good order, without a word."""
    peer.recv(1024)
    peer.close()


def speaks_http(peer: socket.socket) -> None:
    """As a web server answers what it cannot read."""
    peer.recv(1024)
    peer.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    peer.close()


def speaks_ssh(peer: socket.socket) -> None:
    """Talks first, and keeps the connection."""
    peer.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")


def stays_silent(_peer: socket.socket) -> None:
    """Accepts and never answers."""


def dies_after_connack(peer: socket.socket) -> None:
    """Lets the client in and drops it at its next word."""
    peer.recv(1024)
    peer.sendall(CONNACK)
    peer.recv(1024)
    peer.close()


def never_acknowledges(peer: socket.socket) -> None:
    """Lets the client in and says nothing more."""
    peer.recv(1024)
    peer.sendall(CONNACK)


@contextmanager
def serving(behaviour: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port on which every connection is handled by `behaviour`."""
    peers = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                    peers.append(peer)
                    behaviour(peer)
                except OSError:
                    if listener.fileno() < 0:
                        return

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            for peer in peers:
                peer.close()
