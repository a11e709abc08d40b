"""The cases: what is done to broker, relay, ledger and devices while commands go down and answers come up.

Must stay true: a case injects the fault that it is named after under load, and says how often; it leaves everything
to `settle`, which injects none. Each is a function of a World; CASES holds them with what their worlds need.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import event

from dormouse_host import Fleet
from dormouse_host.errors import HostError
from endtoend.host import TESTS, RelayProcess, wait_for
from endtoend.small_disk import FULL, limit
from endtoend.world import Order, World

STOCK = ("set_tcp_nodelay true",)  # mosquitto saves its sessions every 30 minutes, that is never
NARROW = (*STOCK, "max_queued_messages 50")
LEASE = 30.0  # seconds: dormouse_host.ledger.outward.LEASE


def quiet(world: World) -> None:
    """No fault at all: nothing is published twice."""
    world.exact = True
    world.greet()
    for _ in range(world.times(8)):
        world.send(8)
        world.rest()
        world.cancel(0.1)
        world.awake(world.some(), lambda: world.send(2))


def broker_killed(world: World) -> None:
    """SIGKILL while relay and devices talk; with the settings that we advise it has saved what it acknowledged."""
    world.greet()
    for _ in range(world.times(6)):
        world.connect()
        world.send(8)
        world.awake(world.some(), lambda: _broker_dies(world))
        world.broker.start()
        world.fault("kills")


def _broker_dies(world: World) -> None:
    world.send(4)
    world.pause(0, 0.15)
    world.broker.kill()


def broker_forgot(world: World) -> None:
    """It comes back without its data."""
    world.greet()
    for _ in range(world.times(5)):
        world.connect()
        world.send(8)
        if world.rng.random() < 0.5:
            world.rest()
        world.awake(world.some(), lambda: _broker_dies(world))
        world.broker.set_back(None)
        world.broker.start()
        world.fault("forgot")


def broker_old(world: World) -> None:
    """It comes back with older data: what it had delivered it delivers again, what came since it has forgotten."""
    world.greet()
    copies: list[Path] = []
    for turn in range(world.times(6)):
        world.connect()
        world.send(6)
        world.rest()
        copy = world.folder / f"snapshot{turn}"
        if wait_for(partial(world.broker.remember, copy), 3):
            copies.append(copy)
        world.awake(world.some())
        world.send(4)
        world.awake(world.some(), lambda: _broker_dies(world))
        world.broker.set_back(world.rng.choice(copies))
        world.broker.start()
        world.fault("set back")


def overflow_down(world: World) -> None:
    """200 commands for one device, which wakes midway, at a broker that keeps 50 and acknowledges all."""
    world.greet()
    device = world.devices[0]
    world.send(120, device, plain=True)
    world.rest()
    world.awake([device], lambda: world.send(80, device, plain=True))
    world.rest()
    world.fault("commands", 200)


def overflow_up(world: World) -> None:
    """5000 records arrive while the relay is away, at a broker that keeps 50 messages and acknowledges all."""
    world.greet()
    for device in world.devices:
        device.configure(sample_every=60, connect_every=1500)
    world.devices[0].pad(60)  # more than its flash holds: what goes is counted
    world.send(20)
    world.rest()
    world.relays[0].stop()
    each = world.times(5000) // len(world.devices)
    for device in world.devices:
        device.start("timer", each)
        device.end()
    world.fault("records", each * len(world.devices))
    for device in world.devices:
        device.configure(sample_every=0, connect_every=900)


def relay_killed(world: World) -> None:
    """SIGKILL 50 times, at random; the broker loses nothing, so nothing needs to be asked for again."""
    world.lossless = True
    world.greet()
    (relay,) = world.relays
    for _ in range(world.times(50)):
        world.send(3)
        relay.start()
        if world.rng.random() < 0.9:
            wait_for(lambda: relay.connected, 10)
        world.pause(0, 0.1)
        for device in world.some()[:2]:
            device.start("power")
        world.send(2)
        world.pause(0, 0.15)
        relay.kill()
        world.fault("kills")
        for device in world.devices:
            device.end()


def device_cut(world: World) -> None:
    """The power of devices goes at random."""
    world.greet()
    for _ in range(world.times(60)):
        world.send(4)
        world.cancel(0.05)
        device = world.rng.choice(world.devices)
        device.start(world.rng.choice(["power", "power", "timer"]))
        world.pause(0, 0.05 if device.kind == "micropython" else 0.2)
        device.cut()
    world.fault("cuts", sum(device.cuts for device in world.devices))


def device_wiped(world: World) -> None:
    """A device's flash is erased, with commands in it and on their way."""
    world.unknown_is_true = True
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
    backup = world.folder / "backup.db"
    backup.unlink(missing_ok=True)
    world.send(10)
    world.fleet.backup(backup)
    for _ in range(3):
        world.send(5)
        world.cancel(0.1)
        world.awake(world.some())
    relay.stop()
    world.fleet.ledger.database.close()
    for end in ("", "-wal", "-shm"):
        Path(world.db + end).unlink(missing_ok=True)
    shutil.copyfile(backup, world.db)
    world.fault("restores")


