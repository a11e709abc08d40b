"""Deletion of old records.

Only what no rule can ask for any more is deleted. What stays: open commands; of each ledger's name the 256 numbers
below the highest that the device has shown, because the device may still answer those; the last wakes of each device,
because a broker that went back in time delivers them again; telemetry above the mark up to which every record is
accounted for; and the newest row of each table, whose key is then not given again (following.py). The numbers given and
that mark are never deleted: no number is given twice, no record stored twice.

Each table is walked through in the order of an index, a slice at a time: deletable rows are found without a lock, and
deleted in a transaction of their own that locks the slice's devices. What is deletable once stays so, so nothing is
checked twice.
"""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    Select,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
    tuple_,
    update,
)

from dormouse import protocol
from dormouse_host.ledger import rows, schema
from dormouse_host.ledger.rows import commands, devices

WAKES = 100  # of each device that stay: a day of them at the default interval
SLICE = 500  # rows that are looked at in one transaction, and deleted at most in one
results, telemetry, streams = schema.results.c, schema.telemetry.c, schema.telemetry_streams.c
lines = schema.log_lines.c
reports, ends, numbers = schema.reports.c, schema.ends.c, schema.numbers.c


@dataclass(frozen=True)
class _Device:
    """What decides about a device's records. `state` is None while it has never reported."""

    id: str
    state: str | None
    given: dict[str, int]  # by ledger
    shown: dict[str, int]

    def past(self, state: str | None) -> bool:
        """Can nothing that bears this state come any more?"""
        return self.state is not None and state is not None and state != self.state

    def floor(self, ledger: str) -> int:
        """The highest number that can be forgotten."""
        high = self.shown.get(ledger, 0)
        return min(self.given.get(ledger, high), high) - protocol.WINDOW


class _Kind(NamedTuple):
    """A table that is pruned: what its rows are counted as, when one came, the columns of its index, and others that
    the decision needs.
    """

    name: str
    table: Table
    at: Column[float]
    key: tuple[Column[Any], ...]
    more: tuple[Column[Any], ...]


_OF_COMMAND = (commands.device, commands.open, commands.settled, commands.state, commands.ledger, commands.number)
_OF_RECORD = (telemetry.at, telemetry.device, telemetry.state, telemetry.number)
_KINDS = (
    _Kind("commands", schema.commands, commands.entered, (commands.key,), _OF_COMMAND),
    _Kind("results", schema.results, results.at, (results.at, results.key), (results.device, results.id)),
    _Kind("telemetry", schema.telemetry, telemetry.at, _OF_RECORD, (telemetry.key,)),
    _Kind("ends", schema.ends, ends.at, (ends.at, ends.device, ends.state, ends.wake), ()),
    _Kind(
        "wakes", schema.reports, reports.at, (reports.at, reports.device, reports.state, reports.wake), (reports.key,)
    ),
    _Kind("lines", schema.log_lines, lines.at, (lines.at, lines.key), (lines.device,)),
)
COUNTED = ("commands", "results", "telemetry", "wakes")
STEPS = 100 * len(_KINDS)  # of `Pruning.done`


