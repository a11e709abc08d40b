"""What is read from a ledger: commands, batches, devices and groups as they stand, a device's history, and exports.

Reading changes nothing. A question about one device, a group or the overdue reads nothing of the others.
"""

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from dormouse_host.errors import HostError
from dormouse_host.ledger import entry, exports, history, lateness, rows, rules, schema, twins
from dormouse_host.ledger.rows import commands, devices
from dormouse_host.ledger.shown import faults, shown

events, groups, streams = schema.command_events.c, schema.groups.c, schema.telemetry_streams.c

_TOGETHER = 1000  # rows of an export that are read at once
_DEVICES = 200  # devices, whose reports are parsed together
_SHOWN = (
    *(devices.id, devices.state, devices.seen, devices.next_due, devices.report, devices.payload_limit),
    *(devices.catalogue, devices.catalogue_hash, devices.revoked),
)


@dataclass(frozen=True)
class CommandView:
    """A command as its sender sees it. Times are Unix seconds; `value` is what the handler returned."""

    name: str
    device: str
    do: str
    args: dict[str, Any]
    id: str | None
    status: str
    final: bool
    provisional: bool
    void: str | None
    value: Any
    why: str | None
    after: str | None
    expires: int | None
    entered: float
    settled: float | None
    published: int
    batch: str | None = None
    events: tuple[tuple[float, str, str | None], ...] = ()


@dataclass(frozen=True)
class DeviceView:
    """A device. `next_due` is when it said that it would connect; `report` is its last wake report; `revoked` is when
    its credential was, where the ledger knows of that.
    """

    id: str
    state: str | None = None
    seen: float | None = None
    next_due: float | None = None
    pending: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    catalogue: dict[str, Any] | None = None
    groups: tuple[str, ...] = ()
    dropped: int = 0
    key: bool = False  # has the ledger a key for it (`dormouse sign`)?
    revoked: float | None = None

    def late(self, now: float) -> float:
        """Seconds since it said that it would be heard; 0 while it isn't late, nobody knows, or it was revoked."""
        return max(0.0, now - self.next_due) if self.next_due and not self.revoked else 0.0

    def missed(self, now: float) -> int:
        """Wakes that it has missed since it was last heard; 0 for a revoked one."""
        return 0 if self.revoked else lateness.missed(self.seen, self.next_due, now)

    def overdue(self, now: float) -> bool:
        """Has it missed more than lateness.GRACE wakes?"""
        return self.missed(now) > lateness.GRACE

    @property
    def faults(self) -> list[tuple[str, str, str]]:
        """What its program did wrong by its last report: (`app` or `reading`, its name, why)."""
        return faults(self.report)


@dataclass(frozen=True)
class Setting:
    """A setting of a device. `origin`: "flashed" or "command"; `replaced`: what config.json says under a command's."""

    key: str
    value: Any
    origin: str
    replaced: Any = None