def ledger_restored(world: World) -> None:
    """A backup is put back, and `dormouse ledger restored` says so."""
    world.unknown_is_true = True
    world.greet()
    for _ in range(world.times(2)):
        _lose_hours(world)
        argv = [sys.executable, "-m", "dormouse_host.cli", "ledger", "restored", "--db", world.db]
        subprocess.run(argv, check=True, capture_output=True, timeout=30)
        world.connect()
        world.send(8)
        world.awake(world.some())


def ledger_copied(world: World) -> None:
    """A backup is put back and nobody says so: the ledger has to find out."""
    world.unknown_is_true = True
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
        assert world.limit
        world.connect()
        world.send(10)
        world.rest()
        seen = relay.events().count("disconnected")
        world.limit.write_text(str(FULL))
        for _ in range(4):
            world.awake(world.devices)
        _send_in_vain(world)
        full = wait_for(partial(_has_failed, relay, seen), 10)
        world.fault("times full" if full else "times nearly full")
        world.limit.write_text("")


def _send_in_vain(world: World) -> None:
    """What a full disk refuses it refuses aloud, and enters nothing half: the oracle knows no such command."""
    with Fleet(world.db) as full:
        event.listen(full.ledger.database.engine, "begin", limit)
        try:
            for _ in range(500):
                world.enter(Order(len(world.orders) + 1, world.devices[0].id, "once"), full)
        except HostError:
            argv = ["-m", "endtoend.small_disk", "send", world.devices[0].id, "once", "k=0", "--db", world.db]
            env = {**os.environ, "PYTHONPATH": TESTS}
            done = subprocess.run([sys.executable, *argv], env=env, capture_output=True, text=True, timeout=60)
            if done.returncode == 1 and "full" in done.stderr and len(done.stderr.splitlines()) == 1:
                return
            raise HostError(f"on a full disk `dormouse send` ends with {done.returncode}: {done.stderr}") from None
    raise HostError("the disk was never full")


def _has_failed(relay: RelayProcess, before: int) -> bool:
    return relay.events().count("disconnected") > before


def two_relays(world: World) -> None:
    """Two relays on one PostgreSQL, killed in turn; in the end one stays dead and its lease runs out."""
    world.greet()
    for _ in range(world.times(8)):
        world.connect()
        world.send(8)
        world.cancel(0.05)
        world.awake(world.some(), lambda: world.pause(0, 0.1))
        world.rng.choice(world.relays).kill()
        world.fault("kills")
        world.send(3)
        world.awake(world.some())
    world.connect()
    dead = world.relays.pop(world.rng.randrange(2))
    world.send(6)
    dead.kill()
    world.send(6)
    free = f"SELECT 1 FROM devices WHERE due AND relay = '{dead.name}'"
    if not wait_for(lambda: not world.query(free), LEASE + 10):
        raise HostError("the lease of a dead relay does not run out")
    world.fault("leases run out")


def all_at_once(world: World) -> None:
    """Relay, broker and devices fail in turn at a broker that keeps little: all that no flash and no ledger forgets."""
    world.greet()
    copies: list[Path | None] = [None]
    for turn in range(world.times(30)):
        world.send(5)
        world.cancel(0.03)
        what = world.rng.choice(["relay killed", "relay away", "broker killed", "broker set back", "cuts"])
        world.fault(what)
        if what == "cuts":
            for device in world.some():
                device.start("power")
                world.pause(0, 0.04)
                device.cut()
        elif what.startswith("relay"):
            world.awake(world.some(), lambda: world.pause(0, 0.1))
            world.relays[0].kill()
            for _ in range(5 if what == "relay away" else 1):
                world.awake(world.some())
            world.relays[0].start()
        else:
            copy = world.folder / f"snapshot{turn}"
            if world.broker.remember(copy):
                copies.append(copy)
            world.awake(world.some(), lambda: _broker_dies(world))
            if what == "broker set back":
                world.broker.set_back(world.rng.choice(copies))
            world.broker.start()


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


@dataclass(frozen=True)
class Case:
    """`how` goes to World; `postgresql`: its ledger is there."""

    run: Callable[[World], None]
    how: dict[str, Any] = field(default_factory=dict)
    postgresql: bool = False


CASES = {
    "quiet": Case(quiet),
    "broker killed": Case(broker_killed),
    "broker without its data": Case(broker_forgot, {"settings": STOCK}),
    "broker with old data": Case(broker_old),
    "queue overflow down": Case(overflow_down, {"settings": NARROW, "devices": 1}),
    "queue overflow up": Case(overflow_up, {"settings": NARROW}),
    "relay killed": Case(relay_killed),
    "device cut": Case(device_cut),
    "device wiped": Case(device_wiped, {"settings": NARROW}),
    "ledger restored": Case(ledger_restored),
    "ledger copied": Case(ledger_copied),
    "disk full": Case(disk_full, {"small_disk": True}),
    "two relays": Case(two_relays, {"relays": ("one", "two")}, postgresql=True),
    "clock wrong": Case(clock_wrong),
    "all at once": Case(all_at_once, {"settings": (*NARROW, "autosave_interval 1")}),
}
