"""How commands enter a ledger, and what is done to them there: numbers, cancelling, new names.

Must stay true: a number is given once, inside the transaction in which its command enters; a ledger that takes a new
name gives numbers under it from 1, and what is already numbered keeps its id.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, insert, select, update

from dormouse import protocol
from dormouse_host.errors import HostError
from dormouse_host.ledger import names, rows, rules, schema
from dormouse_host.ledger.rows import C, Changes, D

N = schema.numbers.c


@dataclass(frozen=True)
class Order:
    """A command to be entered. `args` is JSON text, as it will be sent; `expires` is in Unix seconds."""

    device: str
    do: str
    args: str | None = None
    expires: int | None = None
    after: str | None = None


def name(connection: Connection) -> str:
    """The ledger's name; it gets its first one here."""
    found: str | None = connection.execute(select(schema.ledger.c.name)).scalar()
    return found or ""


def christen(connection: Connection, now: float) -> None:
    """A first name, where there is none."""
    first = names.ledger()
    if not name(connection) and rows.insert_once(connection, schema.ledger, {"id": 1, "name": first}):
        connection.execute(insert(schema.names).values(name=first, since=now, why="new"))


def rename(connection: Connection, now: float, why: str) -> str:
    """A new name, for new commands only. What this ledger alone had called cancelled or expired is unknown now."""
    new = names.ledger()
    connection.execute(update(schema.ledger).values(name=new))
    connection.execute(insert(schema.names).values(name=new, since=now, why=why))
    ours = (C.alone, C.guess, C.status.in_((protocol.CANCELLED, protocol.EXPIRED)))
    _lock(connection, *ours)
    alone = rows.load(connection, *ours)
    changes = Changes(alone)
    for row in alone:
        row.status = protocol.UNKNOWN
    changes.save(connection, now)
    return new


def _lock(connection: Connection, *where: ColumnElement[bool]) -> None:
    """Lock the devices of these commands."""
    rows.lock_all(connection, connection.execute(select(C.device).where(*where).distinct()).scalars())


def restored(connection: Connection, now: float) -> tuple[str, int]:
    """Somebody says that this is an older copy: a new name, and what was open is unknown. Returns both."""
    rows.lock_all(connection, connection.execute(select(D.id)).scalars())
    new = rename(connection, now, "restored from a backup")
    open_rows = rows.load(connection, C.open)
    changes = Changes(open_rows)
    for row in open_rows:
        row.why = "open when the ledger was restored from a backup"
        rules.restored(row)
    return new, len(changes.save(connection, now))


def enter(connection: Connection, orders: Sequence[Order], now: float) -> list[str]:
    """Enter commands, in this order, for devices that are known. Returns their names."""
    ledger = name(connection)
    counts: dict[str, int] = defaultdict(int)
    for order in orders:
        counts[order.device] += 1
    following = _take(connection, ledger, counts, _waited_for(connection, orders))
    entered = []
    for order in orders:
        entered.append(
            {
                "u": names.command(),
                "device": order.device,
                "ledger": ledger,
                "number": following[order.device],
                "do": order.do,
                "args": order.args,
                "expires": order.expires,
                "after": order.after,
                "entered": now,
                "status": rules.QUEUED,
                "open": True,
            }
        )
        following[order.device] += 1
    connection.execute(insert(schema.commands), entered)
    return [str(command["u"]) for command in entered]


def _waited_for(connection: Connection, orders: Sequence[Order]) -> set[str]:
    """The devices of the commands that these orders wait for: locked, so that none is settled unnoticed meanwhile."""
    found: set[str] = set()
    for some in rows.chunks({order.after for order in orders if order.after}):
        found.update(connection.execute(select(C.device).where(C.u.in_(some))).scalars())
    return found


def _take(connection: Connection, ledger: str, counts: Mapping[str, int], others: set[str]) -> dict[str, int]:
    """The first of so many new numbers for each device; all of them are locked by this, and due. `others` are locked
    with them.
    """
    first = {}
    known: set[str] = set()
    for chunk in rows.chunks(sorted(counts.keys() | others)):
        locking = select(D.id).where(D.id.in_(chunk)).order_by(rows.in_order(connection, D.id)).with_for_update()
        known.update(connection.execute(locking).scalars())
    if missing := counts.keys() - known:
        raise HostError(f"device {min(missing)} is not known: dormouse devices add {min(missing)}", 2)
    for chunk in rows.chunks(sorted(counts)):
        connection.execute(update(schema.devices).where(D.id.in_(chunk)).values(seq=D.seq + 1, due=True))
        more = [{"device": device, "ledger": ledger, "number": counts[device]} for device in chunk]
        rows.insert_or_add(connection, schema.numbers, more, "number")
        last = select(N.device, N.number).where(N.ledger == ledger, N.device.in_(chunk))
        first.update({device: number - counts[device] + 1 for device, number in connection.execute(last)})
    if max(first[device] + counts[device] for device in counts) > protocol.NUMBER_LIMIT:
        raise HostError("this ledger has given all its numbers: dormouse ledger restored gives it a new name", 1)
    return first


def cancel(connection: Connection, command: str, now: float) -> rules.Row | None:
    """Cancel a command: at once while it was never published, else by a tombstone. None where there is none."""
    device = connection.execute(select(C.device).where(C.u == command)).scalar()
    if device is None:
        return None
    rows.lock(connection, device)
    found = rows.load(connection, C.u == command)
    if not found:  # pruned, before its device was locked
        return None
    changes = Changes(found)
    rules.withdraw(found[0], protocol.CANCELLED)
    if changes.save(connection, now):
        rows.make_due(connection, device)
    return found[0]
