"""What is read from a ledger: commands, devices, timelines, exports.

Must stay true: reading changes nothing, and takes memory for what it returns only.
"""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, func, select, tuple_

from dormouse import protocol
from dormouse_host.ledger import rules, schema
from dormouse_host.ledger.rows import C, D

_TOGETHER = 300  # commands that are looked up at once
EXPORTS = ("telemetry", "results", "wakes")


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


def _command(found: Any) -> CommandView:
    return CommandView(
        found.u,
        found.device,
        found.do,
        json.loads(found.args) if found.args else {},
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
    for at in range(0, len(names), _TOGETHER):
        some = select(schema.commands).where(C.u.in_(names[at : at + _TOGETHER]))
        found.update({row.u: _command(row) for row in connection.execute(some)})
    return found


def counts(connection: Connection) -> dict[str, int]:
    """How many commands there are of each status."""
    return {row[0]: row[1] for row in connection.execute(select(C.status, func.count()).group_by(C.status))}


def devices(connection: Connection, only: str | None = None) -> list[DeviceView]:
    """Every device, or one."""
    pending = select(C.device, func.count().label("count")).where(C.open).group_by(C.device)
    dropped = select(schema.streams.c.device, func.sum(schema.streams.c.dropped)).group_by(schema.streams.c.device)
    members = select(schema.groups.c.device, schema.groups.c.name).order_by(schema.groups.c.name)
    found = select(schema.devices).order_by(D.id)
    if only is not None:
        found, pending = found.where(D.id == only), pending.where(C.device == only)
    counted = {row[0]: row[1] for row in connection.execute(pending)}
    lost = {device: int(count) for device, count in connection.execute(dropped)}
    groups: dict[str, list[str]] = {}
    for device, name in connection.execute(members):
        groups.setdefault(device, []).append(name)
    return [_device(row, counted, lost, groups) for row in connection.execute(found)]


def _device(row: Any, pending: dict[str, int], dropped: dict[str, int], groups: dict[str, list[str]]) -> DeviceView:
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
    )


def relays(connection: Connection, alive: Callable[[str, float], bool]) -> list[RelayView]:
    """The relays that have not ended in order; `alive` judges instance and time."""
    r = schema.relays.c
    found = connection.execute(select(r.name, r.instance, r.until).order_by(r.name))
    return [RelayView(name, instance, until, alive(instance, until)) for name, instance, until in found]


def members(connection: Connection, group: str | None) -> list[str]:
    """The devices of a group, or all."""
    g = schema.groups.c
    query = select(D.id) if group is None else select(g.device).where(g.name == group)
    return sorted(connection.execute(query).scalars())


def timeline(connection: Connection, device: str, limit: int) -> list[tuple[float, str, str]]:
    """What happened with a device, the oldest first: time, kind, text."""
    e, r, t, w = schema.events.c, schema.results.c, schema.telemetry.c, schema.reports.c
    found: list[tuple[float, str, str]] = []

    def newest(query: Select[Any], order: Any) -> Any:
        return connection.execute(query.order_by(order.desc()).limit(limit)).all()[::-1]

    for at, wake, text in newest(select(w.at, w.wake, w.report).where(w.device == device), w.at):
        cause = json.loads(text).get("cause", "")
        found.append((at, "wake", f"{wake} {cause}".strip()))
    for row in newest(select(schema.commands).where(C.device == device), C.n):
        found.append((row.entered, "command", f"{row.u} queued: {row.do} {row.args or ''}".strip()))
    changed = select(e.at, e.status, e.why, C.u, C.do, e.n).join(schema.commands, C.n == e.command)
    for at, status, why, u, do, _ in newest(changed.where(C.device == device), e.n):
        found.append((at, "command", f"{u} {status}: {do}" + (f" ({why})" if why else "")))
    for at, name, do, status in newest(select(r.at, r.id, r.do, r.status).where(r.device == device), r.n):
        found.append((at, "result", f"{name or do or '?'} {status}"))
    for at, number, values in newest(select(t.time, t.number, t.record).where(t.device == device), t.number):
        found.append((at, "telemetry", f"{number} {values}"))
    return sorted(found, key=lambda line: line[0])[-limit:]


def export(connection: Connection, what: str, since: float) -> Generator[dict[str, Any]]:
    """Telemetry, results or wakes that came at or after `since`, one by one, in the order of their coming."""
    t, r, w = schema.telemetry.c, schema.results.c, schema.reports.c
    streaming = connection.execution_options(yield_per=1000)
    if what == "telemetry":
        query = select(t.device, t.state, t.number, t.time, t.at, t.record).where(t.at >= since)
        for row in streaming.execute(query.order_by(t.at, t.device, t.state, t.number)):
            head = {"device": row.device, "state": row.state, "number": row.number, "time": row.time, "at": row.at}
            yield {**head, "values": json.loads(row.record)}
    elif what == "results":
        found = streaming.execute(select(schema.results).where(r.at >= since).order_by(r.n))
        for some in found.partitions(_TOGETHER):
            yield from _results(connection, some)
    else:
        for wake in streaming.execute(select(w.device, w.wake, w.at, w.report).where(w.at >= since).order_by(w.at)):
            yield {"device": wake.device, "at": wake.at, **json.loads(wake.report)}


def _results(connection: Connection, some: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Results, with what our own commands were called: on the wire that is only an id."""
    ids = {row.n: (row.device, *protocol.split_id(row.id)[1:]) for row in some if row.id}
    key = tuple_(C.device, C.ledger, C.number)
    ours = connection.execute(select(C.device, C.ledger, C.number, C.u, C.do).where(key.in_(list(ids.values()))))
    names = {tuple(row[:3]): row[3:] for row in ours}
    for row in some:
        name, do = names.get(ids.get(row.n, ()), (None, row.do))
        head = {"device": row.device, "at": row.at, "command": name, "id": row.id, "do": do or row.do}
        value = json.loads(row.value) if row.value else None
        yield {**head, "status": row.status, "why": row.why, "value": value}
