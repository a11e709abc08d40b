"""How commands enter a ledger: numbers, cancelling, and the ledger's names.

A number is given once, inside the transaction in which its command enters. The ledger has a name of its own for each
device, so whatever a device says is about itself alone; under a new name numbers begin at 1, and what is numbered
already keeps its id. Names are random and made of what protocol.split_id takes: 50 bits for a command, 40 for a ledger.
"""

import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select, update

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host import near
from dormouse_host.errors import HostError
from dormouse_host.ledger import rows, rules, schema
from dormouse_host.ledger.rows import Changes, commands, devices

numbers, ledger_names = schema.numbers.c, schema.ledger_names.c
_NAME = select(ledger_names.name).where(ledger_names.device == bindparam("device"))  # made once
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789x"  # 32, without those that look alike


@dataclass(frozen=True)
class Order:
    """A command to be entered. `args` is JSON text, as it will be sent; `expires` is in Unix seconds; `state` is of the
    device, where the command is for no other.
    """

    device: str
    do: str
    args: str | None = None
    expires: int | None = None
    after: str | None = None
    state: str | None = None


def unknown_device(device: str, known: Iterable[str]) -> HostError:
    """The error for a device that the ledger does not have; `known`: those that it has."""
    name = near.meant(device, known)
    if wrong := _wrong(device):
        hint = f"; did you mean {name}?" if name else ""
        return HostError(f"{device!a} is no device's name: {wrong}{hint}", 2)
    hint = f"did you mean {name}? A new one: " if name else ""
    return HostError(f"device {device} is not known: {hint}dormouse devices add {device}", 2)


def unknown_group(group: str) -> HostError:
    """The error for a group that has no devices, and so is none."""
    if wrong := _wrong(group):
        return HostError(f"{group!a} is no group's name: {wrong}", 2)
    return HostError(f"no group {group}: dormouse devices group {group} DEVICE...", 2)


def _wrong(name: str) -> str:
    """Why no device and no group can be called so; "" where one can."""
    try:
        protocol.check_device_id(name)
    except ConfigError as error:
        return str(error.reason).removeprefix("id: ")
    return ""


def all_devices(connection: Connection) -> Iterable[str]:
    """The ids of all devices."""
    return connection.execute(select(devices.id)).scalars()


def name(connection: Connection, device: str) -> str | None:
    """The ledger's name for this device, once a command was entered for it."""
    found: str | None = connection.execute(_NAME, {"device": device}).scalar()
    return found


def rename(connection: Connection, device: str, now: float, why: str) -> None:
    """A new name for this device, which is locked, and for new commands only. What this ledger alone had called
    cancelled or expired for it is unknown now: hours that it does not know of may have published that.
    """
    new = {"name": ledger_name(), "since": now, "why": why}
    connection.execute(update(schema.ledger_names).where(ledger_names.device == device).values(new))
    withdrawn = commands.status.in_((protocol.CANCELLED, protocol.EXPIRED))
    ours = (commands.device == device, commands.never_published, commands.provisional, withdrawn)
    alone = rows.load(connection, *ours)
    changes = Changes(alone)
    for row in alone:
        row.status = protocol.UNKNOWN
    changes.save(connection, now)


def named(connection: Connection) -> list[str]:
    """The devices that the ledger has a name for, in the order in which they are locked."""
    return sorted(connection.execute(select(ledger_names.device)).scalars())


def restored(connection: Connection, ids: Sequence[str], now: float) -> int:
    """Somebody says that this is an older copy: a new name for each of these devices, and what was open for them is
    unknown. Returns how many commands that were.
    """
    rows.lock_all(connection, ids)
    for device in ids:
        rename(connection, device, now, "restored from a backup")
    open_rows = rows.load(connection, commands.device.in_(ids), commands.open)
    changes = Changes(open_rows)
    for row in open_rows:
        row.why = "open when the ledger was restored from a backup"
        rules.restored(row)
    return len(changes.save(connection, now))


