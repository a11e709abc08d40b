"""All devices at a glance, for a table of them: what is cheap to read for ten thousand at once.

A device's report is read and parsed again only when it has been heard since.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from dormouse import protocol
from dormouse_host.ledger import lateness, schema
from dormouse_host.ledger.lives import number
from dormouse_host.ledger.rows import chunks, commands, devices
from dormouse_host.ledger.shown import faults

_LONGEST = 40  # characters of a version
groups, updates = schema.groups.c, schema.updates.c


@dataclass(frozen=True)
class Glance:
    """A device in a table. Times are Unix seconds; `program`: the release that was sent last and runs, else the
    catalogue's hash; `faults`: how much its program did wrong by its last report.
    """

    id: str
    seen: float | None
    next_due: float | None
    revoked: float | None
    updating: bool
    pending: int
    groups: tuple[str, ...]
    battery: float | None
    rssi: float | None
    agent: str
    program: str
    faults: int

    def missed(self, now: float) -> int:
        """Wakes that it has missed, as DeviceView counts them."""
        return 0 if self.revoked else lateness.missed(self.seen, self.next_due, now)


def read(connection: Connection, before: Iterable[Glance] = ()) -> list[Glance]:
    """All devices in the order of their ids; `before`: what was read last, from which unchanged reports are taken."""
    known = {each.id: each for each in before}
    waiting = select(commands.device, func.count()).where(commands.open).group_by(commands.device)
    pending = dict(map(tuple, connection.execute(waiting)))
    member: dict[str, list[str]] = {}
    for device, name in connection.execute(select(groups.device, groups.name)):
        member.setdefault(device, []).append(name)
    succeeded = select(updates.device, updates.release).where(updates.status == protocol.SUCCEEDED)
    released = dict(map(tuple, connection.execute(succeeded.order_by(updates.key))))
    columns = (devices.id, devices.seen, devices.next_due, devices.revoked, devices.updating)
    rows = connection.execute(select(*columns)).all()
    changed = [row.id for row in rows if row.id not in known or known[row.id].seen != row.seen]
    said = _reports(connection, changed, everybody=len(changed) > len(rows) // 2)
    found = []
    for id, seen, due, revoked, updating in rows:
        fields = said[id] if id in said else _told(known[id]) if id in known else _fields({})
        program = released.get(id, fields["program"])
        more = {**fields, "program": program}
        named = tuple(sorted(member.get(id, ())))
        found.append(Glance(id, seen, due, revoked, bool(updating), pending.get(id, 0), named, **more))
    return sorted(found, key=lambda each: each.id)


def _reports(connection: Connection, ids: list[str], *, everybody: bool) -> dict[str, dict[str, Any]]:
    """What the reports of these devices say."""
    query = select(devices.id, devices.report).where(devices.report.is_not(None))
    if everybody:
        return {id: _fields(json.loads(text)) for id, text in connection.execute(query)}
    found = {}
    for some in chunks(ids):
        for id, text in connection.execute(query.where(devices.id.in_(some))):
            found[id] = _fields(json.loads(text))
    return found


def _fields(report: Mapping[str, Any]) -> dict[str, Any]:
    agent, program = (report.get(name) for name in ("agent", "catalogue"))
    return {
        "battery": number(report.get("battery")),
        "rssi": number(report.get("rssi")),
        "agent": str(agent)[:_LONGEST] if agent is not None else "",
        "program": str(program)[:_LONGEST] if program is not None else "",
        "faults": len(faults(dict(report))),
    }


def _told(each: Glance) -> dict[str, Any]:
    return {name: getattr(each, name) for name in ("battery", "rssi", "agent", "program", "faults")}
