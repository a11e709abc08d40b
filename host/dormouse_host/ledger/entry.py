"""How commands enter a ledger, and what is done to them there: numbers, cancelling, new names.

Must stay true: a number is given once, inside the transaction in which its command enters; a ledger that takes a new
name gives numbers under it from 1, and what is already numbered keeps its id.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from dormouse import protocol
from dormouse_host.errors import HostError
from dormouse_host.ledger import names, rows, rules, schema
from dormouse_host.ledger.rows import C, Changes

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
    alone = rows.load(connection, C.alone, C.guess, C.status.in_((protocol.CANCELLED, protocol.EXPIRED)))
    changes = Changes(alone)
    for row in alone:
        row.status = protocol.UNKNOWN
    changes.save(connection, now)
    return new


def restored(connection: Connection, now: float) -> tuple[str, int]:
    """Somebody says that this is an older copy: a new name, and what was open is unknown. Returns both."""
    new = rename(connection, now, "restored from a backup")
    open_rows = rows.load(connection, C.open)
    changes = Changes(open_rows)
    for row in open_rows:
        row.why = "open when the ledger was restored from a backup"
        rules.restored(row)
    return new, changes.save(connection, now)


def enter(connection: Connection, orders: Sequence[Order], now: float) -> list[str]:
    """Enter commands, in this order, for devices that are known. Returns their names."""
    ledger = name(connection)
    counts: dict[str, int] = defaultdict(int)
    for order in orders:
        counts[order.device] += 1
    following = {device: _take(connection, device, ledger, counts[device]) for device in sorted(counts)}
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


def _take(connection: Connection, device: str, ledger: str, count: int) -> int:
    """The first of so many new numbers for a device, which is locked by this."""
    if not rows.lock(connection, device):
        raise HostError(f"device {device} is not known: dormouse devices add {device}", 2)
    rows.make_due(connection, device)
    rows.insert_once(connection, schema.numbers, {"device": device, "ledger": ledger, "number": 0})
    more = update(schema.numbers).where(N.device == device, N.ledger == ledger).values(number=N.number + count)
    last = connection.execute(more.returning(N.number)).scalar_one()
    if last >= protocol.NUMBER_LIMIT:
        raise HostError(f"device {device}: this ledger has given all its numbers: dormouse ledger restored", 1)
    return int(last) - count + 1


def cancel(connection: Connection, command: str, now: float) -> rules.Row | None:
    """Cancel a command: at once while it was never published, else by a tombstone. None where there is none."""
    device = connection.execute(select(C.device).where(C.u == command)).scalar()
    if device is None:
        return None
    rows.lock(connection, device)
    found = rows.load(connection, C.u == command)
    changes = Changes(found)
    rules.withdraw(found[0], protocol.CANCELLED)
    if changes.save(connection, now):
        rows.make_due(connection, device)
    return found[0]
