"""One wake through the proxy as a row; and the smallest heap with which a wake gets through.

Must stay true: of several runs the fastest counts, since another program on this machine can only add to a wake; the
proxy answers TCP's handshake itself, so that one round trip is added to what it saw.
"""

import itertools
from pathlib import Path

from dormouse_host.bench.cases import DELAY, Row, Style
from dormouse_host.bench.proxy import Conversation, Proxy
from dormouse_host.bench.subject import Collector, Subject
from dormouse_host.broker import LocalBroker
from dormouse_host.errors import HostError
from dormouse_host.url import BrokerAddress

_LEAST, _MOST = 8, 192  # KiB of heap between which the smallest is looked for
_numbers = itertools.count(1)


def fastest(broker: LocalBroker, folder: Path, style: Style, case: tuple[int, int], runs: int) -> Row:
    """The run of `runs` with the fewest round trips until the last useful packet."""
    return min((wake(broker, folder, style, case) for _ in range(runs)), key=lambda row: row.useful)


def wake(broker: LocalBroker, folder: Path, style: Style, case: tuple[int, int]) -> Row:
    """One wake of a new device through the delaying proxy."""
    address = broker.address
    subject = _new(folder, style)
    with Collector(address, subject.id) as collector:
        subject.prime(address, case[1])
        collector.publish(subject.id, case[0])
        with Proxy((address.host, address.port), DELAY) as proxy:
            writes = subject.wake(BrokerAddress(proxy.host, proxy.port))
            conversation = proxy.conversations[0]
        if len(proxy.conversations) != 1:
            raise HostError("the wake took more than one connection")
        collector.wait(case[0], case[1] + (style == "ours"))  # its first wake has sampled, too
    return _row(style, case, conversation, writes)


def _new(folder: Path, style: Style) -> Subject:
    device = f"bench-{next(_numbers)}"
    return Subject(folder / device, style, device)


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
        segments=up[-1].segments,
        writes=writes,
        flights=[((c.came if c.up else c.went) - began, c.up, len(c.data)) for c in conversation.chunks],
    )


def flash_and_memory(broker: LocalBroker, folder: Path, case: tuple[int, int]) -> tuple[int, float, int]:
    """Erases and milliseconds of our wake on simulated flash, sampling wakes before it included; and its peak heap."""
    subject = _new(folder, "ours")
    with Collector(broker.address, subject.id) as collector:
        subject.configure(broker.address)
        subject.on_flash()
        sampled = [subject.on_flash("timer") for _ in range(case[1] - 1)]
        collector.publish(subject.id, case[0])
        lived = [*sampled, subject.on_flash()]
        collector.wait(case[0], case[1] + 1)
    return sum(e for e, _, _ in lived), sum(ms for _, ms, _ in lived), lived[-1][2]


def smallest_heap(broker: LocalBroker, folder: Path, style: Style, case: tuple[int, int]) -> int:
    """KiB of heap with which a wake gets all of it done."""
    least, most = _LEAST, _MOST
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if _passes(broker, folder, style, case, middle) else (middle, most)
    return most


def _passes(broker: LocalBroker, folder: Path, style: Style, case: tuple[int, int], heap: int) -> bool:
    subject = _new(folder, style)
    with Collector(broker.address, subject.id) as collector:
        subject.prime(broker.address, case[1])
        collector.publish(subject.id, case[0])
        subject.heap = f"{heap}k"
        try:
            subject.wake(broker.address)
            collector.wait(case[0], case[1] + (style == "ours"))
        except HostError:
            return False
    return True