class Pruning:
    """The deletion of what came before a time, slice by slice. `done` tells how far it is, of STEPS."""

    def __init__(self, before: float) -> None:
        self.done = 0
        self._before = before
        self._kinds = list(_KINDS)
        self._after: tuple[Any, ...] | None = (0,)  # the key of the last row that was looked at
        self._first: float | None = None
        self._known: dict[str, _Device] = {}
        self._limits: dict[tuple[str, str], float | None] = {}

    @property
    def kind(self) -> str:
        """What is looked at now; empty when all is done."""
        return self._kinds[0].name if self._kinds else ""

    def look(self, connection: Connection) -> list[Any]:
        """The rows of the next slice that can go; `kind` is what they are until `step`."""
        kind = self._kinds[0]
        found = connection.execute(_next(kind, self._before, self._after)).all()
        self._step_to = tuple(getattr(found[-1], column.name) for column in kind.key) if len(found) == SLICE else None
        old = [row for row in found if row[-1] < self._before]
        if not old:
            self._step_to = None
            return []
        self._first = old[0][-1] if self._first is None else self._first
        reached = (old[-1][-1] - self._first) / max(self._before - self._first, 1.0)
        self.done = STEPS - 100 * len(self._kinds) + int(100 * min(1.0, reached))
        known = self._devices(connection, {row.device for row in old})
        choose: Callable[..., list[Any]] = getattr(self, f"_{kind.name}")
        newest = _newest(connection, kind.table)
        return [row for row in choose(connection, old, known) if not newest or row.key not in newest]

    def step(self) -> None:
        """On to the next slice."""
        self._after = self._step_to
        if self._after is None:
            self._kinds.pop(0)
            self._first = None
            self.done = STEPS - 100 * len(self._kinds)

    def delete(self, connection: Connection, chosen: Sequence[Any]) -> int:
        """Delete what `look` has found. Returns how many rows; those are left whose device came or went meanwhile."""
        kind = self._kinds[0]
        rows.lock_name(connection, "pruning")
        names = {row.device for row in chosen}
        there = {device.id for device in rows.lock_where(connection, devices.id.in_(names))}
        chosen = [row for row in chosen if (row.device in there) == (row.device in self._known)]
        if not chosen:
            return 0
        if kind.name == "commands":
            keys = [row.key for row in chosen]
            connection.execute(delete(schema.command_events).where(schema.command_events.c.command.in_(keys)))
            gone = and_(commands.key.in_(keys), commands.open.is_(False), commands.settled < self._before)
            return connection.execute(delete(schema.commands).where(gone)).rowcount
        if kind.name == "results":
            return connection.execute(
                delete(schema.results).where(results.key.in_([row.key for row in chosen]))
            ).rowcount
        if kind.name == "telemetry":
            self._account_for(connection, chosen)
        primary = kind.key[1:]  # row by row: SQLite reads the whole table for a list of such keys
        one = and_(*(column == bindparam(f"its_{column.name}") for column in primary))
        keys = [{f"its_{column.name}": getattr(row, column.name) for column in primary} for row in chosen]
        connection.execute(delete(kind.table).where(one), keys)
        return len(keys)

    # ---- what may go

    def _commands(self, _connection: Connection, old: Sequence[Any], known: dict[str, _Device]) -> list[Any]:
        def is_over(row: Any) -> bool:
            if row.open or row.settled is None or row.settled >= self._before:
                return False
            device = known.get(row.device)
            if device is None or device.past(row.state):
                return True
            return row.ledger in device.given and row.number <= device.floor(row.ledger)

        return [row for row in old if is_over(row)]

    def _results(self, _connection: Connection, old: Sequence[Any], known: dict[str, _Device]) -> list[Any]:
        def is_over(row: Any) -> bool:
            device = known.get(row.device)
            if row.id is None or device is None:
                return True
            state, ledger, number = protocol.split_id(row.id)
            return bool(device.past(state) or number <= device.floor(ledger))

        return [row for row in old if is_over(row)]

    def _telemetry(self, connection: Connection, old: Sequence[Any], known: dict[str, _Device]) -> list[Any]:
        of_devices = select(streams.device, streams.state, streams.whole)
        of_devices = of_devices.where(streams.device.in_({row.device for row in old}))
        whole = {(device, state): number for device, state, number in connection.execute(of_devices)}

        def is_over(row: Any) -> bool:
            device = known.get(row.device)
            is_past = device is None or device.past(row.state)  # no gap of it can be filled any more
            return is_past or row.number <= whole.get((row.device, row.state), 0)

        return [row for row in old if is_over(row)]

    def _account_for(self, connection: Connection, chosen: Sequence[Any]) -> None:
        """All of a state that is past counts as accounted for, as far as it is deleted."""
        last: dict[tuple[str, str], int] = {}
        for row in chosen:
            device = self._known.get(row.device)
            if device is None or device.past(row.state):
                last[row.device, row.state] = max(row.number, last.get((row.device, row.state), 0))
        for (name, state), number in last.items():
            rows.insert_once(connection, schema.telemetry_streams, {"device": name, "state": state, "whole": 0})
            lower = (streams.device == name, streams.state == state, streams.whole < number)
            connection.execute(update(schema.telemetry_streams).where(*lower).values(whole=number))

    def _ends(self, connection: Connection, old: Sequence[Any], _known: dict[str, _Device]) -> list[Any]:
        return self._above_the_newest(connection, schema.ends, old)

    def _wakes(self, connection: Connection, old: Sequence[Any], _known: dict[str, _Device]) -> list[Any]:
        return self._above_the_newest(connection, schema.reports, old)

    def _lines(self, _connection: Connection, old: Sequence[Any], _known: dict[str, _Device]) -> list[Any]:
        return list(old)

    def _above_the_newest(self, connection: Connection, table: Table, old: Sequence[Any]) -> list[Any]:
        new = [name for name in {row.device for row in old} if (table.name, name) not in self._limits]
        found = _oldest_of_one_state(connection, table, new)
        for name in new:
            at = found[name] if name in found else _oldest_to_stay(connection, table, name)
            self._limits[table.name, name] = at
        limits = [self._limits[table.name, row.device] for row in old]
        return [row for row, limit in zip(old, limits, strict=True) if limit is not None and row.at < limit]

    # ---- what decides

    def _devices(self, connection: Connection, names: Collection[str]) -> dict[str, _Device]:
        """Of these devices those that are not removed."""
        found = connection.execute(select(devices.id, devices.state).where(devices.id.in_(names)))
        there: dict[str, str | None] = dict(tuple(row) for row in found)
        self._known = {name: device for name, device in self._known.items() if name in there or name not in names}
        new = there.keys() - self._known
        given: dict[str, dict[str, int]] = {name: {} for name in new}
        for name, ledger, number in connection.execute(
            select(numbers.device, numbers.ledger, numbers.number).where(numbers.device.in_(new))
        ):
            given[name][ledger] = number
        records: dict[str, str] = dict(tuple(row) for row in connection.execute(_last_ends(new)))
        for name in new:
            shown = json.loads(records[name]).get("windows", {}) if name in records else {}
            self._known[name] = _Device(name, there[name], given[name], shown)
        return {name: self._known[name] for name in there}