class Queries:
    """The questions that a ledger answers; each method is one transaction that sees one moment."""

    def __init__(self, reading: Callable[..., AbstractContextManager[Connection]]) -> None:
        """`reading` opens a transaction; with `slowly=True` one that may pause."""
        self._reading = reading

    def name(self, device: str) -> str | None:
        """The ledger's name for a device, part of the ids that it gives; None while it has given none."""
        with self._reading() as connection:
            return entry.name(connection, device)

    def command(self, name: str) -> CommandView:
        """A command with its history; HostError where there is none of that name."""
        with self._reading() as connection:
            found = find_command(connection, name)
        if found is None:
            raise HostError(f"no command {name}", 2)
        return found

    def commands(self, names: Sequence[str]) -> dict[str, CommandView]:
        """Commands without their history, by name; those that there are."""
        with self._reading() as connection:
            found: dict[str, CommandView] = {}
            for some in rows.chunks(names):
                there = connection.execute(select(schema.commands).where(commands.name.in_(some)))
                found.update({row.name: as_command(row) for row in there})
            return found

    def twins(self, device: str | None = None) -> dict[str, list[str]]:
        """Devices whose id two boards use -> the states that took turns."""
        with self._reading() as connection:
            return twins.find(connection, device)

    def recent(self, limit: int) -> list[str]:
        """The names of the newest commands, the newest first."""
        with self._reading() as connection:
            query = select(commands.name).order_by(commands.key.desc()).limit(limit)
            return list(connection.execute(query).scalars())

    def counts(self) -> dict[str, int]:
        """How many commands there are of each status."""
        with self._reading() as connection:
            counted = connection.execute(select(commands.status, func.count()).group_by(commands.status))
            return {row[0]: row[1] for row in counted}

    def backlog(self) -> tuple[int, float | None]:
        """How many commands a relay could publish and has not, and when the oldest of them was entered (Unix seconds).
        Those of devices that never connected, and those that wait for another command, are not among them.
        """
        waiting = (commands.open, commands.status.in_((rules.QUEUED, rules.PUBLISHING)), commands.after.is_(None))
        query = select(func.count(), func.min(commands.entered)).join(schema.devices, devices.id == commands.device)
        with self._reading() as connection:
            count, oldest = connection.execute(query.where(*waiting, devices.state.is_not(None))).one()
            return count, oldest

    def devices(self, only: str | None = None) -> list[DeviceView]:
        """Every device, or one; HostError where that isn't known."""
        found = self.views(only)
        if only is not None and not found:
            raise entry.unknown_device(only, self.members(None))
        return found

    def views(
        self, only: str | Sequence[str] | None = None, group: str | None = None, *, late: float | None = None
    ) -> list[DeviceView]:
        """Every device, or one, or these, or those of a group, or those that said they would be heard before `late`
        (Unix seconds), in the order of their ids. Unknown ids are left out.
        """
        with self._reading() as connection:
            if only is not None and not isinstance(only, str):
                found = [view for some in rows.chunks(only) for view in _views(connection, devices.id.in_(some))]
                return sorted(found, key=lambda view: view.id)
            chosen: list[ColumnElement[bool]] = []
            if only is not None:
                chosen.append(devices.id == only)
            chosen += _of_group(group)
            if late is not None:
                chosen.append(devices.next_due < late)
            return list(_views(connection, *chosen))

    def each_view(self, group: str | None = None) -> Generator[DeviceView]:
        """Every device, or those of a group, in the order of their ids, one after the other."""
        with self._reading(slowly=True) as connection:
            yield from _views(connection.execution_options(yield_per=_DEVICES), *_of_group(group))

    def uncounted(self, group: str | None) -> tuple[list[str], list[str]]:
        """Of a group or of all: the devices that were revoked, and of the others those that were never heard."""
        silent = select(devices.id).where(*_of_group(group))
        with self._reading() as connection:
            revoked = connection.execute(silent.where(devices.revoked.is_not(None))).scalars()
            never = connection.execute(silent.where(devices.revoked.is_(None), devices.seen.is_(None))).scalars()
            return sorted(revoked), sorted(never)

    def groups(self) -> dict[str, int]:
        """How many devices each group has."""
        with self._reading() as connection:
            counted = select(groups.name, func.count()).group_by(groups.name)
            ordered = counted.order_by(rows.in_order(connection, groups.name))
            return {row[0]: row[1] for row in connection.execute(ordered)}

    def batch(self, name: str) -> list[CommandView]:
        """The commands of a batch without their history, in the order of their devices; none where there is no such.
        HostError for None, which what was sent alone has.
        """
        if name is None:
            raise HostError("what was sent alone is in no batch: use its own name", 2)
        with self._reading() as connection:
            ordered = select(schema.commands).where(commands.batch == name).order_by(commands.key)
            return [as_command(row) for row in connection.execute(ordered)]

    def members(self, group: str | None) -> list[str]:
        """The devices of a group, or all."""
        with self._reading() as connection:
            query = select(devices.id) if group is None else select(groups.device).where(groups.name == group)
            return sorted(connection.execute(query).scalars())

    def timeline(
        self,
        device: str,
        limit: int,
        *,
        since: float | None = None,
        until: float | None = None,
        automatic: bool = False,
    ) -> list[history.LogLine]:
        """What happened with a device, the oldest first: history.Span has the arguments."""
        with self._reading() as connection:
            return history.timeline(connection, device, history.Span(limit, since, until, automatic))

    def has_ended(self, device: str, wake: int) -> bool:
        """Is the end of this wake stored? It is the last that a device says in a wake, so all else is stored, too."""
        with self._reading() as connection:
            known = (schema.ends.c.device == device, schema.ends.c.wake == wake)
            return connection.execute(select(schema.ends.c.at).where(*known)).first() is not None

    def settings(self, device: str) -> tuple[float | None, list[Setting]]:
        """What is known of a device's settings, and when it last told all of them (None: never): those in its answer to
        the command `config`, under what commands have changed by its last report.
        """
        with self._reading() as connection:
            told = select(commands.settled, commands.value).where(commands.device == device, commands.do == "config")
            answers = connection.execute(
                told.where(commands.value.is_not(None)).order_by(commands.key.desc()).limit(100)
            )
            said = connection.execute(select(devices.report).where(devices.id == device)).scalar()
            found: dict[str, Setting] = {}
            at = None
            for settled, text in answers:
                known = json.loads(text)
                if isinstance(known, dict) and isinstance(known.get("settings"), dict):
                    at = settled
                    entries = {key: entry for key, entry in known["settings"].items() if isinstance(entry, list)}
                    found = {key: Setting(key, *entry[:3]) for key, entry in entries.items() if len(entry) > 1}
                    break
            changed = json.loads(said).get("settings") if said else None
            changed = changed if isinstance(changed, dict) else {}
            found = {key: each for key, each in found.items() if each.origin == "flashed" or key in changed}
            for key, entry in changed.items():
                if isinstance(entry, list) and len(entry) == 2:
                    found[key] = Setting(key, entry[0], "command", entry[1])
            return at, sorted(found.values(), key=lambda each: each.key)

    def export(
        self, what: str, since: float, *, device: str | None = None, group: str | None = None
    ) -> Generator[dict[str, Any]]:
        """What exports.COLUMNS names, one row after the other, in the order of their coming."""
        wanted = exports.Wanted(since, device, group)
        with self._reading(slowly=True) as connection:
            yield from exports.EXPORTS[what](connection.execution_options(yield_per=_TOGETHER), wanted)


