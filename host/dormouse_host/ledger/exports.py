"""Exports: telemetry, results, wakes and commands as rows, for all devices or for some, in the order of their coming.

An export is one statement however long it is, and takes memory for some rows at a time.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from dormouse_host.ledger import rows, rules, schema
from dormouse_host.ledger.rows import commands
from dormouse_host.ledger.shown import shown

MORE = "more"  # the column of a table for what has none of its own, as JSON
VALUES = "values"  # of telemetry: in a table a column for each
TIMES = frozenset({"time", "at", "entered", "settled", "expires"})  # columns that are Unix seconds
COLUMNS = {  # of what can be exported, as a table
    "telemetry": ("device", "state", "number", "time", "at", VALUES),
    "results": ("device", "at", "command", "id", "do", "status", "why", "value"),
    "wakes": (
        *("device", "at", "wake", "state", "cause", "clock", "next", "battery", "rssi", "free", "agent", "fw", "limit"),
        *("catalogue", "failures", "app", "readings", "signed", "refused", "dates", "undone", "settings", "last"),
        *("end", MORE),
    ),
    "commands": (
        *("device", "command", "id", "batch", "do", "args", "status", "final", "entered", "settled", "expires"),
        *("after", "published", "why", "value"),
    ),
}
groups, reports = schema.groups.c, schema.reports.c
results, telemetry = schema.results.c, schema.telemetry.c
RESULTS = select(
    *(results.device, results.at, results.command, results.id, results.do, results.status, results.why, results.value)
)


@dataclass(frozen=True)
class Wanted:
    """Which rows: those that came at or after `since` (Unix seconds), of a device or of a group's."""

    since: float = 0
    device: str | None = None
    group: str | None = None

    def of(self, device: ColumnElement[Any], at: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """The conditions on a table's device and time."""
        found = [at >= self.since]
        if self.device is not None:
            found.append(device == self.device)
        if self.group is not None:
            found.append(device.in_(select(groups.device).where(groups.name == self.group)))
        return found


def told(row: Any) -> dict[str, Any]:
    """A row of RESULTS."""
    device, at, command, id, do, status, why, value = row
    found = {"device": device, "at": at, "command": command, "id": id, "do": do, "status": status, "why": why}
    found["value"] = json.loads(value) if value else None
    return found


def _telemetry(connection: Connection, wanted: Wanted) -> Iterator[dict[str, Any]]:
    columns = (telemetry.device, telemetry.state, telemetry.number, telemetry.time, telemetry.at, telemetry.record)
    names = (rows.in_order(connection, name) for name in (telemetry.device, telemetry.state))
    query = select(*columns).where(*wanted.of(telemetry.device, telemetry.at))
    for device, state, number, time, at, record in connection.execute(
        query.order_by(telemetry.at, *names, telemetry.number)
    ):
        head = {"device": device, "state": state, "number": number, "time": time, "at": at}
        yield {**head, VALUES: json.loads(record)}


def _results(connection: Connection, wanted: Wanted) -> Iterator[dict[str, Any]]:
    query = RESULTS.where(*wanted.of(results.device, results.at))
    yield from map(told, connection.execute(query.order_by(results.key)))


def _wakes(connection: Connection, wanted: Wanted) -> Iterator[dict[str, Any]]:
    query = select(reports.device, reports.at, reports.report).where(*wanted.of(reports.device, reports.at))
    for device, at, report in connection.execute(query.order_by(reports.at)):
        head = {"device": device, "at": at}
        yield {**head, **json.loads(report), **head}  # who and when is not for a device to say


def _commands(connection: Connection, wanted: Wanted) -> Iterator[dict[str, Any]]:
    query = select(schema.commands).where(*wanted.of(commands.device, commands.entered))
    for row in connection.execute(query.order_by(commands.key)):
        yield {
            "device": row.device,
            "command": row.name,
            "id": f"{row.state}-{row.ledger}.{row.number}" if row.state else None,
            "batch": row.batch,
            "do": row.do,
            "args": shown(row.do, row.args),
            "status": row.status,
            "final": row.status in rules.FINAL,
            "entered": row.entered,
            "settled": row.settled,
            "expires": row.expires,
            "after": row.after,
            "published": row.published,
            "why": row.why,
            "value": json.loads(row.value) if row.value else None,
        }


EXPORTS: dict[str, Callable[[Connection, Wanted], Iterator[dict[str, Any]]]] = {
    "telemetry": _telemetry,
    "results": _results,
    "wakes": _wakes,
    "commands": _commands,
}
