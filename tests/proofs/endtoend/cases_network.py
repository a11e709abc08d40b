"""Cases of broker and relay: killed, forgetful, overflowing, two at once.

Must stay true: a case injects the fault that it is named after under load, says how often, and leaves what comes
after to `settle`, which injects none.
"""

from functools import partial
from pathlib import Path

from dormouse_host.errors import HostError
from proofs.endtoend.world import World
from support.waiting import comes

LEASE = 30.0  # seconds: dormouse_host.ledger.outbound.LEASE


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
        if comes(partial(world.broker.remember, copy), 3):
            copies.append(copy)
        world.awake(world.some())
        world.send(4)
        world.awake(world.some(), lambda: _broker_dies(world))
        world.broker.set_back(world.rng.choice(copies))
        world.broker.start()
        world.fault("set back")


def report_late(world: World) -> None:
    """The relay is away, the broker forgets, and later it goes back to what it knew in between: a report that says of
    few records that they were acknowledged comes after records with higher numbers.
    """
    world.greet()
    (relay,) = world.relays
    for turn in range(world.times(4)):
        world.send(3)
        world.rest()
        relay.stop()
        for _ in range(3):
            world.awake(world.devices)
        copy = world.folder / f"snapshot{turn}"
        world.broker.stop()  # which saves what it knows
        world.broker.remember(copy)
        world.broker.start()
        for _ in range(3):
            world.awake(world.devices)
        _returns(world, None)
        world.connect()
        world.awake(world.devices)
        world.rest()
        _returns(world, copy)
        world.connect()
        world.rest()
        world.fault("reports late")


def _returns(world: World, copy: Path | None) -> None:
    world.broker.kill()
    world.broker.set_back(copy)
    world.broker.start()


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
            comes(lambda: relay.connected, 10)
        world.pause(0, 0.1)
        for device in world.some()[:2]:
            device.start("power")
        world.send(2)
        world.pause(0, 0.15)
        relay.kill()
        world.fault("kills")
        for device in world.devices:
            device.end()


def two_relays(world: World) -> None:
    """Two relays on one PostgreSQL, killed in turn; in a full run one stays dead and its lease runs out."""
    world.greet()
    for _ in range(world.times(8)):
        world.connect()
        world.send(8)
        world.cancel(0.05)
        world.pause(0, 0.15)
        world.awake(world.some(), lambda: _one_dies(world))
        world.fault("kills")
        world.send(3)
        world.awake(world.some())
    world.connect()
    if world.size < 1:
        return
    dead = world.relays.pop(world.rng.randrange(2))
    world.send(6)
    dead.kill()
    world.send(6)
    free = f"SELECT 1 FROM devices WHERE due AND relay = '{dead.name}'"
    if not comes(lambda: not world.query(free), LEASE + 10):
        raise HostError("the lease of a dead relay does not run out")
    world.fault("leases run out")


def _one_dies(world: World) -> None:
    world.send(3)
    world.pause(0, 0.15)
    world.rng.choice(world.relays).kill()


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
                device.cut_at_work(world.rng.uniform(0, 0.02))
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
