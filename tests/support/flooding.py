"""A broker that sends without end, as a process of its own; and how much memory who is connected to it took.

Must stay true: CONNACK and SUBACK are in order, so that the client gets to where it is flooded; the process is gone
with the `with` block.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from dormouse_host.broker.local import HOST
from support.peer import packet, publish

CEILING = 256 << 20  # bytes that a process of the host may take, whatever a broker does
_STARTS = 30.0  # s that a process may take to say its first word
_TOPIC = "dormouse/dev/up/telemetry"
_LISTS = b'{"wake":1,"state":"s","x":[' + b"[]," * 21_000 + b"0]}"  # 63 KB that are 1.4 MB in Python


def _small(lead: bytes) -> Iterator[bytes]:
    """At QoS 1, and no PUBACK is read."""
    n = 0
    while True:
        yield b"".join(publish(_TOPIC, lead + b"x" * 40, pid) for pid in range(n + 1, n + 1001))
        n = (n + 1000) % 60_000


def _large(lead: bytes) -> Iterator[bytes]:
    n = 0
    while True:
        n = n % 60_000 + 1
        yield publish("dormouse/dev/up/wake", lead + _LISTS, n)


def _unacknowledged(lead: bytes) -> Iterator[bytes]:
    one = publish(_TOPIC, lead + b"x" * 1000, qos=0) * 50
    while True:
        yield one


def _huge(lead: bytes) -> Iterator[bytes]:
    """As long as MQTT has them: 256 MB."""
    while True:
        yield publish(_TOPIC, lead, 7, size=268_435_455 - 2 - len(_TOPIC) - 2)
        for _ in range(4095):
            yield b"x" * 65536
        yield b"x" * (65535 - 2 - len(_TOPIC) - 2 - len(lead))


def _twice(lead: bytes) -> Iterator[bytes]:
    """At QoS 2, without PUBREL."""
    n = 0
    while True:
        n = n % 65_000 + 1
        yield publish(_TOPIC, lead + b"x" * 60_000, n, qos=2)


def _suback(lead: bytes) -> Iterator[bytes]:
    yield packet(0x90, b"", 200_000_000)
    while True:
        yield b"\0" * 65536


def _pings(lead: bytes) -> Iterator[bytes]:
    while True:
        yield b"\xc0\x00" * 10_000


KINDS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "small": _small,
    "large": _large,
    "unacknowledged": _unacknowledged,
    "huge": _huge,
    "qos 2": _twice,
    "suback": _suback,
    "pings": _pings,
}


class Flood:
    """Floods everybody who connects. A context manager."""

    def __init__(self, kind: str) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"mqtt://{HOST}:{self.port}"
        self._process = multiprocessing.get_context("fork").Process(target=self._serve, args=(KINDS[kind],))

    def __enter__(self) -> Self:
        self._process.start()
        self._listener.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def _serve(self, kind: Callable[[bytes], Iterator[bytes]]) -> None:
        while True:
            peer, _ = self._listener.accept()
            with peer, contextlib.suppress(OSError):
                peer.settimeout(10)
                v5 = _let_in(peer)
                for data in kind(b"\0" if v5 else b""):
                    peer.sendall(data)


def _let_in(peer: socket.socket) -> bool:
    """CONNACK, and SUBACK where the client subscribes at once. Is it MQTT 5, whose PUBLISH has a list of properties?"""
    said = peer.recv(4096)
    v5 = said[said.index(b"MQTT") + 4] == 5
    peer.sendall(packet(0x20, b"\0\0\0" if v5 else b"\0\0"))
    peer.settimeout(1)
    with contextlib.suppress(TimeoutError):
        said = peer.recv(4096)
        at = next((n for n in range(len(said)) if said[n] == 0x82), None)
        if at is not None:
            mid = said[at + 2 : at + 4]
            peer.sendall(packet(0x90, mid + (b"\0\1" if v5 else b"\1")))
    peer.settimeout(10)
    return v5


def peak(pid: int) -> int:
    """The bytes that a process has had resident at most; 0 where it is gone."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) << 10
    return 0


def highest(argv: list[str], seconds: float, says: str = "", **how: object) -> tuple[int, str]:
    """Run a command so long, from when it `says` that on: the most bytes that it had resident, and what it said."""
    reader, writer = os.pipe()
    child = subprocess.Popen(argv, stdout=writer, stderr=writer, stdin=subprocess.DEVNULL, **how)  # type: ignore[call-overload]
    os.close(writer)
    most, until, said = 0, time.monotonic() + seconds + (_STARTS if says else 0), b""
    with os.fdopen(reader, "rb", 0) as pipe:
        os.set_blocking(reader, False)
        while time.monotonic() < until and child.poll() is None:
            most = max(most, peak(child.pid))
            if most > 2 * CEILING:
                break
            time.sleep(0.02)
            said += pipe.read(1 << 20) or b""
            if says and says.encode() in said:
                until, says = time.monotonic() + seconds, ""
        child.send_signal(signal.SIGKILL)
        child.wait()
        said += pipe.read(1 << 20) or b""
    return most, said.decode(errors="replace")
