"""Events: what happened in a ledger, each a small value with its place, read from the tables that hold it.

A place is one key for each table that is followed. Reading from a place gives every row above it once, in the order of
its table; what the tables have between them is put in the order of time.
"""

import heapq
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    func,
    literal_column,
    select,
    union_all,
)

from dormouse_host.errors import HostError
from dormouse_host.ledger import rules, schema
from dormouse_host.ledger.rows import commands

START = "start"  # the cursor before all that a ledger holds
ROWS = 500  # of one table that are read at once
_FORMAT = "1"  # of a cursor
changes, results, reports = schema.command_events.c, schema.results.c, schema.reports.c
telemetry, updates, steps = schema.telemetry.c, schema.updates.c, schema.update_events.c


@dataclass(frozen=True)
class Event:
    """Something that happened with a device, as the ledger learned of it at `at` (Unix seconds). `cursor` is the place
    behind it.
    """

    kind: ClassVar[str]
    cursor: str
    device: str
    at: float


@dataclass(frozen=True)
class CommandEvent(Event):
    """A command has a new status, from `queued` on."""

    kind = "command"
    name: str
    do: str
    status: str
    why: str | None

    @property
    def final(self) -> bool:
        """Is that its last status?"""
        return self.status in rules.FINAL


@dataclass(frozen=True)
class ResultEvent(Event):
    """A device has answered. `command` is the command's name where it is one of this ledger."""

    kind = "result"
    command: str | None
    id: str | None
    do: str | None
    status: str
    value: Any
    why: str | None


@dataclass(frozen=True)
class WakeEvent(Event):
    """A device has woken, by its wake report."""

    kind = "wake"
    state: str
    wake: int
    report: dict[str, Any]


@dataclass(frozen=True)
class TelemetryEvent(Event):
    """One record. `time` is when it was measured, in Unix seconds."""

    kind = "telemetry"
    state: str
    number: int
    time: float
    values: Any


@dataclass(frozen=True)
class UpdateEvent(Event):
    """An update of a device has a new status, from `queued` on."""

    kind = "update"
    name: str
    release: str
    status: str
    why: str | None


class _Table(NamedTuple):
    """A table that is followed: a row's key, time and device, and the event that it is, made of its cursor and it."""

    kind: str
    query: Select[Any]
    key: Column[int]
    device: Column[str]
    event: Callable[[str, Any], Event]


def _json(text: str | None) -> Any:
    return json.loads(text) if text else None


_TABLES = (  # in the order of a cursor; of the same time, what stands before comes first
    _Table(
        "command",
        select(commands.key, commands.entered.label("at"), commands.device, commands.name, commands.do),
        commands.key,
        commands.device,
        lambda at, row: CommandEvent(at, row.device, row.at, row.name, row.do, rules.QUEUED, None),
    ),
    _Table(
        "update",
        select(steps.key, steps.at, updates.device, updates.name, updates.release, steps.status, steps.why).join(
            schema.updates, updates.key == steps.update
        ),
        steps.key,
        updates.device,
        lambda at, row: UpdateEvent(at, row.device, row.at, row.name, row.release, row.status, row.why),
    ),
    _Table(
        "wake",
        select(reports.key, reports.at, reports.device, reports.state, reports.wake, reports.report),
        reports.key,
        reports.device,
        lambda at, row: WakeEvent(at, row.device, row.at, row.state, row.wake, json.loads(row.report)),
    ),
    _Table(
        "telemetry",
        select(
            *(telemetry.key, telemetry.at, telemetry.device, telemetry.state),
            *(telemetry.number, telemetry.time, telemetry.record),
        ),
        telemetry.key,
        telemetry.device,
        lambda at, row: TelemetryEvent(at, row.device, row.at, row.state, row.number, row.time, json.loads(row.record)),
    ),
    _Table(
        "command",
        select(
            *(changes.key, changes.at, commands.device, commands.name, commands.do, changes.status, changes.why)
        ).join(schema.commands, commands.key == changes.command),
        changes.key,
        commands.device,
        lambda at, row: CommandEvent(at, row.device, row.at, row.name, row.do, row.status, row.why),
    ),
    _Table(
        "result",
        select(
            *(results.key, results.at, results.device, results.command, results.id),
            *(results.do, results.status, results.value, results.why),
        ),
        results.key,
        results.device,
        lambda at, row: ResultEvent(
            at, row.device, row.at, row.command, row.id, row.do, row.status, _json(row.value), row.why
        ),
    ),
)
KINDS = tuple(sorted({table.kind for table in _TABLES}))
TABLES = tuple(table.key.table.name for table in _TABLES)
_HEADS: CompoundSelect[Any] = union_all(
    *(
        select(literal_column(str(n)).label("place"), func.coalesce(func.max(table.key), 0).label("head"))
        for n, table in enumerate(_TABLES)
    )
)


