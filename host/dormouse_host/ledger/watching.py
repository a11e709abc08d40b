"""What the alerts are judged from: reports, commands and updates that have come since the last look, and who is late.

Must stay true: every question is a transaction that reads, of a bounded number of rows, so that a relay never waits for
it; what may have been committed late, or was read before, is read again, which changes nothing (alerts.py). Overdue is
what `dormouse status --overdue` calls so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from dormouse_host import figures
from dormouse_host.ledger import alerts, desk_schema, rows, schema
from dormouse_host.ledger.alerts import Limits, Rules, Seen
from dormouse_host.ledger.queries import DeviceView
from dormouse_host.ledger.rows import commands, devices
from dormouse_host.ledger.shown import faults
from dormouse_host.terminal import when

SLICE = 500  # rows of one transaction
LATE = 60.0  # seconds by which a row may be committed after the time that it bears
_BACK = 86400.0  # seconds that the first look of all looks back
_ABOVE = 0.1  # volts above its limit at which a battery is well again
_MINORITY = 0.5  # of the part that opens the fleet's alert: below it, it closes
_LEAST = 3  # devices that are late at once and one alert
_BAD = ("failed", "expired", "unknown", "interrupted", "rejected")
_ROLLED = "rolled back"
reports, events, updates = schema.reports.c, schema.command_events.c, schema.updates.c
streams, groups, marks = schema.telemetry_streams.c, schema.groups.c, desk_schema.alert_marks.c


@dataclass
class Places:
    """Up to where the ledger was judged: the time of reports and updates, the key of the commands' events."""

    reports: float = 0.0
    updates: float = 0.0
    events: float = 0.0
    dropped: float = 0.0  # 1 once the dropped records of before are known


@dataclass
class Late:
    """What one walk through the fleet has found so far: devices that count, those that have missed a wake, and the
    overdue among these with why.
    """

    count: int = 0
    late: int = 0
    overdue: dict[str, str] = field(default_factory=dict)
    well: set[str] = field(default_factory=set)  # with an open alert, and not overdue any more


def places(connection: Connection, now: float) -> Places:
    """Where the last look ended; for the first of all, somewhere not far back."""
    found = dict(map(tuple, connection.execute(select(marks.name, marks.value).where(marks.device == ""))))
    if "events" in found:
        return Places(**found)
    newest = connection.execute(select(func.max(events.key))).scalar() or 0
    return Places(now - _BACK, now, float(newest), 0.0)


def keep(connection: Connection, at: Places) -> None:
    """Write down where a look has ended."""
    connection.execute(delete(desk_schema.alert_marks).where(marks.device == ""))
    values = [{"name": name, "device": "", "value": value} for name, value in vars(at).items()]
    connection.execute(insert(desk_schema.alert_marks), values)


def limits(connection: Connection, rules: Rules, wanted: Sequence[str]) -> dict[str, Limits]:
    """The rules of these devices, where these are not those of all."""
    found: dict[str, Limits] = {}
    if not rules.groups:
        return found
    for some in rows.chunks(wanted):
        query = select(groups.device, groups.name).where(groups.device.in_(some), groups.name.in_(list(rules.groups)))
        for device, name in connection.execute(query.order_by(rows.in_order(connection, groups.name))):
            found.setdefault(device, rules.groups[name])
    return found


# ---- reports


def look_at_reports(connection: Connection, rules: Rules, since: float) -> tuple[list[Seen], float, bool]:
    """What the reports after `since` say. Returns it, up to when that is, and whether there are more."""
    ahead = select(reports.at).where(reports.at > since).order_by(reports.at).offset(SLICE - 1).limit(1)
    upto = connection.execute(ahead).scalar()
    query = select(reports.device, reports.at, reports.report).where(reports.at > since)
    if upto is not None:
        query = query.where(reports.at <= upto)
    found = connection.execute(query).all()
    mine = limits(connection, rules, list({row.device for row in found}))
    seen: list[Seen] = []
    for device, at, text in found:
        seen += judge_report(device, at, json.loads(text), mine.get(device, rules.limits))
    return seen, max((row.at for row in found), default=since), upto is not None


def judge_report(device: str, at: float, said: Mapping[str, Any], limits: Limits) -> list[Seen]:
    """What one report says about each kind of alert."""
    wrong = faults(dict(said))
    refused = said.get("refused")
    refused = refused if isinstance(refused, int) and not isinstance(refused, bool) else 0
    causes = {
        alerts.PROGRAM: "; ".join(f"{kind} {name}: {why}" for kind, name, why in wrong),
        alerts.WATCHDOG: "the watchdog has reset the board" if said.get("cause") == "watchdog" else "",
        alerts.SIGNATURE: f"{refused} payloads without a right signature were refused" if refused > 0 else "",
    }
    found = [Seen(device, kind, at, bool(text), text) for kind, text in causes.items() if kind in limits.kinds]
    volts = said.get("battery")
    volts = None if isinstance(volts, bool) else volts
    if alerts.BATTERY in limits.kinds and isinstance(volts, int | float) and figures.battery(volts) is None:
        if volts < limits.battery:
            found.append(Seen(device, alerts.BATTERY, at, True, f"{volts:g} V, below {limits.battery:g} V"))
        elif volts >= limits.battery + _ABOVE:
            found.append(Seen(device, alerts.BATTERY, at, False))
    return found


# ---- commands, updates, dropped records