def enter(connection: Connection, orders: Sequence[Order], now: float, batch: str | None = None) -> list[str]:
    """Enter commands, in this order, for devices that are known. Returns their names. `batch`: they belong together."""
    counts: dict[str, int] = defaultdict(int)
    for order in orders:
        counts[order.device] += 1
    following = _take(connection, counts, _waited_for(connection, orders), now)
    entered = []
    for order in orders:
        ledger, number = following[order.device]
        entered.append(
            {
                "name": command_name(),
                "device": order.device,
                "ledger": ledger,
                "number": number,
                "state": order.state,
                "do": order.do,
                "args": order.args,
                "expires": order.expires,
                "after": order.after,
                "entered": now,
                "status": rules.QUEUED,
                "open": True,
                "batch": batch,
            }
        )
        following[order.device] = ledger, number + 1
    connection.execute(insert(schema.commands), entered)
    return [str(command["name"]) for command in entered]


def _waited_for(connection: Connection, orders: Sequence[Order]) -> set[str]:
    """The devices of the commands that these orders wait for: locked, so that none is settled unnoticed meanwhile."""
    found: set[str] = set()
    for some in rows.chunks({order.after for order in orders if order.after}):
        found.update(connection.execute(select(commands.device).where(commands.name.in_(some))).scalars())
    return found


def _take(
    connection: Connection, counts: Mapping[str, int], others: set[str], now: float
) -> dict[str, tuple[str, int]]:
    """The ledger's name for each device, and the first of so many new numbers; all are locked by this, and due.
    `others` are locked with them.
    """
    first: dict[str, tuple[str, int]] = {}
    known: set[str] = set()
    for chunk in rows.chunks(sorted(counts.keys() | others)):
        there = select(devices.id).where(devices.id.in_(chunk)).order_by(rows.in_order(connection, devices.id))
        known.update(connection.execute(there.with_for_update()).scalars())
    if missing := counts.keys() - known:
        raise unknown_device(min(missing), all_devices(connection))
    for chunk in rows.chunks(sorted(counts)):
        connection.execute(update(schema.devices).where(devices.id.in_(chunk)).values(seq=devices.seq + 1, due=True))
        ledgers = _names(connection, chunk, now)
        more = [{"device": device, "ledger": ledgers[device], "number": counts[device]} for device in chunk]
        rows.insert_or_add(connection, schema.numbers, more, "number")
        given = (numbers.device == ledger_names.device) & (numbers.ledger == ledger_names.name)
        last = select(numbers.device, numbers.number).join(schema.ledger_names, given).where(numbers.device.in_(chunk))
        for device, number in connection.execute(last):
            first[device] = ledgers[device], number - counts[device] + 1
    if max(number + counts[device] for device, (_, number) in first.items()) > protocol.NUMBER_LIMIT:
        raise HostError("this ledger has given all its numbers: dormouse ledger restored gives it new names", 1)
    return first


def _names(connection: Connection, ids: Sequence[str], now: float) -> dict[str, str]:
    """The ledger's name for each of these devices, which are locked; it gets its first one here."""
    known: dict[str, str] = {}
    there = select(ledger_names.device, ledger_names.name).where(ledger_names.device.in_(ids))
    for device, ledger in connection.execute(there):
        known[device] = ledger
    new = {device: ledger_name() for device in ids if device not in known}
    if new:
        entered = [{"device": device, "name": new[device], "since": now, "why": "new"} for device in new]
        connection.execute(insert(schema.ledger_names), entered)
    return known | new


def cancel(connection: Connection, command: str, now: float) -> rules.Row | None:
    """Cancel a command: at once while it was never published, else by a tombstone. None where there is none."""
    found = cancel_all(connection, [command], now)
    return found[0] if found else None


def cancel_all(connection: Connection, names: Sequence[str], now: float) -> list[rules.Row]:
    """The same of rows.CHUNK commands at most. Returns those that there are."""
    there = select(commands.device).where(commands.name.in_(names))
    rows.lock_all(connection, connection.execute(there).scalars())
    found = rows.load(connection, commands.name.in_(names))  # none of what was pruned before its device was locked
    changes = Changes(found)
    for row in found:
        rules.withdraw(row, protocol.CANCELLED)
    rows.make_due(connection, *(row.device for row in changes.save(connection, now)))
    return found


# ---- random names


def _random(length: int) -> str:
    return "".join(_LETTERS[byte & 31] for byte in secrets.token_bytes(length))


def command_name() -> str:
    """A command's own name, which `dormouse send` prints."""
    return _random(10)


def ledger_name() -> str:
    """A ledger's name, part of every id that it gives."""
    return _random(8)
