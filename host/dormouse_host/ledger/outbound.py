"""What leaves the ledger for the broker: relays claim commands that may be published, and report the broker's PUBACKs.

Must stay true: "publishing" is committed before the caller gets the bytes; a device's commands go to the relay that
has it on lease; what cannot go now is not looked at again until something about its device has changed; of two live
relays one name belongs to the one that had it first; a relay acts on its name and its devices as the instance that it
is (host, process and a random part), never as another that has the name by now.
"""

import itertools
import os
import secrets
import socket
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Double,
    Text,
    bindparam,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)

from dormouse import protocol
from dormouse_host.errors import HostError
from dormouse_host.ledger import given, rows, rules, schema, updates
from dormouse_host.ledger.keys import Signatures
from dormouse_host.ledger.rows import Changes, commands, devices

_AHEAD = 30.0  # seconds that another machine's clock may be ahead; what lasts longer is of a clock that was set back
LEASE = 30.0  # seconds that a relay has a device for itself after it last published to it
_LOOK = 8 * protocol.WINDOW  # open commands that are looked at in one transaction: more than one device may have out
_EXPIRING = 1000
ALIVE = 30.0  # seconds after its last sign of life that a relay counts as alive
_ours: set[str] = set()  # the instances of this process
relays = schema.relays.c


@dataclass(frozen=True)
class Outgoing:
    """One publish. `key` is the command's, 0 that of a chunk of an update; `times` how often it has been published with
    this one; `lifetime` in seconds is for the broker, None without an expiry.
    """

    key: int
    times: int
    device: str
    payload: bytes
    lifetime: int | None
    leaf: str = protocol.CMD


@dataclass(frozen=True)
class RelayView:
    """A relay. `instance` is its host, process and a random part; `until` is when it counts as dead without a sign."""

    name: str
    instance: str
    until: float
    alive: bool


class Ack(NamedTuple):
    """One PUBACK: to which command (its key), to which of its publishes, and whether the broker took it."""

    key: int
    times: int
    taken: bool


_OF_KEYS = rows.query(given.among(commands.key, "keys"))
_PUBLISHED = devices.id.in_(select(commands.device).where(given.among(commands.key, "keys")))


def expire(connection: Connection, now: float) -> None:
    """Withdraw what is overdue."""
    overdue = _overdue(now)
    late = connection.execute(select(commands.device).where(*overdue).limit(rows.CHUNK)).scalars()
    locked = list(rows.lock_all(connection, late))
    if not locked:
        return
    found = rows.load(connection, commands.device.in_(locked), *overdue, limit=_EXPIRING)
    changes = Changes(found)
    for row in found:
        rules.withdraw(row, protocol.EXPIRED)
    changes.save(connection, now)
    rows.make_due(connection, *locked)


def waiting(connection: Connection, relay: str, now: float) -> tuple[bool, bool]:
    """Is there anything for `expire` to do, and for `claim` of this relay?"""
    overdue, due = connection.execute(_WAITING, {"relay": relay, "now": now}).one()
    return bool(overdue), bool(due)


def _overdue(now: float | BindParameter[float]) -> tuple[ColumnElement[bool], ...]:
    return commands.open, commands.expires <= now, commands.void.is_(None)


def _due(relay: str | BindParameter[str], now: float | BindParameter[float]) -> tuple[ColumnElement[bool], ...]:
    over = or_(devices.relay_until < now, devices.relay_until > now + LEASE + _AHEAD)
    free = or_(devices.relay.is_(None), devices.relay == relay, over)
    return devices.due, devices.state.is_not(None), free


_NOW: BindParameter[float] = bindparam("now", type_=Double())
_WAITING = select(  # made once: SQLAlchemy takes longer to build a statement than SQLite to execute it
    exists().where(*_overdue(_NOW)), exists().where(*_due(bindparam("relay", type_=Text()), _NOW))
)


def claim(connection: Connection, relay: str, session: str, now: float, room: int, window: int) -> list[Outgoing]:
    """At most `room` commands to publish now, marked as publishing. Some devices' at a time: all of them in the same
    few statements, however many they are.
    """
    locked = rows.lock_free(connection, *_due(relay, now), limit=min(room, rows.CHUNK))
    if not locked:
        return []
    chunks = _chunks(connection, locked, now, room)
    found = _open_commands(connection, locked)
    every = [row for some in found.values() for row in some]
    changes = Changes(every)
    settled = _settled(connection, every)
    signatures = Signatures(connection, found)
    outgoing = chunks  # before the command that follows the last of them
    done: list[rows.Device] = []
    more: list[rows.Device] = []
    for device in locked:
        if device.id not in found or len(outgoing) >= room:
            break  # it stays due, and free
        left = room - len(outgoing)
        ready = _ready(found[device.id], settled, now, window)
        outgoing += [_claim(row, device, relay, session, now, signatures) for row in ready[:left]]
        (more if len(ready) > left else done).append(device)
    changes.save(connection, now)
    lease = {"relay": relay, "relay_until": now + LEASE}
    rows.count_on(connection, done, due=False, **lease)
    rows.count_on(connection, more, **lease)
    return outgoing


def _chunks(connection: Connection, locked: Sequence[rows.Device], now: float, room: int) -> list[Outgoing]:
    """What of updates is to be published."""
    updating = [device for device in locked if device.updating]
    if not updating:
        return []
    signatures = Signatures(connection, [device.id for device in updating])
    found = updates.advance(connection, updating, signatures, now, room)
    return [Outgoing(0, 0, device, payload, None, protocol.FILE) for device, payload in found]


