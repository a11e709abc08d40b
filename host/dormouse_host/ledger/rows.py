"""Commands and devices between the database and the rules.

Whoever looks at a device's commands in order to change them has locked the device's row first (`lock`), so two
processes never decide about the same command at once. Every change of a command's status is an event with its time.
What a change may allow to be published makes its device due.

The order of locks, on PostgreSQL; a transaction takes them in this order or without waiting:
1. names (`lock_name`): a relay's, a group's, the pruning;
2. new devices (`insert_devices`), by their ids, as bytes: an insert waits for whoever inserts or removes the same id;
3. devices (`lock`, `lock_all`, `lock_where`), by their ids, as bytes, and each device once: all that a transaction
   needs, before it changes anything of one;
4. what belongs to a locked device, in any order;
5. ids that are no devices (strangers.py): those that were removed, then strangers, each by their ids, as bytes.
Who learns of another device after that (`wake_followers`) locks it if it is free, and otherwise gives way
and begins again with that device among the others (contention.py).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    Table,
    Update,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)

from dormouse_host.ledger import schema
from dormouse_host.ledger.contention import Busy, also
from dormouse_host.ledger.rules import FINAL, Row

T = TypeVar("T")

commands, devices, states_left = schema.commands.c, schema.devices.c, schema.states_left.c
UPDATE = "update"  # the command by whose steps a device is updated
CHUNK = 500  # values in one statement
STATES = 1000  # states that are remembered of those that a device has left


def some(name: str) -> BindParameter[Any]:
    """A list that is handed over with a statement that was made before."""
    return bindparam(name, expanding=True)


_FIELDS = [field.name for field in fields(Row)]
_CHANGING = _FIELDS[_FIELDS.index("state") :]
_COLUMNS = [commands[name] for name in _FIELDS]
_changing = attrgetter(*_CHANGING)
_STATUS, _VOID = _CHANGING.index("status"), _CHANGING.index("void")
# Made once: SQLAlchemy takes longer to build a statement than SQLite to execute it.
_MAKE_DUE = update(schema.devices).where(devices.id.in_(some("names")), devices.due.is_(False)).values(due=True)
_FOLLOWERS = select(commands.device).where(commands.open, commands.after.in_(some("names"))).distinct()
_KNOWN = select(devices.id).where(devices.id.in_(some("names")))
_LOCK_FREE = _KNOWN.with_for_update(skip_locked=True)
_LOCK_NAME = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_TELL = insert(schema.command_events)
_LEFT = select(states_left.at).where(states_left.device == bindparam("device"), states_left.state == bindparam("state"))
_HOW_MANY_LEFT = select(func.count()).select_from(schema.states_left).where(states_left.device == bindparam("device"))


@cache
def _update(names: tuple[str, ...]) -> Update:
    """Sets these columns of one command, each from its name after `new_`. `open` only where it changes: three indexes
    hang on it.
    """
    new: dict[str, BindParameter[Any]] = {name.removeprefix("new_"): bindparam(name) for name in names}
    return update(schema.commands).where(commands.key == bindparam("its_key")).values(new)


@dataclass
class Device:
    """A locked device, as it is in this transaction. `seq` is its own; `lock_all` may have kept more of them."""

    id: str
    seq: int
    state: str | None
    relay: str | None
    relay_until: float
    catalogue_hash: str | None
    wake: int  # the highest that was heard in this state
    updating: bool  # is an update of it open?


def _insert(dialect: str, table: Table) -> Any:
    return import_module(f"sqlalchemy.dialects.{dialect}").insert(table)  # each takes long to load


@cache
def _insert_once(dialect: str, table: Table) -> Any:
    return _insert(dialect, table).on_conflict_do_nothing().returning(literal_column("1"))


@cache
def _insert_or_add(dialect: str, table: Table, columns: tuple[str, ...]) -> Any:
    new = _insert(dialect, table)
    total = {column: table.c[column] + new.excluded[column] for column in columns}
    return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=total)


def insert_once(connection: Connection, table: Table, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows that are not there yet; returns how many those are. Counted from RETURNING: PostgreSQL's driver
    has no rowcount here.
    """
    return len(connection.execute(_insert_once(connection.dialect.name, table), values).all())


def insert_or_add(connection: Connection, table: Table, values: Sequence[Mapping[str, Any]], *columns: str) -> None:
    """Insert rows, or add to these columns of those that are there."""
    connection.execute(_insert_or_add(connection.dialect.name, table, columns), values)


