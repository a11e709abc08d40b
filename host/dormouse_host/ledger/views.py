"""What is read from a ledger: commands, devices, groups and relays, as they stand.

Must stay true: reading changes nothing, and takes memory for what it returns only; nobody is shown the arguments that
hold credentials.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, select

from dormouse_host.ledger import rows, rules, schema
from dormouse_host.ledger.rows import C, D

CREDENTIALS = ("set_password", "set_certificate")  # the commands whose arguments nobody is shown


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
    guess: bool
    void: str | None
    value: Any
    why: str | None
    after: str | None
    expires: int | None
    entered: float
    settled: float | None
    published: int
    events: tuple[tuple[float, str, str | None], ...] = ()


@dataclass(frozen=True)
class DeviceView:
    """A device. `next_due` is when it said that it would connect; `report` is its last wake report."""

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

    def overdue(self, now: float) -> float:
        """Seconds by which it is late; 0 while it isn't or nobody knows."""
        return max(0.0, now - self.next_due) if self.next_due else 0.0


@dataclass(frozen=True)
class RelayView:
    """A relay. `instance` is its host, process and a random part; `until` is when it counts as dead without a sign."""

    name: str
    instance: str
    until: float
    alive: bool


def shown(do: str, text: str | None) -> dict[str, Any]:
    """A command's arguments as people and exports see them."""
    args: dict[str, Any] = json.loads(text) if text else {}
    return dict.fromkeys(args, "(hidden)") if do in CREDENTIALS else args


def _command(found: Any) -> CommandView:
    return CommandView(
        found.u,
        found.device,
        found.do,
        shown(found.do, found.args),
        f"{found.state}-{found.ledger}.{found.number}" if found.state else None,
        found.status,
        found.status in rules.FINAL,
        found.guess,
        found.void,
        json.loads(found.value) if found.value else None,
        found.why,
        found.after,
        found.expires,
        found.entered,
        found.settled,
        found.published,
    )


def command(connection: Connection, name: str) -> CommandView | None:
    """One command with its history."""
    found = connection.execute(select(schema.commands).where(C.u == name)).first()
    if found is None:
        return None
    e = schema.events.c
    events = connection.execute(select(e.at, e.status, e.why).where(e.command == found.n).order_by(e.n))
    return CommandView(
        **{**_command(found).__dict__, "events": ((found.entered, rules.QUEUED, None), *map(tuple, events))}
    )


def commands(connection: Connection, names: Sequence[str]) -> dict[str, CommandView]:
    """Commands without their history, by name; those that there are."""
    found: dict[str, CommandView] = {}
    for some in rows.chunks(names):
        found.update({row.u: _command(row) for row in connection.execute(select(schema.commands).where(C.u.in_(some)))})
    return found


def counts(connection: Connection) -> dict[str, int]:
    """How many commands there are of each status."""
    return {row[0]: row[1] for row in connection.execute(select(C.status, func.count()).group_by(C.status))}


def devices(connection: Connection, only: str | None = None) -> list[DeviceView]:
    """Every device, or one."""
    pending = select(C.device, func.count().label("count")).where(C.open).group_by(C.device)
    dropped = select(schema.streams.c.device, func.sum(schema.streams.c.dropped)).group_by(schema.streams.c.device)
    members = select(schema.groups.c.device, schema.groups.c.name).order_by(
        rows.in_order(connection, schema.groups.c.name)
    )
    keyed = select(schema.keys.c.device)
    found = select(schema.devices).order_by(rows.in_order(connection, D.id))
    if only is not None:
        found, pending = found.where(D.id == only), pending.where(C.device == only)
        keyed = keyed.where(schema.keys.c.device == only)
    counted = {row[0]: row[1] for row in connection.execute(pending)}
    lost = {device: int(count) for device, count in connection.execute(dropped)}
    keys = set(connection.execute(keyed).scalars())
    groups: dict[str, list[str]] = {}
    for device, name in connection.execute(members):
        groups.setdefault(device, []).append(name)
    return [_device(row, counted, lost, groups, row.id in keys) for row in connection.execute(found)]


def _device(
    row: Any, pending: dict[str, int], dropped: dict[str, int], groups: dict[str, list[str]], key: bool
) -> DeviceView:
    report = json.loads(row.report) if row.report else {}
    known = row.catalogue and row.catalogue_hash == report.get("catalogue")
    return DeviceView(
        row.id,
        row.state,
        row.seen,
        row.next_due,
        pending.get(row.id, 0),
        report,
        row.payload_limit,
        json.loads(row.catalogue) if known else None,
        tuple(groups.get(row.id, ())),
        dropped.get(row.id, 0),
        key,
    )


def relays(connection: Connection, alive: Callable[[str, float], bool]) -> list[RelayView]:
    """The relays that have not ended in order; `alive` judges instance and time."""
    r = schema.relays.c
    found = connection.execute(select(r.name, r.instance, r.until).order_by(rows.in_order(connection, r.name)))
    return [RelayView(name, instance, until, alive(instance, until)) for name, instance, until in found]


def members(connection: Connection, group: str | None) -> list[str]:
    """The devices of a group, or all."""
    g = schema.groups.c
    query = select(D.id) if group is None else select(g.device).where(g.name == group)
    return sorted(connection.execute(query).scalars())
