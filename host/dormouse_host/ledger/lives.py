"""A device's life over some time: its wakes, silences, commands, results, telemetry with its gaps, updates, alerts.

Each kind is read by the device's own index and bounded by LONGEST; what is left out then is the oldest. Nothing here
depends on the present: the same ledger and the same span give the same life.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, or_, select

from dormouse_host.ledger import alerts, desk_schema, lateness, schema, update_views
from dormouse_host.ledger.alerts import AlertView
from dormouse_host.ledger.exports import RESULTS, told
from dormouse_host.ledger.history import AUTOMATIC
from dormouse_host.ledger.outbound import ALIVE
from dormouse_host.ledger.queries import CommandView, as_command, events
from dormouse_host.ledger.rows import chunks, commands, devices
from dormouse_host.ledger.shown import FINISHED, failed_wake, faults
from dormouse_host.ledger.update_views import UpdateView

LONGEST = 50_000  # rows of each kind in one life
_REASON = 200  # characters of why a wake failed
_REACHED = ("delivered", "succeeded", "failed", "rejected", "interrupted")  # the device has it
_BEFORE_REPORT = ("boot", "join", "connect")  # phases of a wake that lie before its report
reports, results, telemetry = schema.reports.c, schema.results.c, schema.telemetry.c
alert = desk_schema.alerts.c
streams, groups, update_events = schema.telemetry_streams.c, schema.groups.c, schema.update_events.c


def number(value: object) -> float | None:
    """What a device said, where it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
        return None
    return float(value)


@dataclass(frozen=True)
class Wake:
    """A wake that the ledger was told of. `at`: when its report came (Unix seconds); `last`: what the next report says
    of this wake, where that is the next wake and this one finished.
    """

    at: float
    state: str
    report: dict[str, Any]
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def awake(self) -> float | None:
        """Seconds awake, where the device has told them."""
        ms = number(self.last.get("ms"))
        return None if ms is None or ms < 0 else ms / 1000

    @property
    def began(self) -> float:
        """When it began: the report's time without the phases before it, as far as they are known."""
        return self.at - sum(self.phase(name) or 0.0 for name in _BEFORE_REPORT)

    @property
    def due(self) -> float | None:
        """When the device said that it would connect next."""
        ahead = number(self.report.get("next"))
        return self.at + ahead if ahead and ahead > 0 else None

    @property
    def failed(self) -> str | None:
        """How the wake before this one failed and why, where it did."""
        found = failed_wake(self.report)
        return None if found is None else ": ".join(part for part in found if part)[:_REASON]

    @property
    def faults(self) -> list[tuple[str, str, str]]:
        """What the program did wrong by this report: (`app` or `reading`, its name, why)."""
        return faults(self.report)

    def phase(self, name: str) -> float | None:
        """Seconds of a phase of this wake."""
        phases = self.last.get("phases")
        ms = number(phases.get(name)) if isinstance(phases, dict) else None
        return None if ms is None or not 0 <= ms < 86_400_000 else ms / 1000


@dataclass(frozen=True)
class Record:
    """A telemetry record: its own time and when it came (Unix seconds), and its values."""

    time: float
    at: float
    state: str
    number: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Life:
    """What happened with a device from `since` to before `until` (Unix seconds), each kind in order of time.

    `commands` are those that were open in that time, with their history, without what the ledger asks by itself.
    `silences` are (from when it was due, until it was heard) of more than lateness.GRACE missed wakes; `gaps` are
    (from, until, records missing in between); `dropped` counts what the device gave up, of all time; `whole`: no kind
    had more than LONGEST rows.
    """

    device: str
    since: float
    until: float
    groups: tuple[str, ...]
    wakes: list[Wake]
    commands: list[CommandView]
    results: list[dict[str, Any]]
    records: list[Record]
    updates: list[UpdateView]
    alerts: list[AlertView]
    silences: list[tuple[float, float]]
    gaps: list[tuple[float, float, int]]
    dropped: int
    whole: bool

    def of_wakes(self, name: str) -> list[tuple[float, float]]:
        """A figure of the wake reports by time: one of the report, or of the wake as the next report tells it. `awake`
        is in seconds.
        """
        if name == "awake":
            return [(wake.at, wake.awake) for wake in self.wakes if wake.awake is not None]
        found = ((wake.at, number(wake.report.get(name, wake.last.get(name)))) for wake in self.wakes)
        return [(at, value) for at, value in found if value is not None]

    def readings(self) -> dict[str, list[tuple[float, float]]]:
        """The numbers in the telemetry by name, each as (time, value), in order of the names."""
        found: dict[str, list[tuple[float, float]]] = {}
        for record in self.records:
            for name, value in record.values.items():
                known = float(value) if isinstance(value, bool) else number(value)
                if known is not None:
                    found.setdefault(name, []).append((record.time, known))
        return dict(sorted(found.items()))

    def mean_awake(self) -> float | None:
        """The median of the seconds awake, None where no wake has told them."""
        told_of = [wake.awake for wake in self.wakes if wake.awake is not None]
        return statistics.median(told_of) if told_of else None


