"""Probes of what a device does at every wake: QoS 1, its topics, and the fence behind stored messages.

What one of them finds decides how the others go on: without QoS 1 there is nothing to test, and where stored messages
come slowly, fewer are stored.
"""

import math
import time
from collections.abc import Iterator
from itertools import pairwise

from dormouse import protocol
from dormouse_host import probes
from dormouse_host.broker_check.findings import Case, Device, Row, numbered
from dormouse_host.broker_check.probe import Client, NoAnswer, fresh

_FEW = 6  # stored commands
_QUIET = 3.0  # seconds without one after which no more are expected
_SOON = 0.5  # seconds in which a broker that closes at a publish has closed
_LEAST = 500  # ms of `quiet`
_STEP = 100
_SLOW = 0.02  # seconds between two stored messages from which a broker counts as slow
_PATIENCE = 20  # seconds that a queue may take to come


def qos1(case: Case) -> Iterator[Row]:
    """QoS 1, without which nothing waits for a sleeper."""
    what = "QoS 1"
    device = case.device()
    try:
        with device.client(clean=True) as client:
            granted = client.connect().subscribe(device.all_down)
            if granted == 1:
                client.publish(device.topic(protocol.TELEMETRY), [probes.payload(True)])
                client.close()
    except NoAnswer as error:
        yield _broken("qos1", what, str(error), "no command waits for a device, and no telemetry is acknowledged")
        return
    if granted == 1:
        yield Row("qos1", what, "granted", "ok")
    elif granted < 1:
        means = "no command waits for a sleeping device: Dormouse cannot be used there"
        yield _broken("qos1", what, f"QoS {granted} is granted in its place", means)
    else:
        yield _broken("qos1", what, "the subscription to down/# is refused", "no command reaches a device")


def _broken(key: str, what: str, seen: str, means: str) -> Row:
    return Row(
        key, what, seen, "broken", means, "mosquitto: max_qos; a device may read its own down/#; else another broker"
    )


def topics(case: Case) -> Iterator[Row]:
    """May a device publish where it has to?"""
    closed = []
    for leaf in (protocol.WAKE, protocol.RESULT, protocol.TELEMETRY, protocol.END, protocol.FENCE):
        device = case.device()
        with device.client(clean=True) as client:
            client.connect()
            client.send(device.topic(leaf), [probes.payload(True)], 0 if leaf == protocol.END else 1)
            client.rest(case.slow * _SOON)
            if not client.alive:
                closed.append(leaf)
    if not closed:
        yield Row("topics", "publishing on a device's topics", "never closed", "ok")
        return
    all_but_fence = closed == [protocol.FENCE]
    yield Row(
        "topics",
        "publishing on a device's topics",
        f"it closes at {', '.join(closed)}",
        "warning" if all_but_fence else "broken",
        "each wake is cut three times before it goes on without a fence" if all_but_fence else "every wake is cut",
        "rights of a device: write its up/# and its own down/fence; Azure IoT Hub: has fixed topics, use Event Grid",
    )


def live(case: Case) -> Iterator[Row]:
    """Do live messages, the fence among them, overtake stored ones?"""
    what = "live messages and stored ones"
    device = case.device().sleep()
    wanted = numbered(_FEW)
    with case.client() as client:
        client.connect().publish(device.topic(protocol.CMD), wanted)
        client.close()
    nonce = fresh().encode()
    with device.client() as client:
        began = time.monotonic()
        device.wake(client, nonce)
        client.settle(lambda: _all(device, client, wanted, nonce), case.slow * _QUIET)
        times = [m.at for m in client.came if m.topic == device.topic(protocol.CMD)]
        fence = next((m.at for m in client.came if m.topic == device.topic(protocol.FENCE)), None)
        late = sum(fence is not None and at > fence for at in times)
        client.close()
    if len(times) > 2:
        pause = (times[-1] - times[0]) / (len(times) - 1)
        if pause > _SLOW:
            most = math.ceil(_PATIENCE / pause)
            case.some, case.depth = min(case.some, most), min(case.depth, most)
            yield Row("pace", "pace of stored messages", f"{1 / pause:.0f} a second", "note", "a queue takes its time")
    if not late or fence is None:
        yield Row("live", what, "stored ones come first", "ok")
        return
    case.overtakes = True
    known = [began, *times]
    gap = max(b - a for a, b in pairwise(known))
    quiet = max(_LEAST, math.ceil(2500 * gap / _STEP) * _STEP)
    yield Row(
        "live",
        what,
        f"{late} of {len(times)} stored ones came after the fence, up to {1000 * gap:.0f} ms apart",
        "warning",
        "the fence is no proof there: with it alone a wake ends while commands wait",
        f'for the devices: drain = "quiet", quiet = {quiet}',
        {"drain": "quiet", "quiet": quiet},
    )


def _all(device: Device, client: Client, wanted: list[bytes], nonce: bytes) -> bool:
    came = [m.payload for m in client.came]
    return nonce in came and set(wanted) <= set(device.commands(client))
