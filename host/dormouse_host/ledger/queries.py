"""What is read from a ledger: commands, devices and groups as they stand, the timeline of a device, and exports.

Reading changes nothing. An export takes memory for some rows at a time, whatever its length. Arguments that hold
credentials are shown to nobody.
"""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Select, func, select

from dormouse_host.errors import HostError
from dormouse_host.ledger import entry, rows, rules, schema, twins
from dormouse_host.ledger.rows import commands, devices

CREDENTIALS = ("set_password", "set_certificate")  # the commands whose arguments nobody is shown
MORE = "more"  # the column of a table for what has none of its own, as JSON
COLUMNS = {  # of what can be exported, as a table
    "telemetry": ("device", "state", "number", "time", "at", "values"),
    "results": ("device", "at", "command", "id", "do", "status", "why", "value"),
    "wakes": (
        *("device", "at", "wake", "state", "cause", "clock", "next", "battery", "rssi", "free", "agent", "fw", "limit"),
        *(
            "catalogue",
            "failures",
            "app",
            "readings",
            "signed",
            "refused",
            "dates",
            "undone",
            "settings",
            "last",
            "end",
            MORE,
        ),
    ),
}
events, groups, reports = schema.command_events.c, schema.groups.c, schema.reports.c
results, telemetry, streams = schema.results.c, schema.telemetry.c, schema.telemetry_streams.c
_RESULTS = select(
    *(results.device, results.at, results.command, results.id, results.do, results.status, results.why, results.value)
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

    @property
    def faults(self) -> list[tuple[str, str, str]]:
        """What its program did wrong by its last report: (`app` or `reading`, its name, why)."""
        return faults(self.report)


@dataclass(frozen=True)
class LogLine:
    """Something that happened with a device, at `at` (Unix seconds): a `kind`, a line for people, and its fields."""

    at: float
    kind: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)


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
                found.update({row.name: _command(row) for row in there})
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

    def devices(self, only: str | None = None) -> list[DeviceView]:
        """Every device, or one; HostError where that isn't known."""
        found = self.views(only)
        if only is not None and not found:
            raise entry.unknown_device(only, self.members(None))
        return found

    def views(self, only: str | None = None) -> list[DeviceView]:
        """Every device, or one, or none where that isn't known."""
        with self._reading() as connection:
            pending = select(commands.device, func.count()).where(commands.open).group_by(commands.device)
            dropped = select(streams.device, func.sum(streams.dropped)).group_by(streams.device)
            members = select(groups.device, groups.name).order_by(rows.in_order(connection, groups.name))
            keyed = select(schema.keys.c.device)
            found = select(schema.devices).order_by(rows.in_order(connection, devices.id))
            if only is not None:
                found, pending = found.where(devices.id == only), pending.where(commands.device == only)
                keyed = keyed.where(schema.keys.c.device == only)
            counted = {row[0]: row[1] for row in connection.execute(pending)}
            lost = {device: int(count) for device, count in connection.execute(dropped)}
            keys = set(connection.execute(keyed).scalars())
            of_device: dict[str, list[str]] = {}
            for device, name in connection.execute(members):
                of_device.setdefault(device, []).append(name)
            return [_device(row, counted, lost, of_device, row.id in keys) for row in connection.execute(found)]

    def members(self, group: str | None) -> list[str]:
        """The devices of a group, or all."""
        with self._reading() as connection:
            query = select(devices.id) if group is None else select(groups.device).where(groups.name == group)
            return sorted(connection.execute(query).scalars())

    def timeline(self, device: str, limit: int) -> list[LogLine]:
        """What happened with a device, the oldest first: its wakes, commands, results and telemetry."""
        with self._reading() as connection:
            found: list[LogLine] = []

            def newest(query: Select[Any], *order: Any) -> Sequence[Any]:
                return connection.execute(query.order_by(*(by.desc() for by in order)).limit(limit)).all()[::-1]

            woke = select(reports.at, reports.report).where(reports.device == device)
            for at, text in newest(woke, reports.at):
                report = json.loads(text)
                found.append(LogLine(at, "wake", f"{report.get('wake')} {report.get('cause', '')}".strip(), report))
                for kind, name, why in faults(report):
                    found.append(LogLine(at, kind, f"{name}: {why}", {"name": name, "why": why}))
            entered = select(commands.entered, commands.name, commands.do, commands.args)
            for at, name, do, args in newest(entered.where(commands.device == device), commands.key):
                fields = {"command": name, "status": "queued", "do": do, "args": shown(do, args)}
                text = args if do not in CREDENTIALS else None
                found.append(LogLine(at, "command", f"{name} queued: {do} {text or ''}".strip(), fields))
            changed = select(events.at, events.status, events.why, commands.name, commands.do)
            changed = changed.join(schema.commands, commands.key == events.command).where(commands.device == device)
            for at, status, why, name, do in newest(changed, events.key):
                text = f"{name} {status}: {do}" + (f" ({why})" if why else "")
                found.append(LogLine(at, "command", text, {"command": name, "status": status, "do": do, "why": why}))
            for row in newest(_RESULTS.where(results.device == device), results.key):
                result = _told(row)
                found.append(LogLine(result.pop("at"), "result", _result(result), result))
            stored = select(telemetry.time, telemetry.number, telemetry.record).where(telemetry.device == device)
            # numbers begin again where the flash was wiped
            for at, number, values in newest(stored, telemetry.at, telemetry.number):
                fields = {"number": number, "values": json.loads(values)}
                found.append(LogLine(at, "telemetry", f"{number} {values}", fields))
            return sorted(found, key=lambda line: line.at)[-limit:]

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

    def export(self, what: str, since: float) -> Generator[dict[str, Any]]:
        """Telemetry, results or wakes that came at or after `since`, one by one, in the order of their coming."""
        with self._reading(slowly=True) as connection:
            yield from _EXPORTS[what](connection.execution_options(yield_per=1000), since)