def reached(command: CommandView) -> float | None:
    """When the device had a command, as far as the ledger was told; None: never."""
    return next((at for at, status, _ in command.events if status in _REACHED), None)


def newest(connection: Connection) -> float:
    """The last moment that a ledger knows of: of its newest entry, or of its relay's last sign of life. 0: none."""
    looked = [
        select(func.max(reports.at)),
        select(func.max(schema.ends.c.at)),
        select(func.max(results.at)),
        select(func.max(telemetry.at)),
        select(commands.entered).order_by(commands.key.desc()).limit(1),
        select(events.at).order_by(events.key.desc()).limit(1),
        select(update_events.at).order_by(update_events.key.desc()).limit(1),
        select(func.max(schema.relays.c.until) - ALIVE),
    ]
    return max(connection.execute(query).scalar() or 0.0 for query in looked)


def mark(connection: Connection, device: str | None = None) -> tuple[int, ...]:
    """Changes with whatever a device says, of one or of any, and with whatever becomes of a command, an update, a
    rollout or a group. No clock is in it, for those of two relays differ.
    """
    if device is not None:
        looked: list[Select[Any]] = [select(devices.seq).where(devices.id == device)]
    else:
        looked = [
            select(func.sum(devices.seq)),
            select(func.count()).select_from(schema.devices),
            select(func.max(commands.key)),
            select(func.max(events.key)),
            select(func.max(update_events.key)),
            select(func.sum(schema.rollouts.c.wave)),
            select(func.count()).select_from(schema.rollouts).where(schema.rollouts.c.status == "running"),
            select(func.max(alert.key)),
            select(func.count()).where(alert.closed.is_(None)),
        ]
    return tuple(int(connection.execute(query).scalar() or 0) for query in looked)


def oldest(connection: Connection, device: str | None = None) -> float | None:
    """The time of the first wake report or command of a device or of all; None where there is none."""
    first = [select(func.min(reports.at)), select(func.min(commands.entered))]
    if device is not None:
        first = [first[0].where(reports.device == device), first[1].where(commands.device == device)]
    found = [at for query in first if (at := connection.execute(query).scalar()) is not None]
    return min(found) if found else None


def life(connection: Connection, device: str, since: float, until: float) -> Life:
    """The life of a device."""

    def latest(query: Select[Any], at: ColumnElement[Any], *more: ColumnElement[Any]) -> Sequence[Any]:
        chosen = query.where(at >= since, at < until).order_by(at.desc(), *(each.desc() for each in more))
        return connection.execute(chosen.limit(LONGEST)).all()[::-1]

    said = select(reports.at, reports.state, reports.wake, reports.report).where(reports.device == device)
    told_later = connection.execute(said.where(reports.at >= until).order_by(reports.at, reports.wake).limit(1)).all()
    told_before = connection.execute(said.where(reports.at < since).order_by(reports.at.desc()).limit(1)).all()
    found = latest(said, reports.at, reports.wake)
    wakes = _wakes([*found, *told_later])[: len(found)]
    stored = select(telemetry.time, telemetry.at, telemetry.state, telemetry.number, telemetry.record)
    rows = latest(stored.where(telemetry.device == device), telemetry.time, telemetry.state, telemetry.number)
    records = [Record(row.time, row.at, row.state, row.number, json.loads(row.record)) for row in rows]
    answered = RESULTS.where(results.device == device, or_(results.do.is_(None), results.do.not_in(AUTOMATIC)))
    answers = [told(row) for row in latest(answered, results.at, results.key)]
    ordered = _commands(connection, device, since, until)
    lost = connection.execute(select(func.sum(streams.dropped)).where(streams.device == device)).scalar()
    named = connection.execute(select(groups.name).where(groups.device == device)).scalars()
    heard = [*(_wakes(told_before)), *wakes]
    return Life(
        device,
        since,
        until,
        tuple(sorted(named)),
        wakes,
        ordered,
        answers,
        records,
        _updates(connection, device, since, until),
        [each for each in alerts.views(connection, since, device) if each.opened < until][::-1],
        silences(heard, since, until, told_later[0].at if told_later else until),
        gaps(records),
        int(lost or 0),
        max(map(len, (found, rows, answers, ordered))) < LONGEST,
    )