_DEVICE = (
    devices.id,
    devices.seq,
    devices.state,
    devices.relay,
    devices.relay_until,
    devices.catalogue_hash,
    devices.wake,
    devices.updating,
)


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """`values` in pieces that fit into one statement."""
    every = list(values)
    for at in range(0, len(every), CHUNK):
        yield every[at : at + CHUNK]


def in_order(connection: Connection, column: ColumnElement[str]) -> ColumnElement[str]:
    """`column` to sort by, as Python sorts: a PostgreSQL database may have another order of its own."""
    return column.collate("C") if connection.dialect.name == "postgresql" else column


def lock_name(connection: Connection, name: str) -> None:
    """Lock a name for which there may be no row, until the end of the transaction: before any device."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK_NAME, {"name": name})


def insert_devices(connection: Connection, devices: Iterable[str], now: float) -> int:
    """Register devices, before any is locked; returns how many were new."""
    new = [{"id": device, "added": now} for device in sorted(set(devices))]
    return insert_once(connection, schema.devices, new) if new else 0


def lock(connection: Connection, device: str) -> Device | None:
    """Lock a device until the end of the transaction, and count its seq on. None where it isn't known."""
    return lock_all(connection, [device]).get(device)


def lock_all(connection: Connection, ids: Iterable[str], seqs: int = 1) -> dict[str, Device]:
    """The same for several, with so many seqs for each; those that aren't known are left out."""
    locked = {}
    wanted = set(ids)
    for names in chunks(sorted(wanted | also())):
        found = [device for device in lock_where(connection, devices.id.in_(names)) if device.id in wanted]
        count_on(connection, found, seq=devices.seq + seqs)
        locked.update({device.id: device for device in found})
    return locked


def lock_where(connection: Connection, *where: ColumnElement[bool]) -> list[Device]:
    """Lock the devices that `where` selects; `count_on` must follow."""
    query = select(*_DEVICE).where(*where).order_by(in_order(connection, devices.id)).with_for_update()
    return _devices(connection, query)


def lock_of(connection: Connection, ids: Select[Any], values: Mapping[str, Any]) -> list[Device]:
    """Lock the devices whose ids a query finds; `count_on` must follow."""
    wanted = or_(devices.id.in_(ids), devices.id.in_(also())) if also() else devices.id.in_(ids)
    query = select(*_DEVICE).where(wanted).order_by(in_order(connection, devices.id)).with_for_update()
    return _devices(connection, query, values)


def lock_free(connection: Connection, *where: ColumnElement[bool], limit: int) -> list[Device]:
    """The first of the devices that `where` selects and that nobody else has locked; `count_on` must follow."""
    if names := also():
        lock_where(connection, devices.id.in_(names))
    query = select(*_DEVICE).where(*where).order_by(in_order(connection, devices.id)).limit(limit)
    return _devices(connection, query.with_for_update(skip_locked=True))


def _devices(connection: Connection, query: Select[Any], values: Mapping[str, Any] | None = None) -> list[Device]:
    return [Device(id, seq + 1, *more) for id, seq, *more in connection.execute(query, values)]


def count_on(connection: Connection, locked: Iterable[Device], **more: object) -> None:
    """Write the seqs of locked devices, and set further columns of them."""
    for names in chunks(device.id for device in locked):
        connection.execute(update(schema.devices).where(devices.id.in_(names)).values({"seq": devices.seq + 1, **more}))


def was_left(connection: Connection, device: Device, state: str) -> bool:
    """Is this an earlier state of the device that is remembered? A report never brings it back."""
    if device.state in (None, state):
        return False
    return connection.execute(_LEFT, {"device": device.id, "state": state}).first() is not None


def leave_state(connection: Connection, device: Device, now: float) -> None:
    """The device has left its present state. Of so many that the oldest are forgotten, those are the newest."""
    insert_once(connection, schema.states_left, {"device": device.id, "state": device.state, "at": now})
    of_device = states_left.device == device.id
    newest = select(states_left.state).where(of_device).order_by(states_left.at.desc(), states_left.state)
    if old := connection.execute(newest.offset(STATES)).scalars().all():
        connection.execute(delete(schema.states_left).where(of_device, states_left.state.in_(old)))


def may_be_left(connection: Connection, device: Device, state: str) -> bool:
    """Can this be an earlier state of the device? Where some are forgotten each may be one but the present."""
    if device.state in (None, state):
        return False
    if was_left(connection, device, state):
        return True
    return connection.execute(_HOW_MANY_LEFT, {"device": device.id}).scalar_one() >= STATES


def make_due(connection: Connection, *ids: str) -> None:
    """The relay is to look at these devices."""
    for names in chunks(sorted(set(ids))):
        connection.execute(_MAKE_DUE, {"names": names})


