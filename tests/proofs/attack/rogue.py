"""A device's own credential, used by somebody who floods the host with what a device may say.

Must stay true: a device of the owner's wakes in the middle of it, and what became of its command is judged, too; what
was sent was acknowledged by the broker, so all of it reaches the relay.
"""

import json
import threading
import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import func, select

from dormouse import protocol
from dormouse_host.broker_check.probe import Client
from dormouse_host.ledger import schema
from proofs.attack import Outcome, attack
from proofs.attack.testbed import Testbed
from support.device_folder import Device
from support.flooding import CEILING, peak
from support.waiting import until

_GROUP = "a rogue device"
_AIM = 1.0  # seconds that an honest device's answer may take meanwhile, where this machine has nothing else to do
_DELAY = 20.0  # and in any case
_GROWTH = 16 << 20  # bytes of the ledger's file, for some 6 MB that were sent
_MEGABYTE = 1 << 20
_WAKES = 500  # of each kind
_GAP = 1_000_000  # records that never come


def _records(state: str) -> list[bytes]:
    """A megabyte in messages as long as the relay takes, above a gap."""
    found: list[bytes] = []
    number = _GAP
    while sum(len(one) for one in found) < _MEGABYTE:
        records = [[number + at, -5, {}] for at in range(3500)]
        number += len(records)
        found.append(json.dumps({"state": state, "records": records}, separators=(",", ":")).encode())
    return found


def _reports(state: str) -> list[bytes]:
    """Wakes whose fields have wrong types, and right ones with a tail that was never sent."""
    windows = {f"l{at}": [256, "s256"] for at in range(2000)}
    wrong = [
        {"wake": "1", "state": state},
        {"wake": 1 << 60, "state": state},
        {"wake": 7, "state": {"s": 1}},
        {"wake": 7, "state": state, "end": [1]},
        {"wake": 7, "state": state, "end": {"wake": 6, "state": state, "windows": windows}},
        [[[[[[[[[[[[[]]]]]]]]]]]]],
    ]
    odd = {"next": "soon", "battery": [], "catalogue": {}, "limit": -1, "skipped": 3, "last": "x", "rssi": {"a": [1]}}
    found: list[object] = []
    for wake in range(100, 100 + _WAKES):
        end = {"wake": wake - 1, "state": state, "present": True, "drained": True, "acked": (1 << 53) - 1}
        found += [wrong[wake % len(wrong)], {"wake": wake, "state": state, **odd, "end": {**end, "windows": {}}}]
    return [json.dumps(one).encode() for one in found]


def _flood(testbed: Testbed, rogue: Device, state: str, over: threading.Event) -> None:
    name = rogue.config["id"]
    with Client(testbed.of_device(rogue), name, clean=True) as client:
        client.connect()
        for leaf, said in ((protocol.TELEMETRY, _records(state)), (protocol.WAKE, _reports(state))):
            for at in range(0, len(said), 100):
                client.publish(protocol.topic("dormouse", name, leaf), said[at : at + 100])
        client.close()
    over.set()


def _size(testbed: Testbed) -> int:
    path = Path(testbed.db)
    return path.stat().st_size if path.is_file() else 0


def _rows(testbed: Testbed, device: Device) -> dict[str, int]:
    tables = {"commands": schema.commands, "records": schema.telemetry, "wakes": schema.reports}
    with testbed.fleet as fleet, fleet.ledger.database.reading() as connection:
        return {
            what: connection.execute(
                select(func.count()).select_from(table).where(table.c.device == device.config["id"])
            ).scalar_one()
            for what, table in tables.items()
        }


@attack(_GROUP, "a megabyte of telemetry above a gap of a million, and a thousand wakes of wrong types")
def try_rogue(testbed: Testbed) -> Outcome:
    honest, rogue = testbed.device(), testbed.device()
    testbed.meet(honest)
    state = testbed.meet(rogue)
    said, size = testbed.log("relay"), _size(testbed)
    over = threading.Event()
    threading.Thread(target=_flood, args=(testbed, rogue, state, over), daemon=True).start()
    time.sleep(0.5)
    command, status = testbed.send(honest, s=3), "not settled"
    testbed.wake(honest)
    began = time.monotonic()
    with suppress(AssertionError):  # a delay without end is for the verdict below
        status = testbed.settled(command)
    delay = time.monotonic() - began
    until(over.is_set, 600)
    until(lambda: _rows(testbed, rogue)["wakes"] >= _WAKES)
    rows, growth = _rows(testbed, rogue), _size(testbed) - size
    named = testbed.log("relay")[len(said) :].count("not understood")
    wrong = status != "succeeded" or delay > _DELAY or growth > _GROWTH or rows["commands"] > 20 or not named
    most = peak(testbed.relay)
    seen = f"an honest answer after {delay:.1f} s (aim: {_AIM:g}): {status}; {rows}, {growth >> 10} KiB"
    return Outcome(wrong or most > CEILING, f"{seen}, named {named} times, the relay had {most >> 20} MB")
