"""Cases of what remembers: a device's power, flash and clock, the ledger's past and its disk.

Must stay true: as in cases_network.py.
"""

import json
import os
import subprocess
import sys
from functools import partial

from sqlalchemy import event

from dormouse_host import Fleet
from dormouse_host.errors import HostError
from proofs.endtoend.host import TESTS, RelayProcess
from proofs.endtoend.small_disk import limit
from proofs.endtoend.world import Order, World
from support.waiting import comes

_NO_ROOM = ("disk is full", "No space left")  # SQLite's words, PostgreSQL's


def device_cut(world: World) -> None:
    """The power of devices goes at random."""
    world.greet()
    for _ in range(world.times(60)):
        world.send(4)
        world.cancel(0.01)
        if world.rng.random() < 0.3:
            world.awake(world.some())
        device = world.rng.choice(world.devices)
        device.start(world.rng.choice(["power", "power", "timer"]))
        if world.rng.random() < 0.5:
            device.cut_at_work(world.rng.uniform(0, 0.02))
        else:
            world.pause(0, 0.05 if device.kind == "micropython" else 0.2)
            device.cut()
    world.fault("cuts", sum(device.cuts for device in world.devices))


def device_wiped(world: World) -> None:
    """A device's flash is erased, with commands in it and on their way."""
    world.wiped = True
    world.greet()
    for _ in range(world.times(8)):
        world.send(6)
        world.rest()
        world.awake(world.some())
        world.send(4)
        if world.rng.random() < 0.5:
            world.rest()
        elif world.rng.random() < 0.5:  # what the broker can't keep nobody will have
            world.relays[0].stop()
            for _ in range(10):
                world.awake(world.devices)
        device = world.rng.choice(world.devices)
        device.start("power")
        world.pause(0, 0.03)
        device.cut()
        device.wipe()
        world.fault("wipes")
        world.connect()


def _lose_hours(world: World) -> None:
    """The ledger is put back to what it was some wakes ago, while broker and devices went on."""
    (relay,) = world.relays
    world.send(10)
    world.book.back_up(world.fleet)
    for _ in range(3):
        world.send(5)
        world.cancel(0.1)
        world.awake(world.some())
    relay.stop()
    world.book.put_back(world.fleet)
    world.fault("restores")


def ledger_restored(world: World) -> None:
    """A backup is put back, and `dormouse ledger restored` says so."""
    world.put_back = True
    world.greet()
    for _ in range(world.times(2)):
        _lose_hours(world)
        argv = [sys.executable, "-m", "dormouse_host.cli", "ledger", "restored", "--db", world.db]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)
        world.connect()
        world.send(8)
        world.awake(world.some())


def ledger_copied(world: World) -> None:
    """A backup is put back and nobody says so: the ledger has to find out."""
    world.put_back = True
    world.greet()
    for _ in range(world.times(2)):
        _lose_hours(world)
        world.send(8, plain=True)
        world.connect()
        world.awake(world.some())


def disk_full(world: World) -> None:
    """The database can't grow while answers and records come: what isn't stored is not acknowledged."""
    world.lossless = True
    world.greet()
    (relay,) = world.relays
    for _ in range(world.times(3)):
        world.connect()
        world.send(10)
        world.rest()
        seen = relay.events().count("disconnected")
        world.book.fill()
        for _ in range(4):
            world.awake(world.devices)
        _send_in_vain(world)
        full = comes(partial(_has_failed, relay, seen), 10)
        world.fault("times full" if full else "times nearly full")
        world.book.clear()


def _send_in_vain(world: World) -> None:
    """What a full disk refuses it refuses aloud, and enters nothing half: the oracle knows no such command."""
    with Fleet(world.db) as full:
        if world.book.is_file:
            event.listen(full.ledger.database.engine, "begin", limit)
        try:
            for _ in range(500):
                world.enter(_one_more(world), full)
        except HostError:
            pass
        else:
            raise HostError("the disk was never full")
    for _ in range(100):  # a page may have room for one that is shorter by a byte, or the relay has just left one free
        order = _one_more(world)
        argv = ["-m", world.book.module, "send", order.device, order.do, f"k={order.k}", "--db", world.db, "--json"]
        env = {**os.environ, "PYTHONPATH": TESTS}
        done = subprocess.run([sys.executable, *argv], env=env, capture_output=True, text=True, timeout=60)
        if done.returncode == 1 and any(why in done.stderr for why in _NO_ROOM) and len(done.stderr.splitlines()) == 1:
            return
        if done.returncode:
            raise HostError(f"on a full disk `dormouse send` ends with {done.returncode}: {done.stderr}")
        world.orders[json.loads(done.stdout)["id"]] = order
    raise HostError("`dormouse send` was never refused")


def _one_more(world: World) -> Order:
    return Order(len(world.orders) + 1, world.devices[0].id, "once")


def _has_failed(relay: RelayProcess, before: int) -> bool:
    return relay.events().count("disconnected") > before


def clock_wrong(world: World) -> None:
    """Devices are hours ahead or years behind, or know no time at all; the host's clock is right."""
    for device, clock in zip(world.devices, ["7200", "-7200", "none", "-150000000", "86400"], strict=False):
        device.clock = clock
        world.fault("wrong clocks")
    world.greet()
    for _ in range(world.times(6)):
        world.send(8)
        world.enter(Order(len(world.orders) + 1, world.rng.choice(world.devices).id, "once", expires=1.0))
        world.rest()
        world.pause(0.5, 1.2)
        world.awake(world.some())
