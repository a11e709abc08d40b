"""Ids that are no devices of this ledger: removed ones, and strangers, which are counted.

A device that was removed stays so until somebody registers it. Whatever ids a broker lets speak, what is kept of those
that nobody registered is NAMED rows and a total.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from dormouse_host.ledger import rows, schema

NAMED = 100  # ids that are named; the others are one row, with an empty name
removed, strangers = schema.removed.c, schema.strangers.c


@dataclass(frozen=True)
class Strangers:
    """Ids that have sent something and are no devices: the first ones, and how many messages in all."""

    names: tuple[str, ...] = ()
    messages: int = 0
    more: bool = False  # are there others than those that are named?


def forget(connection: Connection, devices: Iterable[str]) -> None:
    """These ids are devices from now on, also those that were removed. Last in its transaction: rows.py, "The order of
    locks".
    """
    for some in rows.chunks(sorted(set(devices))):
        for table, column in ((schema.removed, removed.device), (schema.strangers, strangers.device)):
            there = select(column).where(column.in_(some)).order_by(rows.in_order(connection, column))
            if names := list(connection.execute(there.with_for_update()).scalars()):
                connection.execute(delete(table).where(column.in_(names)))


def remove(connection: Connection, device: str, now: float) -> None:
    """What this id sends from now on makes it no device."""
    rows.insert_once(connection, schema.removed, {"device": device, "at": now})


def find_removed(connection: Connection, devices: Iterable[str]) -> set[str]:
    """Those of these ids that somebody has removed."""
    found: set[str] = set()
    for some in rows.chunks(devices):
        found.update(connection.execute(select(removed.device).where(removed.device.in_(some))).scalars())
    return found


def count(connection: Connection, messages: Mapping[str, int], now: float) -> list[str]:
    """Count messages of ids that are no devices. Returns the ids that are named from now on."""
    known: set[str] = set()
    for some in rows.chunks(messages):
        known.update(connection.execute(select(strangers.device).where(strangers.device.in_(some))).scalars())
    room = NAMED - (connection.execute(select(func.count()).select_from(schema.strangers)).scalar() or 0)
    new = sorted(set(messages) - known)[: max(0, room)] if room > 0 else []
    per: Counter[str] = Counter()
    for device, times in messages.items():
        per[device if device in known or device in new else ""] += times
    for device, times in sorted(per.items()):
        row = {"device": device, "messages": 0, "since": now, "last": now}
        rows.insert_once(connection, schema.strangers, row)
        more = {"messages": strangers.messages + times, "last": now}
        connection.execute(update(schema.strangers).where(strangers.device == device).values(more))
    return new


def found(connection: Connection) -> Strangers:
    """All that is kept of them."""
    every = list(
        connection.execute(
            select(strangers.device, strangers.messages).order_by(
                strangers.since, rows.in_order(connection, strangers.device)
            )
        )
    )
    names = tuple(device for device, _ in every if device)
    return Strangers(names, sum(messages for _, messages in every), len(names) < len(every))