def _open_commands(connection: Connection, locked: Sequence[rows.Device]) -> dict[str, list[rules.Row]]:
    """The open commands of the first of these devices: of as many as fit into _LOOK rows, and of one at least that has
    any. One without any is there with none, so that it is done with.
    """
    found: dict[str, list[rules.Row]] = {device.id: [] for device in locked}
    looked_at = rows.by_device(connection, list(found), _LOOK)
    for row in looked_at:
        found[row.device].append(row)
    if len(looked_at) < _LOOK:
        return found
    last = looked_at[-1].device  # there may be more of it
    whole = {device: found[device] for device in itertools.takewhile(lambda device: device != last, found)}
    if looked_at[0].device == last:
        forget = (commands.device == last, commands.open, commands.do == rules.FORGET, commands.key > looked_at[-1].key)
        whole[last] = found[last] + rows.load(connection, *forget, limit=10)
    return whole


def _ready(found: Sequence[rules.Row], settled: set[str], now: float, window: int) -> list[rules.Row]:
    """A device's commands that may go now."""
    for row in found:
        if row.expires is not None and row.expires <= now:
            rules.withdraw(row, protocol.EXPIRED)
    return list(rules.publishable(found, settled, window))


def _claim(
    row: rules.Row, device: rows.Device, relay: str, session: str, now: float, signatures: Signatures
) -> Outgoing:
    state = row.state or device.state or ""
    rules.claim(row, device.seq, relay, session, state)
    lifetime = None if row.void or row.expires is None else max(1, int(row.expires - now))
    payload = signatures.signed(device.id, protocol.CMD, rules.payload(row, state, row.void))
    return Outgoing(row.key, row.published, device.id, payload, lifetime)


def _settled(connection: Connection, found: Sequence[rules.Row]) -> set[str]:
    """Of the commands that `found` wait for, those that they need not wait for any more."""
    settled = {row.after for row in found if row.after and not row.claimed}
    for names in rows.chunks(settled):
        still_open = select(commands.name).where(commands.name.in_(names), commands.open)
        settled -= set(connection.execute(still_open).scalars())
    return settled


def acknowledged(connection: Connection, acks: Sequence[Ack], now: float) -> None:
    """The broker's PUBACKs, at most rows.CHUNK."""
    taken: dict[int, list[Ack]] = defaultdict(list)
    for ack in acks:
        taken[ack.key].append(ack)
    keys = {"keys": given.listed(taken)}
    locked = {device.id: device for device in rows.lock_where(connection, _PUBLISHED, **keys)}
    found = rows.run(connection, _OF_KEYS, **keys)
    changes = Changes(found)
    for row in found:
        device = locked.get(row.device)
        for ack in taken[row.key]:
            if not ack.taken:
                rules.refused(row, ack.times)
            elif device:
                rules.acknowledged(row, ack.times, device.seq)
    changes.save(connection, now)
    rows.count_on(connection, locked.values())


# ---- relays


def register(connection: Connection, relay: str, now: float) -> str:
    """Be the only live relay of this name. Returns the instance; HostError where another is."""
    mine = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    there, alive = _registered(connection, relay, now)
    if alive:
        raise HostError(f"a relay named {relay} is alive ({there}): choose another --name", 2)
    connection.execute(delete(schema.relays).where(relays.name == relay))
    connection.execute(insert(schema.relays).values(name=relay, instance=mine, until=now + ALIVE))
    _ours.add(mine)
    return mine


def keep_alive(connection: Connection, relay: str, instance: str, now: float) -> bool:
    """A sign of life. False where another relay has taken the name."""
    mine = update(schema.relays).where(relays.name == relay, relays.instance == instance)
    return connection.execute(mine.values(until=now + ALIVE)).rowcount == 1


def release(connection: Connection, relay: str, instance: str) -> None:
    """This instance ends: others may have its devices at once. Nothing where another has taken its name."""
    if connection.execute(delete(schema.relays).where(relays.name == relay, relays.instance == instance)).rowcount:
        rows.count_on(connection, rows.lock_where(connection, devices.relay == relay), relay=None)


def forget_relay(connection: Connection, relay: str, now: float) -> None:
    """A relay that will not come back: others may have its devices. HostError where it is alive."""
    instance, alive = _registered(connection, relay, now)
    if alive:
        raise HostError(f"relay {relay} is alive: stop it first", 2)
    if instance:
        release(connection, relay, instance)


def relay_views(connection: Connection, now: float) -> list[RelayView]:
    """The relays that have worked on this ledger and were not stopped in order."""
    found = connection.execute(
        select(relays.name, relays.instance, relays.until).order_by(rows.in_order(connection, relays.name))
    )
    return [RelayView(name, instance, until, _is_alive(instance, until, now)) for name, instance, until in found]


def _registered(connection: Connection, relay: str, now: float) -> tuple[str | None, bool]:
    """The instance that has a relay's name, if any, and whether it is alive; the name is locked."""
    rows.lock_name(connection, f"relay {relay}")
    there = connection.execute(select(relays.instance, relays.until).where(relays.name == relay)).first()
    return (there.instance, _is_alive(there.instance, there.until, now)) if there else (None, False)


def _is_alive(instance: str, until: float, now: float) -> bool:
    return now < until <= now + ALIVE + _AHEAD and not is_dead(instance)


def is_dead(instance: str) -> bool:
    """Was it a process of this machine, and is it gone?"""
    host, _, rest = instance.partition("/")
    if host != socket.gethostname():
        return False
    try:
        pid = int(rest.partition("/")[0])
        if pid == os.getpid():  # in a container each one is number 1
            return instance not in _ours
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False