def as_command(found: Any, changes: Iterable[tuple[float, str, str | None]] | None = None) -> CommandView:
    """A command as its row has it; `changes` of its status make its history, None: without."""
    history = () if changes is None else ((found.entered, rules.QUEUED, None), *changes)
    return CommandView(
        found.name,
        found.device,
        found.do,
        shown(found.do, found.args),
        f"{found.state}-{found.ledger}.{found.number}" if found.state else None,
        found.status,
        found.status in rules.FINAL,
        found.provisional,
        found.void,
        json.loads(found.value) if found.value else None,
        found.why,
        found.after,
        found.expires,
        found.entered,
        found.settled,
        found.published,
        found.batch,
        history,
    )


def find_command(connection: Connection, name: str) -> CommandView | None:
    """One command with its history, inside a transaction."""
    found = connection.execute(select(schema.commands).where(commands.name == name)).first()
    if found is None:
        return None
    changes = select(events.at, events.status, events.why).where(events.command == found.key).order_by(events.key)
    return as_command(found, [(at, status, why) for at, status, why in connection.execute(changes)])


def _of_group(group: str | None) -> list[ColumnElement[bool]]:
    """What is true of the devices of a group; of all for None."""
    return [] if group is None else [devices.id.in_(select(groups.device).where(groups.name == group))]


def _views(connection: Connection, *chosen: ColumnElement[bool]) -> Iterator[DeviceView]:
    """Every device, or those that are chosen, in the order of their ids."""
    ids = select(devices.id).where(*chosen)

    def of(column: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        return [column.in_(ids)] if chosen else []

    pending = select(commands.device, func.count()).where(commands.open, *of(commands.device))
    counted = dict(map(tuple, connection.execute(pending.group_by(commands.device))))
    dropped = select(streams.device, func.sum(streams.dropped)).where(streams.dropped > 0, *of(streams.device))
    lost = {device: int(count) for device, count in connection.execute(dropped.group_by(streams.device))}
    keyed = select(schema.keys.c.device).where(*of(schema.keys.c.device))
    keys = set(connection.execute(keyed).scalars())
    members = select(groups.device, groups.name).where(*of(groups.device))
    of_device: dict[str, tuple[str, ...]] = {}
    alike: dict[tuple[str, ...], tuple[str, ...]] = {}  # many devices are in the same groups
    for device, name in connection.execute(members.order_by(rows.in_order(connection, groups.name))):
        now_in = (*of_device.get(device, ()), name)
        of_device[device] = alike.setdefault(now_in, now_in)
    told: dict[str, Any] = {}  # many devices have the same catalogue
    for row, report in device_rows(connection, *chosen):
        yield device_view(row, report, counted, lost, of_device, row.id in keys, told)


def device_rows(connection: Connection, *chosen: ColumnElement[bool]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What `device_view` needs of these devices, in the order of their ids: a row and the last report of each."""
    query = select(*_SHOWN).where(*chosen).order_by(rows.in_order(connection, devices.id))
    for some in connection.execute(query).partitions(_DEVICES):
        reports = json.loads(f"[{','.join(row.report or '{}' for row in some)}]")  # one by one they take twice as long
        yield from zip(some, reports, strict=True)


def device_view(
    row: Any,
    report: dict[str, Any],
    pending: dict[str, int],
    dropped: dict[str, int],
    groups: dict[str, tuple[str, ...]],
    key: bool,
    catalogues: dict[str, Any],
) -> DeviceView:
    """The view of a row of `device_rows`; the rest by device."""
    known = row.catalogue and row.catalogue_hash == report.get("catalogue")
    if known and row.catalogue not in catalogues:
        catalogues[row.catalogue] = json.loads(row.catalogue)
    return DeviceView(
        row.id,
        row.state,
        row.seen,
        row.next_due,
        pending.get(row.id, 0),
        report,
        row.payload_limit,
        catalogues[row.catalogue] if known else None,
        groups.get(row.id, ()),
        dropped.get(row.id, 0),
        key,
        row.revoked,
    )
