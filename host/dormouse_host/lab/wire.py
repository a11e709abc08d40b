"""A network of real TCP between two sides on this machine: delay, loss and what else its rule does to a packet.

Must stay true: two network namespaces of their own, each the only one with an interface to the other; no packet leaves
this machine; both are gone with the block. Each side has the addresses of a machine by itself: the broker at 127.0.0.1
is another one's for the device. Needs Linux, root and /dev/net/tun.

Between the two, packets go through this process, which sees them as a capture would, and hands each on when its rule
says so. Both ends are the kernel's TCP but for one thing: small writes are not corked while the interface is busy,
because a board's lwIP does not do so.
"""

import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, ParamSpec, Self, TypeVar

from dormouse_host.errors import HostError

BROKER, DEVICE = "127.0.0.1", "127.0.0.2"
SYN, FIN, RST, ACK = 2, 1, 4, 16
_TUN = Path("/dev/net/tun")
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFDSTADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x8918, 0x891C
_IFF_UP = 1
_KERNEL = {"conf/all/route_localnet": "1", "conf/default/route_localnet": "1", "tcp_autocorking": "0"}
_MOST = 200_000  # packets kept of one wire
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Packet(NamedTuple):
    """An IPv4 packet with TCP. `up`: from the device; `came`: monotonic seconds; `size`: bytes of TCP's payload."""

    up: bool
    data: bytes
    came: float
    flags: int
    size: int
    number: int  # TCP's sequence number
    ports: tuple[int, int]  # the device's, the broker's


Rule = Callable[[Packet], Sequence[tuple[float, bytes]]]  # (seconds, bytes that arrive after them): none, one or more


def possible() -> str | None:
    """Why there can be no wire here, or None."""
    if not sys.platform.startswith("linux"):
        return "it needs Linux"
    if os.geteuid():
        return "it needs root"
    return None if _TUN.exists() else f"{_TUN} is missing"


class Side:
    """One end of a wire. What `run` runs, and every thread and process that it starts, is on it."""

    def __init__(self, own: str, other: str) -> None:
        self._pool = ThreadPoolExecutor(1)
        self.tun: int = self._pool.submit(_enter, own, other).result()

    def run(self, function: Callable[_P, _T], /, *args: _P.args, **named: _P.kwargs) -> _T:
        """Call it on this side."""
        return self._pool.submit(function, *args, **named).result()

    def close(self) -> None:
        """Leave."""
        self._pool.shutdown()
        os.close(self.tun)


def _enter(own: str, other: str) -> int:
    """Move this thread to a new network namespace. Returns the descriptor of its only way out."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise HostError(f"no network namespace: {os.strerror(number)}")
    for name, value in _KERNEL.items():
        path = Path("/proc/sys/net/ipv4", name)
        if path.exists():
            path.write_text(value)
    tun = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"wire", _IFF_TUN | _IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _set(control, "lo", _IFF_UP)
        _address(control, "lo", _SIOCSIFADDR, "192.0.2.1")  # else all of 127.0.0.0/8 would be this side's own
        _address(control, "lo", _SIOCSIFNETMASK, "255.255.255.255")
        _address(control, "wire", _SIOCSIFADDR, own)
        _address(control, "wire", _SIOCSIFDSTADDR, other)
        _address(control, "wire", _SIOCSIFNETMASK, "255.255.255.255")
        _set(control, "wire", _IFF_UP)
    return tun


def _set(control: socket.socket, name: str, flags: int) -> None:
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags))


def _address(control: socket.socket, name: str, call: int, address: str) -> None:
    fcntl.ioctl(control, call, struct.pack("16sHH4s16x", name.encode(), socket.AF_INET, 0, socket.inet_aton(address)))


class Wire:
    """A context manager. `packets`: all that came so far, from either side. `rule` may be changed at any time."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.packets: list[Packet] = []
        self._end = threading.Event()
        self._wrong: BaseException | None = None

    def __enter__(self) -> Self:
        if why := possible():
            raise HostError(f"no wire can be made: {why}")
        self.broker = Side(BROKER, DEVICE)
        self.device = Side(DEVICE, BROKER)
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.device.close()
        self.broker.close()
        if self._wrong:
            raise self._wrong

    def _carry(self) -> None:
        try:
            self._forward()
        except BaseException as error:
            self._wrong = error

    def _forward(self) -> None:
        late: list[tuple[float, int, int, bytes]] = []  # (when, order, to which descriptor, packet)
        order = itertools.count()
        poll = select.poll()
        for side in (self.broker, self.device):
            poll.register(side.tun, select.POLLIN)
        while not self._end.is_set():
            wait = min(0.05, late[0][0] - time.monotonic()) if late else 0.05
            for descriptor, _ in poll.poll(max(0.0, wait) * 1000):
                up = descriptor == self.device.tun
                packet = _packet(os.read(descriptor, 65536), up)
                if packet is None:
                    continue
                if len(self.packets) < _MOST:
                    self.packets.append(packet)
                to = self.broker.tun if up else self.device.tun
                for seconds, data in self.rule(packet):
                    heapq.heappush(late, (packet.came + seconds, next(order), to, data))
            while late and late[0][0] <= time.monotonic():
                _, _, to, data = heapq.heappop(late)
                os.write(to, data)