def _wakes(rows: Sequence[Any]) -> list[Wake]:
    """Wakes from (at, state, number, report), each with what the next one says of it."""
    said = [(row.at, row.state, row.wake, json.loads(row.report)) for row in rows]
    found = []
    for here, following in zip(said, [*said[1:], None], strict=False):
        at, state, count, report = here
        last: Any = None
        if following is not None and (following[1], following[2]) == (state, count + 1):
            last = following[3].get("last")
        known = isinstance(last, dict) and last.get("ended") == FINISHED
        found.append(Wake(at, state, report, last if known else {}))
    return found


def silences(wakes: Sequence[Wake], since: float, until: float, heard: float) -> list[tuple[float, float]]:
    """(from when it was due, until it was heard or to the end) where more than lateness.GRACE wakes were missed.
    `wakes` begin with the last one before `since`, if there is any; after the last one the device was `heard` again, or
    it is `until` where it was not.
    """
    found = []
    heard_again = [*(later.at for later in wakes[1:]), heard]
    for wake, again in zip(wakes, heard_again, strict=False):  # of a device that was never heard there is none
        due = wake.due
        if due is None or not since < again or not due < until:
            continue
        if lateness.missed(wake.at, due, again) > lateness.GRACE:
            found.append((max(due, since), min(again, until)))
    return found


def gaps(records: Sequence[Record]) -> list[tuple[float, float, int]]:
    """(time before, time after, records missing in between), for each hole in the numbers of a state."""
    found = []
    for one, other in pairwise(sorted(records, key=lambda record: (record.state, record.number))):
        if one.state == other.state and other.number > one.number + 1:
            found.append((min(one.time, other.time), max(one.time, other.time), other.number - one.number - 1))
    return sorted(found)


def _commands(connection: Connection, device: str, since: float, until: float) -> list[CommandView]:
    """The commands that were open in that time, with their history."""
    open_then = or_(commands.settled.is_(None), commands.settled >= since)
    chosen = select(schema.commands).where(
        commands.device == device, commands.entered < until, open_then, commands.do.not_in(AUTOMATIC)
    )
    return _with_history(
        connection, connection.execute(chosen.order_by(commands.key.desc()).limit(LONGEST)).all()[::-1]
    )


def _with_history(connection: Connection, rows: Sequence[Any]) -> list[CommandView]:
    changed: dict[int, list[tuple[float, str, str | None]]] = {}
    for keys in chunks([row.key for row in rows]):
        query = select(events.command, events.at, events.status, events.why).where(events.command.in_(keys))
        for key, *change in connection.execute(query.order_by(events.key)):
            changed.setdefault(key, []).append((change[0], change[1], change[2]))
    return [as_command(row, changed.get(row.key, ())) for row in rows]


def latest_commands(connection: Connection, device: str, limit: int) -> list[CommandView]:
    """The newest commands of a device with their history, the newest first, without what the ledger asks by itself."""
    chosen = select(schema.commands).where(commands.device == device, commands.do.not_in(AUTOMATIC))
    return _with_history(connection, connection.execute(chosen.order_by(commands.key.desc()).limit(limit)).all())


def _updates(connection: Connection, device: str, since: float, until: float) -> list[UpdateView]:
    its = schema.updates.c
    open_then = or_(its.settled.is_(None), its.settled >= since)
    return update_views.views(connection, its.device == device, its.entered < until, open_then, limit=LONGEST)[::-1]


def batteries(connection: Connection, ids: Sequence[str], points: int) -> dict[str, list[float]]:
    """The battery's volts in the newest `points` wakes of each of these devices in its present state, the oldest first;
    devices that have told none are left out.
    """
    found = {}
    states: dict[str, str | None] = {}
    for some in chunks(ids):
        states.update(map(tuple, connection.execute(select(devices.id, devices.state).where(devices.id.in_(some)))))
    for device, state in states.items():
        own = select(reports.report).where(reports.device == device, reports.state == state)
        told_of = connection.execute(own.order_by(reports.wake.desc()).limit(points)).scalars()
        volts = [number(json.loads(text).get("battery")) for text in told_of]
        if known := [value for value in reversed(volts) if value is not None]:
            found[device] = known
    return found
