"""How fast several relays on one ledger in PostgreSQL take in what devices say: `python -m proofs.scale --shared`.

Must stay true: broker, database and relays are real, each a process of its own; all that was said is stored and every
command settled, or there is no figure. Devices are light: what they would say is made before, and waits at the broker
when the relays, which know of each other, go on.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from binascii import crc32
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from dormouse import protocol
from dormouse_host.broker.local import Mosquitto
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.outbound import Ack
from dormouse_host.ledger.store import Incoming, Ledger
from dormouse_host.processes import start, stop
from proofs.scale.plant import BROKER, cpu
from support.needs import need_mosquitto
from support.postgresql import PostgreSQL, need_postgresql
from support.waiting import until

DEVICES, EACH = 4000, 2  # and commands for each
_KNOW = 15.0  # seconds after which relays know of each other
_LIMIT = 300.0  # seconds that a run may take


@dataclass(frozen=True)
class Taken:
    """One run: seconds until all was settled, and seconds of CPU of each relay."""

    relays: int
    messages: int
    seconds: float
    cpu: tuple[float, ...]


def measure(relays: int, devices: int = DEVICES, each: int = EACH) -> Taken:
    """So many relays, alive from before the first message."""
    with ExitStack() as stack:
        server = stack.enter_context(PostgreSQL(need_postgresql()))
        url = stack.enter_context(server.fresh())
        broker = Mosquitto(need_mosquitto(), [f"{key} {value}" for key, value in BROKER.items()])
        broker.start()
        stack.callback(broker.close)
        ledger = stack.enter_context(Ledger(url))
        said = _prepare(ledger, [f"dev{at:05}" for at in range(devices)], each)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dormouse-shared-")))
        children = [
            stack.enter_context(relay(f"r{at}", url, broker.address.url, folder / f"r{at}")) for at in range(relays)
        ]
        time.sleep(_KNOW if relays > 1 else 1)
        for child in children:
            os.kill(child.pid, signal.SIGSTOP)
        _publish(broker, said)
        before = [cpu(child.pid) for child in children]
        began = time.monotonic()
        for child in children:
            os.kill(child.pid, signal.SIGCONT)
        until(lambda: ledger.counts().get("succeeded") == devices * each, _LIMIT)
        seconds = time.monotonic() - began
        used = tuple(cpu(child.pid) - was for child, was in zip(children, before, strict=True))
        return Taken(relays, len(said), seconds, used)


def _prepare(ledger: Ledger, names: Sequence[str], each: int) -> list[tuple[str, bytes]]:
    """Commands that are out, and what the devices say of them: topic and payload."""
    ledger.add_devices(names)
    report = {"wake": 1, "state": "s1", "next": 900}
    for at in range(0, len(names), 500):
        ledger.take([Incoming(name, protocol.WAKE, _text(report)) for name in names[at : at + 500]], "c1")
    ledger.enter([Order(name, "say") for name in names for _ in range(each)])
    published: dict[str, list[bytes]] = {name: [] for name in names}
    while outgoing := ledger.claim("before", "c1", 500):
        for one in outgoing:
            published[one.device].append(one.payload)
        ledger.acknowledged([Ack(one.key, one.times, True) for one in outgoing])
    said: list[tuple[str, object]] = []
    for name, payloads in published.items():
        ids = [json.loads(payload)["id"] for payload in payloads]
        answers = [
            {"id": command, "status": "succeeded", "crc": crc32(payload), "value": {"n": 1}}
            for command, payload in zip(ids, payloads, strict=True)
        ]
        windows = {protocol.split_id(ids[0])[1]: [each, f"s{each}"]}
        end = {"wake": 2, "state": "s1", "present": True, "drained": True, "acked": 1, "windows": windows}
        for leaf, value in (
            (protocol.WAKE, {**report, "wake": 2}),
            (protocol.TELEMETRY, {"state": "s1", "records": [[1, -5, {"t": 21.5}]]}),
            (protocol.RESULT, answers),
            (protocol.END, end),
        ):
            said.append((protocol.topic(protocol.ROOT, name, leaf), value))
    return [(topic, _text(value)) for topic, value in said]


def _text(value: object) -> bytes:
    return json.dumps(value).encode()


@contextmanager
def relay(name: str, url: str, broker: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A relay's process, connected."""
    argv = [sys.executable, "-m", "dormouse_host.cli", "relay", "--name", name, "--db", url, "--broker", broker]
    with log.open("wb") as output:
        child = start(argv, output=output, env=dict(os.environ))
    try:
        until(lambda: " connected " in log.read_text())
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            stop(child)


def _publish(broker: Mosquitto, said: Sequence[tuple[str, bytes]]) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, "scale-devices")
    client.max_inflight_messages_set(1000)
    client.connect(broker.address.host, broker.address.port)
    client.loop_start()
    for sent in [client.publish(topic, payload, 1) for topic, payload in said]:
        sent.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()