def _packet(data: bytes, up: bool) -> Packet | None:
    """What a side has sent; None where it is no TCP over IPv4, which nothing here needs."""
    if len(data) < 40 or data[0] >> 4 != 4 or data[9] != socket.IPPROTO_TCP:
        return None
    head = (data[0] & 15) * 4
    source, target, number = struct.unpack_from(">HHI", data, head)
    size = len(data) - head - (data[head + 12] >> 4) * 4
    ports = (source, target) if up else (target, source)
    return Packet(up, data, time.monotonic(), data[head + 13], size, number, ports)


# ---- rules


def steady(delay: float) -> Rule:
    """Each packet `delay` seconds later."""
    return lambda packet: ((delay, packet.data),)


def lossy(delay: float, share: float, seed: int) -> Rule:
    """Of all packets, this share is lost in either direction."""
    chance = random.Random(seed)
    return lambda packet: () if chance.random() < share else ((delay, packet.data),)


def shuffled(delay: float, share: float, seed: int) -> Rule:
    """This share of the packets arrives half a delay late, behind those that were sent after it."""
    chance = random.Random(seed)
    return lambda packet: ((delay * (1.5 if chance.random() < share else 1), packet.data),)


def doubled(delay: float, share: float, seed: int) -> Rule:
    """This share of the packets arrives twice."""
    chance = random.Random(seed)
    return lambda packet: ((delay, packet.data), (delay * 1.2, packet.data))[: 2 if chance.random() < share else 1]


def black_hole(delay: float, most: int) -> Rule:
    """Packets above `most` bytes vanish on the way up, and nobody is told."""
    return lambda packet: () if packet.up and len(packet.data) > most else ((delay, packet.data),)


def dead_after(delay: float, segments: int) -> Rule:
    """Each connection is dead, both ways, behind the first segments with data that come down."""
    seen: dict[tuple[int, int], int] = {}

    def rule(packet: Packet) -> tuple[tuple[float, bytes], ...]:
        count = seen.get(packet.ports, 0)
        if not packet.up and packet.size:
            seen[packet.ports] = count + 1
        return ((delay, packet.data),) if count < segments else ()

    return rule


def shut(delay: float, seconds: float) -> Rule:
    """For so long after a connection's first segment with data, the broker's side has room for no byte."""
    until: dict[tuple[int, int], float] = {}

    def rule(packet: Packet) -> tuple[tuple[float, bytes], ...]:
        if packet.up and packet.size:
            until.setdefault(packet.ports, packet.came + seconds)
        closed = not packet.up and packet.came < until.get(packet.ports, 0)
        return ((delay, _without_window(packet.data) if closed else packet.data),)

    return rule


def _without_window(data: bytes) -> bytes:
    """The packet with a window of 0, and its checksum changed by as much (RFC 1624)."""
    head = (data[0] & 15) * 4
    window, checksum = struct.unpack_from(">HH", data, head + 14)
    total = (~checksum & 0xFFFF) + (~window & 0xFFFF)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return data[: head + 14] + struct.pack(">HH", 0, ~total & 0xFFFF) + data[head + 18 :]