@dataclass(frozen=True)
class Wanted:
    """Which events: of these kinds, all without any; of one device, or of those of a group; else of all."""

    kinds: frozenset[str] = frozenset()
    device: str | None = None
    group: str | None = None

    def has(self, kind: str) -> bool:
        """Is a kind among them?"""
        return not self.kinds or kind in self.kinds

    def of(self, device: ColumnElement[str]) -> list[ColumnElement[bool]]:
        """The conditions on a table's device."""
        found = [] if self.device is None else [device == self.device]
        if self.group is not None:
            members = select(schema.groups.c.device).where(schema.groups.c.name == self.group)
            found.append(device.in_(members))
        return found


Place = tuple[int, ...]  # a key for each of _TABLES


def written(place: Place) -> str:
    """A place as a cursor."""
    return ".".join([_FORMAT, *map(str, place)])


def read(cursor: str) -> Place:
    """A cursor as a place; HostError where it is none."""
    if cursor == START:
        return (0,) * len(_TABLES)
    head, *keys = cursor.split(".")
    known = head == _FORMAT and len(keys) == len(_TABLES)
    if not known or not all(key.isascii() and key.isdigit() and len(key) < 19 for key in keys):
        raise HostError("malformed cursor: give one that an event has, or START", 2)
    return tuple(map(int, keys))


def heads(connection: Connection) -> Place:
    """The place behind all that is committed."""
    return tuple(head for _, head in sorted(map(tuple, connection.execute(_HEADS))))


def between(connection: Connection, place: Place, upto: Place, wanted: Wanted) -> tuple[list[Event], Place]:
    """The events above a place and not above another, in the order of time, and the place behind the last of them. Of
    many only the first are found: then that place is below `upto`.
    """
    found: list[Sequence[Any]] = []
    for table, low, high in zip(_TABLES, place, upto, strict=True):
        query = table.query.where(table.key > low, table.key <= high, *wanted.of(table.device)).order_by(table.key)
        asked = wanted.has(table.kind) and high > low
        found.append(connection.execute(query.limit(ROWS)).all() if asked else ())
    until = min((rows[-1].at for rows in found if len(rows) == ROWS), default=None)
    lasts = list(place)
    for n, rows in enumerate(found):
        if until is not None:  # what is later waits for the rows of another table that come before it
            there = max((i for i, row in enumerate(rows, 1) if row.at <= until), default=0)
            found[n] = rows[:there]
        if wanted.has(_TABLES[n].kind) and len(found[n]) == len(rows) < ROWS:
            lasts[n] = max(place[n], upto[n])  # what the conditions left out is passed over
        elif found[n]:
            lasts[n] = found[n][-1].key
    at, events = list(place), []
    merged = heapq.merge(*([(row.at, n, row) for row in rows] for n, rows in enumerate(found)), key=_time)
    for _, n, row in merged:
        at[n] = row.key
        events.append(_TABLES[n].event(written(tuple(at)), row))
    return events, tuple(lasts)


def _time(item: tuple[float, int, Any]) -> float:
    return item[0]
