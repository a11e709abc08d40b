"""A device's history as lines: its wakes and those that failed, commands, results, updates, telemetry and own log.

Each kind is read newest first, by an index of the device, and no more of it than lines are wanted.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, or_, select

from dormouse_host.ledger import device_log, schema
from dormouse_host.ledger.exports import RESULTS, told
from dormouse_host.ledger.rows import commands
from dormouse_host.ledger.shown import CREDENTIALS, failed_wake, faults, shown

AUTOMATIC = ("describe", "report", "log", "update")  # the commands that the ledger sends by itself
lines = schema.log_lines.c
events, reports, results, telemetry = schema.command_events.c, schema.reports.c, schema.results.c, schema.telemetry.c
updates, update_events = schema.updates.c, schema.update_events.c


@dataclass(frozen=True)
class LogLine:
    """Something that happened with a device, at `at` (Unix seconds): a `kind`, a line for people, and its fields."""

    at: float
    kind: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """What is wanted of a history: from `since` up to before `until` (Unix seconds), the newest `limit` lines;
    `automatic`: the ledger's own questions too.
    """

    limit: int
    since: float | None = None
    until: float | None = None
    automatic: bool = False

    def of(self, column: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """The condition on a column of times."""
        found = [] if self.since is None else [column >= self.since]
        return found if self.until is None else [*found, column < self.until]


def timeline(connection: Connection, device: str, span: Span) -> list[LogLine]:
    """What happened with a device, the oldest first."""

    def newest(query: Select[Any], at: ColumnElement[Any], *order: ColumnElement[Any]) -> Sequence[Any]:
        ordered = query.where(*span.of(at)).order_by(*(by.desc() for by in order or (at,)))
        return connection.execute(ordered.limit(span.limit)).all()[::-1]

    found: list[LogLine] = []
    told_by = select(reports.at, reports.report).where(reports.device == device)
    for at, text in newest(told_by, reports.at, reports.at, reports.wake):  # many come at once after an outage
        found += _wake(at, json.loads(text))
    asked = [] if span.automatic else [commands.do.not_in(AUTOMATIC)]
    entered = select(commands.entered, commands.name, commands.do, commands.args)
    for at, name, do, args in newest(entered.where(commands.device == device, *asked), commands.entered, commands.key):
        fields = {"command": name, "status": "queued", "do": do, "args": shown(do, args)}
        text = args if do not in CREDENTIALS else None
        found.append(LogLine(at, "command", f"{name} queued: {do} {text or ''}".strip(), fields))
    changed = select(events.at, events.status, events.why, commands.name, commands.do)
    changed = changed.join(schema.commands, commands.key == events.command).where(commands.device == device, *asked)
    for at, status, why, name, do in newest(changed, events.at, events.key):
        text = f"{name} {status}: {do}" + (f" ({why})" if why else "")
        found.append(LogLine(at, "command", text, {"command": name, "status": status, "do": do, "why": why}))
    answered = RESULTS.where(results.device == device)
    if not span.automatic:
        answered = answered.where(or_(results.do.is_(None), results.do.not_in(AUTOMATIC)))
    for row in newest(answered, results.at, results.key):
        result = told(row)
        found.append(LogLine(result.pop("at"), "result", _result(result), result))
    steps = select(update_events.at, update_events.status, update_events.why, updates.name, updates.release)
    steps = steps.join(schema.updates, updates.key == update_events.update).where(updates.device == device)
    for at, status, why, name, release in newest(steps, update_events.at, update_events.key):
        text = f"{name} {status}: {release}" + (f" ({why})" if why else "")
        found.append(LogLine(at, "update", text, {"update": name, "status": status, "release": release, "why": why}))
    stored = select(telemetry.time, telemetry.number, telemetry.record).where(telemetry.device == device)
    # numbers begin again where the flash was wiped
    for at, number, values in newest(stored, telemetry.time, telemetry.time, telemetry.number):
        fields = {"number": number, "values": json.loads(values)}
        found.append(LogLine(at, "telemetry", f"{number} {values}", fields))
    kept = select(lines.time, lines.wake, lines.ms, lines.line).where(lines.device == device)
    for at, wake, ms, text in newest(kept, lines.time, lines.time, lines.wake, lines.ms, lines.key):
        event, more = device_log.parts(text)
        found.append(
            LogLine(at, "log", f"{wake} {ms} {text}", {"wake": wake, "ms": ms, "event": event, "fields": more})
        )
    return sorted(found, key=lambda line: line.at)[-span.limit :]


def _wake(at: float, report: dict[str, Any]) -> Iterator[LogLine]:
    """A wake, what its program did wrong by its report, and before it the wake that failed."""
    failed = _failed(report)
    if failed is not None:
        yield LogLine(at, "failed", failed.pop("text"), failed)
    yield LogLine(at, "wake", f"{report.get('wake')} {report.get('cause', '')}".strip(), report)
    for kind, name, why in faults(report):
        yield LogLine(at, kind, f"{name}: {why}", {"name": name, "why": why})


def _failed(report: dict[str, Any]) -> dict[str, Any] | None:
    """How the wake before this one failed, where it did. When that was nobody knows: the device tells it now."""
    found = failed_wake(report)
    if found is None:
        return None
    ended, why = found
    times = report.get("failures")
    times = times if isinstance(times, int) and times > 1 else 1
    several = f" ({times} wakes in a row)" if times > 1 else ""
    text = f"before {report.get('wake')}: {ended}{several}" + (f": {why}" if why else "")
    return {"text": text, "before": report.get("wake"), "ended": ended, "why": why, "failures": times}


def _result(result: dict[str, Any]) -> str:
    """`smhxmzjuf3 water succeeded {"ran":30}`."""
    value = None if result["value"] is None else json.dumps(result["value"], ensure_ascii=False, separators=(",", ":"))
    why = f"({result['why']})" if result["why"] else None
    parts = (result["command"] or result["id"], result["do"], result["status"], value, why)
    return " ".join(part for part in parts if part)
