"""What a device sends the ledger, made without a device; and a clock that stands still."""

import json
from binascii import crc32

from dormouse import protocol
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Incoming, Ledger

NOW = 1_790_000_000.0


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def report(wake: int, state: str = "s1", end: dict | None = None, **fields) -> Incoming:
    said = {"wake": wake, "state": state, "next": 900, **fields, **({"end": end} if end else {})}
    return Incoming("dev", protocol.WAKE, json.dumps(said).encode())


def end(wake: int, windows: dict | None = None, state: str = "s1", **fields) -> dict:
    record = {"wake": wake, "state": state, "present": True, "drained": True, "fence_dead": False, "acked": 0}
    return {**record, "windows": windows or {}, **fields}


def end_message(record: dict) -> Incoming:
    return Incoming("dev", protocol.END, json.dumps(record).encode())


def answer(outgoing, status: str = "succeeded", **fields) -> Incoming:
    """The device's answer to what was published."""
    entry = {"id": json.loads(outgoing.payload)["id"], "status": status, "crc": crc32(outgoing.payload), **fields}
    return Incoming("dev", protocol.RESULT, json.dumps([entry]).encode())


def records(*numbers: int, state: str = "s1", age: int = 0) -> Incoming:
    batch = {"state": state, "records": [[number, -age, {"v": number}] for number in numbers]}
    return Incoming("dev", protocol.TELEMETRY, json.dumps(batch).encode())


def enter(ledger: Ledger, *dos: str, **more) -> list[str]:
    return ledger.enter([Order("dev", do, **more) for do in dos])


def awake(ledger: Ledger) -> None:
    """The device has told its state."""
    assert ledger.take([report(1)], "c0") == []
