"""Old records leave a ledger.

Must stay true: only what no rule can ask for any more goes. What is open stays, and of each ledger's name the 256
numbers below the highest that the device has shown, for the device may still answer those; the last wakes of each
device, for a broker that went back in time delivers them again; and telemetry above the mark up to which every record
is accounted for. The numbers given, and that mark, are never deleted: no number is given twice, no record stored twice.
"""

import json
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, or_, select, union, update
from sqlalchemy.sql.elements import ColumnElement

from dormouse import protocol
from dormouse_host.ledger import rows, schema
from dormouse_host.ledger.rows import C

WAKES = 100  # of each device that stay: a day of them at the default interval
E, R, T, S = (table.c for table in (schema.events, schema.results, schema.telemetry, schema.streams))
W, L, N = (table.c for table in (schema.reports, schema.ends, schema.numbers))


@dataclass(frozen=True)
class _Device:
    """What decides about a device's records. `state` is None while it has never reported."""

    id: str
    removed: bool
    state: str | None
    given: dict[str, int]  # by ledger
    shown: dict[str, int]

    def past(self, state: str) -> bool:
        """Can nothing that bears this state come any more?"""
        return self.removed or (self.state is not None and state != self.state)

    def floor(self, ledger: str) -> int:
        """The highest number that can be forgotten."""
        high = self.shown.get(ledger, 0)
        return min(self.given.get(ledger, high), high) - protocol.WINDOW


def devices(connection: Connection, before: float) -> list[str]:
    """Every device that there is anything older of, removed ones included."""
    old = ((C.device, C.settled), (R.device, R.at), (T.device, T.at), (W.device, W.at), (L.device, L.at))
    found = union(*(select(device).where(at < before).distinct() for device, at in old))
    return sorted(connection.execute(found).scalars())


def prune(connection: Connection, device: str, before: float) -> Counter[str]:
    """Delete what is older of one device. Returns how much of what."""
    locked = rows.lock(connection, device)
    one = _known(connection, device, locked)
    return Counter(
        commands=_commands(connection, one, before),
        results=_results(connection, one, before),
        telemetry=_telemetry(connection, one, before),
        wakes=_wakes(connection, one, before),
    )


def _known(connection: Connection, device: str, locked: rows.Device | None) -> _Device:
    state = locked.state if locked else None
    given = {row.ledger: row.number for row in connection.execute(select(N.ledger, N.number).where(N.device == device))}
    last = select(L.record).where(L.device == device, L.state == state).order_by(L.wake.desc()).limit(1)
    record = connection.execute(last).scalar()
    shown = json.loads(record).get("windows", {}) if record else {}
    return _Device(device, locked is None, state, given, shown)


def _commands(connection: Connection, device: _Device, before: float) -> int:
    old = and_(C.device == device.id, C.open.is_(False), C.settled < before)
    if not device.removed:
        forgotten: list[ColumnElement[bool]] = [
            and_(C.ledger == ledger, C.number <= device.floor(ledger)) for ledger in device.given
        ]
        old = and_(old, or_(C.state != device.state, *forgotten))  # false where either is NULL
    connection.execute(delete(schema.events).where(E.command.in_(select(C.n).where(old))))
    return connection.execute(delete(schema.commands).where(old)).rowcount


def _results(connection: Connection, device: _Device, before: float) -> int:
    found = connection.execute(select(R.n, R.id).where(R.device == device.id, R.at < before))
    keys = [n for n, name in found if _is_over(device, name)]
    for chunk in rows.chunks(keys):
        connection.execute(delete(schema.results).where(R.n.in_(chunk)))
    return len(keys)


def _is_over(device: _Device, name: str | None) -> bool:
    """Is an answer under this id of no use any more?"""
    if name is None:
        return True
    state, ledger, number = protocol.split_id(name)
    return bool(device.past(state) or number <= device.floor(ledger))


def _telemetry(connection: Connection, device: _Device, before: float) -> int:
    count = 0
    for state in connection.execute(select(T.state).where(T.device == device.id).distinct()).scalars().all():
        at = (S.device == device.id, S.state == state)
        old = and_(T.device == device.id, T.state == state, T.at < before)
        if device.past(state):  # no gap of it can be filled any more: all is accounted for
            last = connection.execute(select(T.number).where(old).order_by(T.number.desc()).limit(1)).scalar() or 0
            rows.insert_once(connection, schema.streams, {"device": device.id, "state": state, "whole": 0})
            connection.execute(update(schema.streams).where(*at, S.whole < last).values(whole=last))
        whole = connection.execute(select(S.whole).where(*at)).scalar() or 0
        count += connection.execute(delete(schema.telemetry).where(old, T.number <= whole)).rowcount
    return count


def _wakes(connection: Connection, device: _Device, before: float) -> int:
    count = 0
    for table in (schema.ends, schema.reports):
        c = table.c
        newest = select(c.at).where(c.device == device.id).order_by(c.at.desc()).offset(WAKES - 1).limit(1)
        limit = connection.execute(newest).scalar()
        if limit is not None:
            old = delete(table).where(c.device == device.id, c.at < min(before, limit))
            count = connection.execute(old).rowcount
    return count
