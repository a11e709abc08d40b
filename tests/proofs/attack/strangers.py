"""Ids that nobody registered, and one that was removed, by somebody who may speak for any id.

Must stay true: a device of the owner's wakes in the middle of it, and what became of its command is judged, too.
"""

import json
import threading
import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import func, select

from dormouse_host.broker import access
from dormouse_host.broker_check.probe import Client
from dormouse_host.ledger import schema, strangers
from proofs.attack import Outcome, attack
from proofs.attack.testbed import Testbed
from support.flooding import CEILING, peak
from support.waiting import until

_GROUP = "strangers"
COUNT = 100_000
_DELAY = 60.0  # seconds that an honest device's answer may take meanwhile
_GROWTH = 2 << 20  # bytes of the ledger's file


def _speak(testbed: Testbed, over: threading.Event) -> None:
    """A report in the name of each of so many ids: at QoS 0, which a broker hands on as fast as it can."""
    with Client(testbed.broker.of_relay("thief"), "x", clean=True) as client:
        client.connect()
        for n in range(COUNT):
            said = json.dumps({"wake": 1, "state": "s1", "catalogue": f"c{n}"}).encode()
            client.send(f"dormouse/ghost-{n}/up/wake", [said], 0)
            if n % 500 == 0:
                client.rest(0.05)
        client.close()
    over.set()


def _rows(testbed: Testbed, table: object) -> int:
    with testbed.fleet as fleet, fleet.ledger.database.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar() or 0  # type: ignore[arg-type]


def _size(testbed: Testbed) -> int:
    return sum(path.stat().st_size for path in (Path(testbed.db),) if path.is_file())


@attack(_GROUP, "a hundred thousand ids that nobody registered")
def try_strangers(testbed: Testbed) -> Outcome:
    device = testbed.device()
    testbed.meet(device)
    if not testbed.made.relay_file("thief").exists():
        access.add_relay(testbed.made, "thief")
        assert testbed.made.reload()
    before = (_rows(testbed, schema.devices), _rows(testbed, schema.commands), _size(testbed))
    with testbed.fleet as fleet:
        counted = fleet.strangers().messages
    over = threading.Event()
    speaking = threading.Thread(target=_speak, args=(testbed, over), daemon=True)
    speaking.start()
    time.sleep(2)
    began = time.monotonic()
    status = "not settled"
    with suppress(AssertionError):  # a delay without end is for the verdict below
        status = testbed.settled_after_wake(testbed.send(device, s=3), device)
    delay = time.monotonic() - began
    until(over.is_set, 600)
    heard, last = 0, -1
    while heard != last:
        time.sleep(2)
        with testbed.fleet as fleet:
            last, heard = heard, fleet.strangers().messages - counted + _rows(testbed, schema.devices) - before[0]
    assert heard > COUNT / 2, f"{heard} came to the relay"
    new = _rows(testbed, schema.devices) - before[0], _rows(testbed, schema.commands) - before[1] - 1
    kept, growth = _rows(testbed, schema.strangers), _size(testbed) - before[2]
    wrong = new != (0, 0) or kept > strangers.NAMED + 1 or growth > _GROWTH or status != "succeeded"
    seen = f"{heard} heard: {new[0]} devices, {kept} rows, {growth >> 10} KiB"
    seen += f"; an honest answer after {delay:.1f} s: {status}"
    return Outcome(wrong or delay > _DELAY or peak(testbed.relay) > CEILING, seen)


@attack(_GROUP, "a removed device, and somebody in its name")
def try_removed(testbed: Testbed) -> Outcome:
    device = testbed.device(key=True)
    testbed.meet(device)
    name = device.config["id"]
    remove(testbed, name)
    with testbed.fleet as fleet:
        before = fleet.strangers().messages
    testbed.as_relay(f"dormouse/{name}/up/wake", b'{"wake":99,"state":"forged"}')
    testbed.wake(device)

    def heard() -> bool:
        with testbed.fleet as fleet:
            return fleet.strangers().messages > before or name in fleet.members()

    until(heard)
    with testbed.fleet as fleet:
        back = name in fleet.members()
    return Outcome(back, "it stays removed; what it sends is counted")


def remove(testbed: Testbed, name: str) -> None:
    """As the owner does."""
    testbed.line("devices", "remove", name, "--offline")
