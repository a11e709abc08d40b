"""What devices have said, one record after the other: the timeline of one, and exports of all.

Must stay true: reading changes nothing, and an export takes memory for some rows at a time, whatever its length.
"""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, and_, cast, func, select

from dormouse_host.ledger import rows, schema
from dormouse_host.ledger.rows import C
from dormouse_host.ledger.views import CREDENTIALS, shown

MORE = "more"  # the column of a table for what has none of its own, as JSON
COLUMNS = {  # of what can be exported, as a table
    "telemetry": ("device", "state", "number", "time", "at", "values"),
    "results": ("device", "at", "command", "id", "do", "status", "why", "value"),
    "wakes": (
        *("device", "at", "wake", "state", "cause", "clock", "next", "battery", "rssi", "free", "agent", "fw", "limit"),
        *("catalogue", "failures", "app", "signed", "refused", "dates", "undone", "last", "end", MORE),
    ),
}


@dataclass(frozen=True)
class LogLine:
    """Something that happened with a device, at `at` (Unix seconds): a `kind`, a line for people, and its fields."""

    at: float
    kind: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)


def timeline(connection: Connection, device: str, limit: int) -> list[LogLine]:
    """What happened with a device, the oldest first: its wakes, commands, results and telemetry."""
    e, r, t, w = schema.events.c, schema.results.c, schema.telemetry.c, schema.reports.c
    found: list[LogLine] = []

    def newest(query: Select[Any], *order: Any) -> Sequence[Any]:
        return connection.execute(query.order_by(*(by.desc() for by in order)).limit(limit)).all()[::-1]

    for at, text in newest(select(w.at, w.report).where(w.device == device), w.at):
        report = json.loads(text)
        found.append(LogLine(at, "wake", f"{report.get('wake')} {report.get('cause', '')}".strip(), report))
    for at, name, do, args in newest(select(C.entered, C.u, C.do, C.args).where(C.device == device), C.n):
        fields = {"command": name, "status": "queued", "do": do, "args": shown(do, args)}
        text = args if do not in CREDENTIALS else None
        found.append(LogLine(at, "command", f"{name} queued: {do} {text or ''}".strip(), fields))
    changed = select(e.at, e.status, e.why, C.u, C.do).join(schema.commands, C.n == e.command)
    for at, status, why, name, do in newest(changed.where(C.device == device), e.n):
        text = f"{name} {status}: {do}" + (f" ({why})" if why else "")
        found.append(LogLine(at, "command", text, {"command": name, "status": status, "do": do, "why": why}))
    for row in newest(_results(connection).where(r.device == device), r.n):
        result = _told(row)
        found.append(LogLine(result.pop("at"), "result", _result(result), result))
    stored = select(t.time, t.number, t.record).where(t.device == device)
    for at, number, values in newest(stored, t.at, t.number):  # numbers begin again where the flash was wiped
        fields = {"number": number, "values": json.loads(values)}
        found.append(LogLine(at, "telemetry", f"{number} {values}", fields))
    return sorted(found, key=lambda line: line.at)[-limit:]


def _result(result: dict[str, Any]) -> str:
    """`smhxmzjuf3 water succeeded {"ran":30}`."""
    value = None if result["value"] is None else json.dumps(result["value"], ensure_ascii=False, separators=(",", ":"))
    why = f"({result['why']})" if result["why"] else None
    parts = (result["command"] or result["id"], result["do"], result["status"], value, why)
    return " ".join(part for part in parts if part)


def export(connection: Connection, what: str, since: float) -> Generator[dict[str, Any]]:
    """Telemetry, results or wakes that came at or after `since`, one by one, in the order of their coming."""
    t, r, w = schema.telemetry.c, schema.results.c, schema.reports.c
    streaming = connection.execution_options(yield_per=1000)
    if what == "telemetry":
        query = select(t.device, t.state, t.number, t.time, t.at, t.record).where(t.at >= since)
        for row in streaming.execute(
            query.order_by(t.at, *(rows.in_order(connection, name) for name in (t.device, t.state)), t.number)
        ):
            head = {"device": row.device, "state": row.state, "number": row.number, "time": row.time, "at": row.at}
            yield {**head, "values": json.loads(row.record)}
    elif what == "results":
        for row in streaming.execute(_results(connection).where(r.at >= since).order_by(r.n)):
            yield _told(row)
    else:
        for wake in streaming.execute(select(w.device, w.wake, w.at, w.report).where(w.at >= since).order_by(w.at)):
            head = {"device": wake.device, "at": wake.at}
            yield {**head, **json.loads(wake.report), **head}  # who and when is not for a device to say


def _results(connection: Connection) -> Select[Any]:
    """Results, with what our own commands were called: on the wire that is only an id."""
    r = schema.results.c
    ledger, number = _parts(connection, r.id)
    ours = and_(C.device == r.device, C.ledger == ledger, C.number == number)
    columns = (r.n, r.device, r.at, C.u, r.id, func.coalesce(C.do, r.do).label("do"), r.status, r.why, r.value)
    return select(*columns).select_from(schema.results.outerjoin(schema.commands, ours))


def _parts(connection: Connection, id: ColumnElement[str]) -> tuple[ColumnElement[str], ColumnElement[int]]:
    """Ledger and number of an id, as the database itself reads them."""
    if connection.dialect.name == "postgresql":
        rest = func.split_part(id, "-", 2)
        return func.split_part(rest, ".", 1), cast(func.split_part(rest, ".", 2), BigInteger)
    rest = func.substr(id, func.instr(id, "-") + 1)
    dot = func.instr(rest, ".")
    return func.substr(rest, 1, dot - 1), cast(func.substr(rest, dot + 1), BigInteger)


def _told(row: Any) -> dict[str, Any]:
    _, device, at, command, id, do, status, why, value = row
    told = {"device": device, "at": at, "command": command, "id": id, "do": do, "status": status, "why": why}
    told["value"] = json.loads(value) if value else None
    return told
