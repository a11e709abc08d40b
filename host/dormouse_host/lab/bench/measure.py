"""Measures one wake as a row, over a wire or through the proxy, and the smallest heap with which a wake succeeds.

The fastest of several runs counts, since other programs can only slow a wake. The proxy answers TCP's handshake itself,
so that one round trip is added to what it saw, and hides Nagle's algorithm; over a wire all is as TCP has it.
"""

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

from dormouse_host.address import BrokerAddress
from dormouse_host.broker.authority import Authority
from dormouse_host.broker.local import HOST, Mosquitto, free_port
from dormouse_host.errors import HostError
from dormouse_host.lab import wire
from dormouse_host.lab.bench.cases import DELAY, Row, Style
from dormouse_host.lab.bench.proxy import Conversation, Proxy
from dormouse_host.lab.bench.subject import Collector, Subject

TLS_HEAP = 23_408  # bytes of MicroPython's heap that an open connection keeps where mbedtls has its memory there: rp2
_LEAST, _MOST = 8, 512  # KiB of heap between which the smallest is looked for
_AMPLE = "2048k"  # for the time that a wake takes where a board's heap is not enough
_numbers = itertools.count(1)
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Bench:
    """A mosquitto with its default limits, in clear and with TLS, another that sets TCP_NODELAY, and a folder for
    devices. A context manager. With `link` they are on its far side.
    """

    def __init__(self, program: Path, link: wire.Wire | None = None) -> None:
        self.link = link
        memory = Path("/dev/shm")  # flash has a column of its own: this machine's disk should cost a wake nothing
        self._temporary = tempfile.TemporaryDirectory(prefix="bench-", dir=memory if memory.is_dir() else None)
        self.folder = Path(self._temporary.name)
        authority = Authority.create(self.folder)
        server = authority.server([HOST])
        cert, key = self.folder / "broker.pem", self.folder / "broker.key"
        cert.write_bytes(server.pem)
        key.write_bytes(server.key_pem)
        self.ca = authority.der
        self.secure = BrokerAddress(HOST, free_port())
        listener = [f"listener {self.secure.port} {HOST}", f"certfile {cert}", f"keyfile {key}"]
        self.broker = Mosquitto(program, listener)
        self.eager = Mosquitto(program, ["set_tcp_nodelay true"])

    @property
    def address(self) -> BrokerAddress:
        """The address without TLS."""
        return self.broker.address

    def far(self, function: Callable[_P, _T], /, *args: _P.args, **named: _P.kwargs) -> _T:
        """Call it where the brokers are."""
        return self.link.broker.run(function, *args, **named) if self.link else function(*args, **named)

    def __enter__(self) -> Self:
        try:
            for broker in (self.broker, self.eager):
                self.far(broker.start)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for broker in (self.broker, self.eager):
            self.far(broker.close)
        self._temporary.cleanup()


def fastest(bench: Bench, style: Style, case: tuple[int, int], runs: int) -> Row:
    """The run of `runs` with the fewest round trips until the last useful packet."""
    row = min((wake(bench, style, case) for _ in range(runs)), key=lambda row: row.useful)
    if bench.link and style != "ours, TLS":
        row.eager = min(wake(bench, style, case, eager=True).useful for _ in range(runs))
    return row


def wake(bench: Bench, style: Style, case: tuple[int, int], *, eager: bool = False) -> Row:
    """One wake of a new device, through the proxy or over the wire; `eager`: where the broker sets TCP_NODELAY."""
    subject = _new(bench, style)
    if not subject.ours:
        subject.heap = _AMPLE
    address = (bench.eager if eager else bench.broker).address
    with bench.far(Collector, address, subject.id) as collector:
        bench.far(subject.prime, address, case[1])
        bench.far(collector.publish, subject.id, case[0])
        if style == "ours, TLS":
            subject.ca = bench.ca
        behind = bench.secure if subject.ca else address
        row = _over_wire(bench.link, subject, behind, case) if bench.link else _through_proxy(subject, behind, case)
        collector.wait(case[0], case[1] + subject.ours)  # its first wake has sampled, too
    return row


def _through_proxy(subject: Subject, behind: BrokerAddress, case: tuple[int, int]) -> Row:
    with Proxy((behind.host, behind.port), DELAY) as proxy:
        writes = subject.wake(BrokerAddress(proxy.host, proxy.port))
        conversation = proxy.conversations[0]
    if len(proxy.conversations) != 1:
        raise HostError("the wake took more than one connection")
    return _row(subject.style, case, conversation, writes)


