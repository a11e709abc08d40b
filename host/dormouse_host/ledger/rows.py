"""Commands and devices between the database and the rules.

Must stay true: whoever looks at a device's commands in order to change them has locked the device's row first
(`lock`), so that two processes never decide about the same command at once; every change of a command's status is an
event with its time; what a change may allow to be published makes its device due.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dormouse_host.ledger import schema
from dormouse_host.ledger.rules import Row

C, D = schema.commands.c, schema.devices.c
_FIELDS = [field.name for field in fields(Row)]
_CHANGING = _FIELDS[_FIELDS.index("state") :]
_COLUMNS = [C[name] for name in _FIELDS]
_UPDATE = (
    update(schema.commands)
    .where(C.n == bindparam("key"))
    .values({**{name: bindparam(f"new_{name}") for name in _CHANGING}, "open": bindparam("new_open")})
)


@dataclass(frozen=True)
class Device:
    """A locked device. `seq` is this transaction's own."""

    id: str
    seq: int
    state: str | None
    relay: str | None
    relay_until: float
    catalogue_hash: str | None


def _insert(connection: Connection, table: Any) -> Any:
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def insert_once(connection: Connection, table: Any, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> int:
    """Insert what isn't there yet; how many rows that were."""
    return connection.execute(_insert(connection, table).on_conflict_do_nothing(), values).rowcount


def insert_or_add(connection: Connection, table: Any, values: Sequence[Mapping[str, Any]], column: str) -> None:
    """Insert rows, or add to `column` of those that are there."""
    new = _insert(connection, table)
    total = {column: table.c[column] + new.excluded[column]}
    connection.execute(new.on_conflict_do_update(index_elements=list(table.primary_key), set_=total), values)


_LOCK = (
    update(schema.devices)
    .where(D.id == bindparam("device"))
    .values(seq=D.seq + 1)
    .returning(D.id, D.seq, D.state, D.relay, D.relay_until, D.catalogue_hash)
)


def lock(connection: Connection, device: str) -> Device | None:
    """Lock a device until the end of the transaction, and count its seq on. None where it isn't known."""
    found = connection.execute(_LOCK, {"device": device}).first()
    return Device(*found) if found else None


def make_due(connection: Connection, device: str) -> None:
    """The relay is to look at this device."""
    connection.execute(update(schema.devices).where(D.id == device, D.due.is_(False)).values(due=True))


def load(connection: Connection, *where: ColumnElement[bool], limit: int | None = None) -> list[Row]:
    """The commands that `where` selects, in the order of their entry; with `limit` so many of the first."""
    query = select(*_COLUMNS).where(*where)
    if limit is not None:
        return [Row(*found) for found in connection.execute(query.order_by(C.n).limit(limit))]
    # sorted here: ORDER BY makes SQLite walk through all that a device ever had
    return sorted((Row(*found) for found in connection.execute(query)), key=attrgetter("n"))


class Changes:
    """Rows about to change: `watch` them before, `save` them after."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = [(row, copy(row)) for row in rows]

    def save(self, connection: Connection, now: float, why: str | None = None) -> int:
        """Write what has changed, with an event for each new status. Returns how many rows that were."""
        changed = [(row, was) for row, was in self._rows if row != was]
        if not changed:
            return 0
        updates, told, woken = [], [], set()
        for row, was in changed:
            if row.status != was.status:
                row.settled = now if row.final else None
                told.append({"command": row.n, "at": now, "status": row.status, "why": row.why if row.final else why})
                if row.final:
                    woken.add(row.u)
            elif row.void != was.void:
                told.append({"command": row.n, "at": now, "status": f"to be {row.void}", "why": why})
            new = {f"new_{name}": getattr(row, name) for name in _CHANGING}
            updates.append({**new, "new_open": not row.final, "key": row.n})
        connection.execute(_UPDATE, updates)
        if told:
            connection.execute(insert(schema.events), told)
        if woken:
            self._wake_followers(connection, woken)
        return len(changed)

    def _wake_followers(self, connection: Connection, settled: set[str]) -> None:
        names = list(settled)
        for at in range(0, len(names), 500):
            some = select(C.device).where(C.open, C.after.in_(names[at : at + 500]))
            connection.execute(update(schema.devices).where(D.id.in_(some)).values(due=True))
