"""What goes to the broker: the relay's claim on a device's commands, and the broker's PUBACKs.

Must stay true: "publishing" is committed before the caller gets the bytes; a device's commands go to the relay that
has it on lease; what can't go now is not looked at again until something about its device has changed.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select, update

from dormouse import protocol
from dormouse_host.ledger import rows, rules, schema
from dormouse_host.ledger.rows import C, Changes, D

LEASE = 30.0  # seconds that a relay has a device for itself after it last published to it
_LOOK = 2 * protocol.WINDOW + 100  # open commands of one device that are looked at: more than may be published
_DEVICES = 100  # in one transaction
_EXPIRING = 1000


@dataclass(frozen=True)
class Outgoing:
    """One publish. `n` is the command's key; `lifetime` in seconds is for the broker, None without an expiry."""

    n: int
    device: str
    payload: bytes
    lifetime: int | None


def expire(connection: Connection, now: float) -> None:
    """Withdraw what is overdue."""
    overdue = (C.open, C.expires <= now, C.void.is_(None))
    some = select(C.device).where(*overdue).limit(_EXPIRING)
    for device in sorted(set(connection.execute(some).scalars())):
        rows.lock(connection, device)
        found = rows.load(connection, C.device == device, *overdue, limit=_EXPIRING)
        changes = Changes(found)
        for row in found:
            rules.withdraw(row, protocol.EXPIRED)
        changes.save(connection, now)
        rows.make_due(connection, device)


def overdue(connection: Connection, now: float) -> bool:
    """Is there anything for `expire` to do?"""
    return (
        connection.execute(select(C.n).where(C.open, C.expires <= now, C.void.is_(None)).limit(1)).first() is not None
    )


def claim(connection: Connection, relay: str, session: str, now: float, room: int, window: int) -> list[Outgoing]:
    """At most `room` commands to publish now, marked as publishing."""
    claimed: list[Outgoing] = []
    for device in due(connection, relay, now):
        if len(claimed) >= room:
            break
        claimed += _claim_of(connection, device, relay, session, now, room - len(claimed), window)
    return claimed


def due(connection: Connection, relay: str, now: float) -> list[str]:
    """The devices that this relay should look at."""
    free = or_(D.relay.is_(None), D.relay == relay, D.relay_until < now)
    found = connection.execute(select(D.id).where(D.due, D.state.is_not(None), free).order_by(D.id).limit(_DEVICES))
    return list(found.scalars())


def _claim_of(
    connection: Connection, device_id: str, relay: str, session: str, now: float, room: int, window: int
) -> list[Outgoing]:
    device = rows.lock(connection, device_id)
    if device is None or device.state is None:
        return []
    if device.relay not in (None, relay) and device.relay_until >= now:
        return []  # another relay was quicker
    found = rows.load(connection, C.device == device.id, C.open, limit=_LOOK)
    if len(found) == _LOOK:
        found += rows.load(connection, C.device == device.id, C.open, C.do == rules.FORGET, C.n > found[-1].n, limit=10)
    changes = Changes(found)
    for row in found:
        if row.expires is not None and row.expires <= now:
            rules.withdraw(row, protocol.EXPIRED)
    ready = list(rules.publishable(found, _settled(connection, found), window))
    outgoing = []
    for row in ready[:room]:
        rules.claim(row, device.seq, relay, session, device.state)
        state = row.state or device.state
        lifetime = None if row.void or row.expires is None else max(1, int(row.expires - now))
        outgoing.append(Outgoing(row.n, device.id, rules.payload(row, state, row.void), lifetime))
    changes.save(connection, now)
    done = {"due": len(ready) > room, "relay": relay, "relay_until": now + LEASE}
    connection.execute(update(schema.devices).where(D.id == device.id).values(done))
    return outgoing


def _settled(connection: Connection, found: Sequence[rules.Row]) -> set[str]:
    """Of the commands that `found` wait for, those that they need not wait for any more."""
    wanted = {row.after for row in found if row.after and not row.claimed}
    if not wanted:
        return set()
    still_open = set(connection.execute(select(C.u).where(C.u.in_(wanted), C.open)).scalars())
    return {name for name in wanted if name} - still_open


def acknowledged(connection: Connection, acks: Sequence[tuple[int, bool]], now: float) -> None:
    """PUBACKs: the commands' keys, and whether the broker took each."""
    taken = dict(acks)
    by_device: dict[str, list[int]] = defaultdict(list)
    keys = list(taken)
    for at in range(0, len(keys), 500):
        for n, device in connection.execute(select(C.n, C.device).where(C.n.in_(keys[at : at + 500]))):
            by_device[device].append(n)
    for device_id in sorted(by_device):
        device = rows.lock(connection, device_id)
        found = rows.load(connection, C.n.in_(by_device[device_id]))
        changes = Changes(found)
        for row in found:
            if not taken[row.n]:
                rules.refused(row)
            elif device:
                rules.acknowledged(row, device.seq)
        changes.save(connection, now)


def release(connection: Connection, relay: str) -> None:
    """This relay ends: others may have its devices at once."""
    connection.execute(update(schema.devices).where(D.relay == relay).values(relay=None))
    connection.execute(schema.relays.delete().where(schema.relays.c.name == relay))
