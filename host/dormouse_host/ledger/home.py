"""What Home Assistant is shown of a ledger, and what comes from there.

Must stay true: a message from there enters one command however often it comes; a reading is the newest by its own time,
whenever it came.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, and_, bindparam, delete, func, insert, select

from dormouse import protocol
from dormouse_host.ledger import desk_schema, entry, rows, schema
from dormouse_host.ledger.offers import Program
from dormouse_host.ledger.queries import DeviceView, device_rows, device_view
from dormouse_host.ledger.rows import commands, devices

_RECORDS = 20  # of a device that are looked through for its readings
_COMMANDS = 100  # of a device that are looked through for what it was set to
_KEPT = 14 * 86400.0  # seconds; a message from Home Assistant is not taken when it is that old
_FORGET = 500
reports, telemetry, events = schema.reports.c, schema.telemetry.c, schema.command_events.c
home, orders = desk_schema.home_devices.c, desk_schema.home_orders.c
_WANTED: BindParameter[Any] = bindparam("wanted", expanding=True)
_highest = (
    select(func.max(telemetry.number))
    .where(telemetry.device == devices.id, telemetry.state == devices.state)
    .correlate(schema.devices)
    .scalar_subquery()
)
_its = and_(telemetry.device == devices.id, telemetry.state == devices.state, telemetry.number > _highest - _RECORDS)
_NEWEST = (
    select(devices.id, telemetry.time, telemetry.number, telemetry.record)
    .select_from(schema.devices.join(schema.telemetry, _its))
    .where(devices.id.in_(_WANTED))
)
_before = schema.commands.alias("before").c
_first = (
    select(_before.key)
    .where(_before.device == devices.id)
    .order_by(_before.key.desc())
    .limit(1)
    .offset(_COMMANDS - 1)
    .correlate(schema.devices)
    .scalar_subquery()
)
_of_device = and_(commands.device == devices.id, commands.key >= func.coalesce(_first, 0))
_done = (
    select(func.max(commands.key))
    .select_from(schema.devices.join(schema.commands, _of_device))
    .where(devices.id.in_(_WANTED), commands.status == protocol.SUCCEEDED, commands.args.is_not(None))
    .group_by(commands.device, commands.do)
)
_of_key = schema.commands.alias("last").c
_LAST = select(_of_key.device, _of_key.do, _of_key.args).where(_of_key.key.in_(_done))


class Mark(NamedTuple):
    """The newest of what is stored about a device: it changes when anything comes. 0 where nothing was looked at."""

    at: float
    number: int
    event: int

    def after(self, before: "Mark | None") -> "Mark":
        """This one, and from the one before what was not looked at again."""
        if before is None:
            return self
        return Mark(self.at or before.at, self.number or before.number, self.event or before.event)


@dataclass(frozen=True)
class Standing:
    """A device, its newest readings by name, the arguments of the newest command of each name that succeeded, and its
    program where there was an update.
    """

    view: DeviceView
    readings: dict[str, Any] = field(default_factory=dict)
    set_to: dict[str, dict[str, Any]] = field(default_factory=dict)
    program: Program | None = None


def changes(connection: Connection, since: float, after: float) -> dict[str, Mark]:
    """The devices about which something was stored at or after `since`, or by an event with a key above `after`."""
    found: dict[str, Mark] = {}
    heard = select(reports.device, func.max(reports.at)).where(reports.at >= since).group_by(reports.device)
    for device, at in connection.execute(heard):
        found[device] = Mark(at, 0, 0)
    recorded = select(telemetry.device, func.max(telemetry.at), func.max(telemetry.number))
    for device, at, number in connection.execute(recorded.where(telemetry.at >= since).group_by(telemetry.device)):
        found[device] = Mark(max(at, found.get(device, Mark(0, 0, 0)).at), number, 0)
    told = select(commands.device, func.max(events.key)).join(schema.commands, commands.key == events.command)
    for device, key in connection.execute(told.where(events.key > after).group_by(commands.device)):
        found[device] = found.get(device, Mark(0, 0, 0))._replace(event=key)
    entered = select(devices.id, devices.added).where(devices.added >= since)
    for device, at in connection.execute(entered):
        found.setdefault(device, Mark(at, 0, 0))
    return found


def standings(connection: Connection, wanted: Sequence[str]) -> list[Standing]:
    """How these devices stand."""
    counted = select(commands.device, func.count()).where(commands.open, commands.device.in_(wanted))
    pending = dict(map(tuple, connection.execute(counted.group_by(commands.device))))
    catalogues: dict[str, Any] = {}
    there = device_rows(connection, devices.id.in_(wanted))
    views = [device_view(row, report, pending, {}, {}, False, catalogues) for row, report in there]
    readings, set_to = _readings(connection, wanted), _set_to(connection, wanted)
    return [Standing(view, readings.get(view.id, {}), set_to.get(view.id, {})) for view in views]


def _readings(connection: Connection, wanted: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Device -> name -> value: of the last records of its present state, the newest by its own time."""
    found: dict[str, dict[str, Any]] = {}
    stored = connection.execute(_NEWEST, {"wanted": list(wanted)}).all()
    for device, _, _, text in sorted(stored, key=lambda row: (row.time, row.number)):
        values = json.loads(text)
        found.setdefault(device, {}).update(values if isinstance(values, dict) else {})
    return found


def _set_to(connection: Connection, wanted: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Device -> command -> arguments, of the newest of each name that succeeded."""
    found: dict[str, dict[str, Any]] = {}
    for device, do, text in connection.execute(_LAST, {"wanted": list(wanted)}):
        found.setdefault(device, {})[do] = json.loads(text)
    return found


def all_due(connection: Connection) -> list[DeviceView]:
    """When each device was heard and is due."""
    found = connection.execute(select(devices.id, devices.seen, devices.next_due, devices.revoked))
    return [DeviceView(id, seen=seen, next_due=due, revoked=revoked) for id, seen, due, revoked in found]


def known(connection: Connection) -> dict[str, dict[str, str]]:
    """The devices that Home Assistant was told of, with their components."""
    found = connection.execute(select(home.device, home.components))
    return {device: json.loads(text) for device, text in found}


def told(connection: Connection, news: Mapping[str, Mapping[str, str] | None]) -> None:
    """Write down what Home Assistant is told of: device -> its components, None for one that is no more."""
    connection.execute(delete(desk_schema.home_devices).where(home.device.in_(list(news))))
    there = [
        {"device": device, "components": json.dumps(dict(components), sort_keys=True)}
        for device, components in news.items()
        if components is not None
    ]
    if there:
        connection.execute(insert(desk_schema.home_devices), there)


def enter(connection: Connection, digest: str, order: entry.Order, now: float) -> str | None:
    """Enter the command of a message. None where the message has come before."""
    rows.lock_name(connection, f"home {digest}")
    if connection.execute(select(orders.command).where(orders.digest == digest)).first() is not None:
        return None
    name = entry.enter(connection, [order], now)[0]
    connection.execute(insert(desk_schema.home_orders).values(digest=digest, at=now, command=name))
    old = select(orders.digest).where(orders.at < now - _KEPT).limit(_FORGET)
    connection.execute(
        delete(desk_schema.home_orders).where(orders.digest.in_(list(connection.execute(old).scalars())))
    )
    return name