def faults(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What the program of a device did wrong by its wake report: (`app` or `reading`, its name, why)."""
    found = [("app", "app.py", str(report["app"]))] if report.get("app") else []
    lost = report.get("readings")
    return found + [("reading", name, str(why)) for name, why in (lost.items() if isinstance(lost, dict) else ())]


def shown(do: str, text: str | None) -> dict[str, Any]:
    """A command's arguments as people and exports see them."""
    args: dict[str, Any] = json.loads(text) if text else {}
    return dict.fromkeys(args, "(hidden)") if do in CREDENTIALS else args


def _command(found: Any) -> CommandView:
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
    )


def find_command(connection: Connection, name: str) -> CommandView | None:
    """One command with its history, inside a transaction."""
    found = connection.execute(select(schema.commands).where(commands.name == name)).first()
    if found is None:
        return None
    history = select(events.at, events.status, events.why).where(events.command == found.key).order_by(events.key)
    later = tuple(map(tuple, connection.execute(history)))
    return replace(_command(found), events=((found.entered, rules.QUEUED, None), *later))


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


def _result(result: dict[str, Any]) -> str:
    """`smhxmzjuf3 water succeeded {"ran":30}`."""
    value = None if result["value"] is None else json.dumps(result["value"], ensure_ascii=False, separators=(",", ":"))
    why = f"({result['why']})" if result["why"] else None
    parts = (result["command"] or result["id"], result["do"], result["status"], value, why)
    return " ".join(part for part in parts if part)


def _export_telemetry(connection: Connection, since: float) -> Iterator[dict[str, Any]]:
    columns = (telemetry.device, telemetry.state, telemetry.number, telemetry.time, telemetry.at, telemetry.record)
    names = (rows.in_order(connection, name) for name in (telemetry.device, telemetry.state))
    query = select(*columns).where(telemetry.at >= since).order_by(telemetry.at, *names, telemetry.number)
    for device, state, number, time, at, record in connection.execute(query):
        head = {"device": device, "state": state, "number": number, "time": time, "at": at}
        yield {**head, "values": json.loads(record)}


def _export_results(connection: Connection, since: float) -> Iterator[dict[str, Any]]:
    for row in connection.execute(_RESULTS.where(results.at >= since).order_by(results.key)):
        yield _told(row)


def _export_wakes(connection: Connection, since: float) -> Iterator[dict[str, Any]]:
    query = select(reports.device, reports.at, reports.report).where(reports.at >= since).order_by(reports.at)
    for device, at, report in connection.execute(query):
        head = {"device": device, "at": at}
        yield {**head, **json.loads(report), **head}  # who and when is not for a device to say


_EXPORTS = {"telemetry": _export_telemetry, "results": _export_results, "wakes": _export_wakes}


def _told(row: Any) -> dict[str, Any]:
    device, at, command, id, do, status, why, value = row
    told = {"device": device, "at": at, "command": command, "id": id, "do": do, "status": status, "why": why}
    told["value"] = json.loads(value) if value else None
    return told