def look_at_updates(connection: Connection, ids: Iterable[str], **told: object) -> None:
    """The relay is to look at the open updates of these devices; of them the devices have `told` something."""
    for names in chunks(sorted(ids)):
        of_those = update(schema.updates).where(schema.updates.c.device.in_(names), schema.updates.c.open)
        connection.execute(of_those.values(due=True, **told))
        make_due(connection, *names)


def load(connection: Connection, *where: ColumnElement[bool], limit: int | None = None) -> list[Row]:
    """The commands that `where` selects, in the order of their entry; with `limit` so many of the first."""
    if limit is None:
        return run(connection, query(*where))
    return [Row(*found) for found in connection.execute(query(*where).order_by(commands.key).limit(limit))]


def query(*where: ColumnElement[bool]) -> Select[Any]:
    """What `run` takes: the commands that `where` selects, with bindparam() where a value comes later."""
    return select(*_COLUMNS).where(*where)


def run(connection: Connection, made: Select[Any], **values: object) -> list[Row]:
    """The commands that a query which was made before selects, in the order of their entry."""
    # sorted here: ORDER BY makes SQLite walk through all that a device ever had
    return sorted((Row(*found) for found in connection.execute(made, values)), key=attrgetter("key"))


def by_device(connection: Connection, ids: Sequence[str], limit: int) -> list[Row]:
    """The open commands of these devices, one device after the other: so many of the first."""
    made = (
        query(commands.device.in_(ids), commands.open)
        .order_by(in_order(connection, commands.device), commands.key)
        .limit(limit)
    )
    return [Row(*found) for found in connection.execute(made)]


class Writes:
    """What is to be written of commands whose devices are locked: changed rows, and an event for each new status."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[Row, tuple[Any, ...]]] = {}  # key -> a changed row, and what the database has of it
        self._told: list[dict[str, Any]] = []
        self._final: set[str] = set()

    def note(self, row: Row, before: tuple[Any, ...], now: float, why: str | None) -> bool:
        """A row, and what it was `before`. Has it changed?"""
        if _changing(row) == before:
            return False
        status, void = before[_STATUS], before[_VOID]
        if row.status != status:
            row.settled = now if row.final else None
            because = row.why if row.final else why
            self._told.append({"command": row.key, "at": now, "status": row.status, "why": because})
            if row.final:
                self._final.add(row.name)
        elif row.void != void:
            self._told.append({"command": row.key, "at": now, "status": f"to be {row.void}", "why": why})
        self._rows.setdefault(row.key, (row, before))
        return True

    def save(self, connection: Connection) -> None:
        """Write what was noted, and note from here on."""
        updates: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        stepped = set()
        for row, before in self._rows.values():
            new = {
                f"new_{name}": value
                for name, value, was in zip(_CHANGING, _changing(row), before, strict=True)
                if value != was
            }
            if row.final != (before[_STATUS] in FINAL):
                new["new_open"] = not row.final
            if new:
                updates[tuple(new)].append({"its_key": row.key, **new})
            if row.do == UPDATE and row.final:
                stepped.add(row.device)
        for names, several in updates.items():
            connection.execute(_update(names), several)
        if self._told:
            connection.execute(_TELL, self._told)
        final = self._final
        self._rows, self._told, self._final = {}, [], set()
        wake_followers(connection, final)
        if stepped:
            look_at_updates(connection, stepped)


class Changes:
    """Rows about to change: named here before, saved after."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = [(row, _changing(row)) for row in rows]

    def note(self, writes: Writes, now: float, why: str | None = None) -> list[Row]:
        """Have written what has changed, with an event for each new status. Returns the rows that did."""
        return [row for row, before in self._rows if writes.note(row, before, now, why)]

    def save(self, connection: Connection, now: float, why: str | None = None) -> list[Row]:
        """The same, at once."""
        writes = Writes()
        changed = self.note(writes, now, why)
        writes.save(connection)
        return changed


def wake_followers(connection: Connection, settled: Iterable[str]) -> None:
    """Make the devices due whose commands waited for these. They are locked where nobody has to be waited for:
    this transaction holds devices already. Busy where that fails; tried again, it locks them in their order.
    """
    for names in chunks(settled):
        waiting = set(connection.execute(_FOLLOWERS, {"names": names}).scalars())
        if not waiting:
            continue
        free = set(connection.execute(_LOCK_FREE, {"names": sorted(waiting)}).scalars())
        taken = waiting - free
        if taken and connection.execute(_KNOWN, {"names": sorted(taken)}).first():
            raise Busy("the ledger is busy: try again", at_once=True, devices=waiting)
        make_due(connection, *free)