def look_at_commands(connection: Connection, rules: Rules, after: float, upto: float) -> list[Seen]:
    """Commands that came to a bad end, by the events between these keys; the newest, where they are very many."""
    columns = (commands.device, commands.do, commands.name, events.at, events.status, events.why)
    query = select(*columns).join(schema.commands, commands.key == events.command)
    query = query.where(events.key > after, events.key <= upto, events.status.in_(_BAD), commands.do != rows.UPDATE)
    found = connection.execute(query.order_by(events.key.desc()).limit(SLICE)).all()
    mine = limits(connection, rules, list({row.device for row in found}))
    return [
        Seen(row.device, alerts.COMMAND, row.at, True, _command(row), lasting=False)
        for row in found
        if alerts.COMMAND in mine.get(row.device, rules.limits).kinds
    ]


def _command(row: Any) -> str:
    return f"{row.do} {row.name} {row.status}" + (f": {row.why}" if row.why else "")


def newest_event(connection: Connection) -> float:
    """The key of the newest event of a command."""
    return float(connection.execute(select(func.max(events.key))).scalar() or 0)


def look_at_updates(connection: Connection, rules: Rules, since: float) -> list[Seen]:
    """Updates after which a device runs the release of before."""
    query = select(updates.device, updates.settled, updates.release, updates.why)
    query = query.where(updates.settled > since, updates.status == "failed", updates.why.like(f"{_ROLLED}%"))
    found = connection.execute(query.order_by(updates.key.desc()).limit(SLICE)).all()
    mine = limits(connection, rules, list({row.device for row in found}))
    return [
        Seen(row.device, alerts.UPDATE, row.settled, True, f"release {row.release} {row.why}", lasting=False)
        for row in found
        if alerts.UPDATE in mine.get(row.device, rules.limits).kinds
    ]


def look_at_dropped(connection: Connection, rules: Rules, now: float) -> tuple[list[Seen], dict[str, int]]:
    """Devices that have dropped more telemetry than was known: what that means, and the new counts."""
    known = select(marks.device, marks.value).where(marks.name == alerts.DROPPED)
    before = {device: int(value) for device, value in connection.execute(known)}
    counted = select(streams.device, func.sum(streams.dropped)).where(streams.dropped > 0).group_by(streams.device)
    more = {device: int(count) for device, count in connection.execute(counted) if count > before.get(device, 0)}
    mine = limits(connection, rules, list(more))
    seen = [
        Seen(device, alerts.DROPPED, now, True, f"{count - before.get(device, 0)} records lost", lasting=False)
        for device, count in more.items()
        if alerts.DROPPED in mine.get(device, rules.limits).kinds
    ]
    return seen, more


def keep_dropped(connection: Connection, counts: Mapping[str, int]) -> None:
    """These counts are known."""
    for some in rows.chunks(counts):
        gone = delete(desk_schema.alert_marks).where(marks.name == alerts.DROPPED, marks.device.in_(some))
        connection.execute(gone)
        values = [{"name": alerts.DROPPED, "device": device, "value": float(counts[device])} for device in some]
        connection.execute(insert(desk_schema.alert_marks), values)


# ---- who is late


def is_overdue(view: DeviceView, limits: Limits, now: float) -> bool:
    """Is it overdue as `status --overdue` says, and by so many minutes?"""
    return view.late(now) >= 60 * limits.minutes and view.missed(now) > limits.overdue


def look_at_late(
    connection: Connection, rules: Rules, found: Late, after: str, open_ones: set[str], now: float
) -> str | None:
    """Judge the next devices by their ids, into `found`. Returns the last id, None where there are no more. Once an
    outage is over, who was silent in it is overdue when one more wake is missed.
    """
    outage = alerts.last_outage(connection)
    columns = (devices.id, devices.seen, devices.next_due, devices.revoked)
    there = select(*columns).where(devices.id > after).order_by(devices.id).limit(SLICE)
    some = connection.execute(there).all()
    heard = [DeviceView(id, seen=at, next_due=due) for id, at, due, revoked in some if at and due and not revoked]
    mine = limits(connection, rules, [view.id for view in heard if view.late(now)])
    for view in heard:
        own = mine.get(view.id, rules.limits)
        overdue = alerts.OVERDUE in own.kinds and is_overdue(view, own, now)
        if overdue and outage is not None and view.id not in open_ones:
            overdue = view.missed(now) > view.missed(outage)
        if view.id in open_ones:
            if not overdue:
                found.well.add(view.id)
            continue
        if alerts.OVERDUE not in own.kinds:
            continue
        found.count += 1
        found.late += view.missed(now) > 0
        if overdue:
            found.overdue[view.id] = f"{view.missed(now)} wakes missed, last heard {when(view.seen)}"
    return some[-1].id if len(some) == SLICE else None


def judge_late(found: Late, rules: Rules, outage: bool, now: float) -> list[Seen]:
    """What a whole walk means. `outage`: the fleet's alert is open."""
    seen = [Seen(device, alerts.OVERDUE, now, False) for device in found.well]
    most = max(_LEAST, rules.fleet * found.count)
    if outage and found.late < _MINORITY * most:
        return [*seen, Seen(alerts.FLEET, alerts.OVERDUE, now, False)]  # the next walk knows that it is over
    if not outage and found.overdue and found.late >= most:
        text = f"{found.late} of {found.count} devices are late: is the broker or the network down?"
        seen.append(Seen(alerts.FLEET, alerts.OVERDUE, now, True, text))
        outage = True
    if not outage:
        seen += [Seen(device, alerts.OVERDUE, now, True, text) for device, text in found.overdue.items()]
    return seen