def _newest(connection: Connection, table: Table) -> set[int]:
    """The keys of a followed table's rows that stay: the newest, and the command that the newest event is of."""
    if "key" not in table.c:
        return set()
    kept = [select(func.max(table.c.key))]
    if table is schema.commands:
        events = schema.command_events.c
        last = select(func.max(events.key)).scalar_subquery()
        kept.append(select(events.command).where(events.key == last))
    return {key for query in kept if (key := connection.execute(query).scalar()) is not None}


def _next(kind: _Kind, before: float, after: tuple[Any, ...] | None) -> Select[Any]:
    """A slice, the time of each row last. Commands go by their keys, for nothing is older than one before it."""
    query = select(*dict.fromkeys((*kind.key, *kind.more)), kind.at.label("came")).order_by(*kind.key).limit(SLICE)
    if kind.key[0] is kind.at:
        query = query.where(kind.at < before)
    if after is None:
        return query
    place = tuple_(*(literal(value, column.type) for column, value in zip(kind.key, after, strict=True)))
    return query.where(kind.key[0] >= after[0], tuple_(*kind.key) > place)


def _last_ends(ids: Collection[str]) -> Select[Any]:
    """The last end record of each device's state."""
    of_state = and_(ends.device == devices.id, ends.state == devices.state)
    newest = select(func.max(ends.wake)).where(of_state).correlate(schema.devices).scalar_subquery()
    joined = schema.devices.join(schema.ends, and_(of_state, ends.wake == newest))
    return select(devices.id, ends.record).select_from(joined).where(devices.id.in_(ids))


def _oldest_of_one_state(connection: Connection, table: Table, names: Collection[str]) -> dict[str, float | None]:
    """`_oldest_to_stay` of those of these devices that have rows of one state alone: nearly all, in one query."""
    c = table.c
    of_device = c.device == devices.id
    newest = select(c.at).where(of_device, c.state == devices.state).order_by(c.wake.desc()).limit(WAKES)
    stays = newest.correlate(schema.devices).subquery()
    oldest = select(case((func.count() == WAKES, func.min(stays.c.at)))).select_from(stays).scalar_subquery()
    query = select(devices.id, oldest).where(devices.state.is_not(None))
    for side in (c.state < devices.state, c.state > devices.state):
        query = query.where(~select(1).where(of_device, side).correlate(schema.devices).exists())
    found: dict[str, float | None] = {}
    for some in rows.chunks(names):
        for name, at in connection.execute(query.where(devices.id.in_(some))):
            found[name] = at
    return found


def _oldest_to_stay(connection: Connection, table: Table, device: str) -> float | None:
    """When the last but WAKES of a device came: found by the primary key, some of each state. None where there are not
    so many.
    """
    c = table.c
    times: list[float] = []
    state: str | None = ""
    while state := connection.execute(select(func.min(c.state)).where(c.device == device, c.state > state)).scalar():
        newest = select(c.at).where(c.device == device, c.state == state).order_by(c.wake.desc()).limit(WAKES)
        times += connection.execute(newest).scalars()
    return sorted(times)[-WAKES] if len(times) >= WAKES else None