def _over_wire(link: wire.Wire, subject: Subject, behind: BrokerAddress, case: tuple[int, int]) -> Row:
    first = len(link.packets)
    writes = link.device.run(subject.wake, behind)
    time.sleep(4 * DELAY)  # for what is under way
    packets = link.packets[first:]
    opened = [p for p in packets if p.up and p.flags & wire.SYN]
    closed = [p for p in packets if p.up and p.flags & (wire.FIN | wire.RST)]
    if len({p.ports for p in opened}) != 1 or not closed:
        raise HostError("the wake took more than one connection, or left it open")
    trip = 2 * DELAY
    began = opened[0].came + trip
    up, down = ([p for p in packets if p.up is way and p.size] for way in (True, False))
    return Row(
        style=subject.style,
        commands=case[0],
        records=case[1],
        useful=1 + (max(p.came for p in down) + DELAY - began) / trip,
        asleep=1 + (closed[0].came - began) / trip,
        causal=None,
        up=sum({p.number: p.size for p in up}.values()),
        down=sum({p.number: p.size for p in down}.values()),
        segments=len(up),
        writes=writes,
        flights=[(p.came - began + (0 if p.up else DELAY), p.up, p.size) for p in (*up, *down)],
    )


def _new(bench: Bench, style: Style) -> Subject:
    device = f"bench-{next(_numbers)}"
    return Subject(bench.folder / device, style, device)


def _row(style: Style, case: tuple[int, int], conversation: Conversation, writes: int) -> Row:
    began, trip = conversation.opened, 2 * DELAY
    last = max(chunk.went for chunk in conversation.down)
    up, down = conversation.up, conversation.down
    return Row(
        style=style,
        commands=case[0],
        records=case[1],
        useful=1 + (last - began) / trip,
        asleep=1 + (conversation.closed - began) / trip,
        causal=conversation.round_trips(),
        up=sum(len(chunk.data) for chunk in up),
        down=sum(len(chunk.data) for chunk in down),
        segments=max(chunk.segments for chunk in up),
        writes=writes,
        flights=[((c.came if c.up else c.went) - began, c.up, len(c.data)) for c in conversation.chunks],
    )


def flash_and_memory(bench: Bench, case: tuple[int, int]) -> tuple[int, float, int]:
    """Erases and milliseconds of our wake on simulated flash, sampling wakes before it included; and its peak heap."""
    return bench.far(_flash_and_memory, bench, case)


def _flash_and_memory(bench: Bench, case: tuple[int, int]) -> tuple[int, float, int]:
    subject = _new(bench, "ours")
    with Collector(bench.address, subject.id) as collector:
        subject.configure(bench.address)
        subject.on_flash()
        sampled = [subject.on_flash("timer") for _ in range(case[1] - 1)]
        collector.publish(subject.id, case[0])
        lived = [*sampled, subject.on_flash()]
        collector.wait(case[0], case[1] + 1)
    return sum(e for e, _, _ in lived), sum(ms for _, ms, _ in lived), lived[-1][2]


def smallest_heap(bench: Bench, style: Style, case: tuple[int, int], *, rom: bool = False) -> int | None:
    """KiB of heap with which a wake gets all of it done, with `rom` from ROMFS; None where half a MiB is not enough.

    Over TLS with the memory of TLS taken from it for the whole wake, as on a Pico W while the connection is open.
    """
    least, most = _LEAST, _MOST
    if not passes(bench, style, case, most, rom):
        return None
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if passes(bench, style, case, middle, rom) else (middle, most)
    return most


def passes(bench: Bench, style: Style, case: tuple[int, int], heap: int, rom: bool) -> bool:
    """Does a wake with `heap` KiB finish all its work?"""
    return bench.far(_passes, bench, style, case, heap, rom)


def _passes(bench: Bench, style: Style, case: tuple[int, int], heap: int, rom: bool) -> bool:
    subject = _new(bench, style)
    with Collector(bench.address, subject.id) as collector:
        subject.prime(bench.address, case[1])
        collector.publish(subject.id, case[0])
        subject.heap, subject.rom = f"{heap}k", rom
        if style == "ours, TLS":
            subject.ca, subject.held = bench.ca, TLS_HEAP
        try:
            subject.wake(bench.secure if subject.ca else bench.address)
            collector.wait(case[0], case[1] + subject.ours)
        except HostError:
            return False
    return True
