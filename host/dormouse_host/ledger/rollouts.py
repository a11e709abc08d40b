"""Rollouts: an update or a command for many devices, wave after wave, stopped where too much of it fails.

Must stay true: what a rollout does next is decided from the ledger alone, in one transaction, under one lock, so that
any relay goes on with it after a crash and two do nothing twice; a wave begins once all of the one before is final or
overdue; from the failure that stops it on nothing of it begins, and what has not begun on a device is withdrawn.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, insert, select, update

from dormouse import protocol
from dormouse_host.errors import HostError
from dormouse_host.ledger import entry, lateness, rows, rules, schema, updates
from dormouse_host.ledger.rows import commands, devices

RUNNING, WAITING, STOPPED, DONE, ABORTED = "running", "waiting for approval", "stopped", "done", "aborted"
_GONE = "-"  # the item of a device that is no more
rollouts, members = schema.rollouts.c, schema.rollout_devices.c


@dataclass(frozen=True)
class Plan:
    """What is rolled out: `what` is the command ({"do", "args"}; {} for an update), `releases` device -> release of an
    update. `waves`: how many devices have begun once each wave has, the last all; `abort_after` failures stop it;
    `missing`: the part of a wave that may be overdue; `approve`: each wave but the first waits for somebody.
    """

    what: Mapping[str, Any]
    devices: Sequence[str]
    waves: Sequence[int]
    releases: Mapping[str, str]
    abort_after: int = 1
    missing: float = 0.0
    approve: bool = False
    expires: int | None = None
    min_battery: float | None = None


@dataclass
class _Row:
    key: int
    name: str
    what: str
    waves: str
    wave: int
    abort_after: int
    forgiven: int
    missing: float
    approve: bool
    expires: int | None
    min_battery: float | None
    entered: float
    status: str
    why: str | None


_COLUMNS = [rollouts[field.name] for field in fields(_Row)]


@dataclass(frozen=True)
class Member:
    """A device of a rollout: its wave from 1, and how its update or command stands, None while it has not begun."""

    device: str
    wave: int
    item: str | None
    status: str | None
    why: str | None
    overdue: bool


@dataclass(frozen=True)
class RolloutView:
    """A rollout as it stands. `wave` is the one that runs, from 1, of `waves`; times are Unix seconds."""

    name: str
    what: str
    status: str
    why: str | None
    wave: int
    waves: int
    abort_after: int
    entered: float
    members: tuple[Member, ...]

    @property
    def counts(self) -> Counter[str]:
        """How many devices have which status; those that have not begun are `to come`."""
        return Counter(member.status or "to come" for member in self.members)


def start(connection: Connection, plan: Plan, now: float) -> str:
    """Enter a rollout; a relay begins it. Returns its name."""
    rows.lock_name(connection, "rollouts")
    known = set(connection.execute(select(devices.id).where(devices.id.in_(list(plan.devices)))).scalars())
    if unknown := set(plan.devices) - known:
        raise entry.unknown_device(min(unknown), entry.all_devices(connection))
    made = {
        "name": entry.command_name(),
        "what": json.dumps(dict(plan.what)),
        "waves": json.dumps(list(plan.waves)),
        "wave": 0,
        "abort_after": plan.abort_after,
        "missing": plan.missing,
        "approve": plan.approve,
        "expires": plan.expires,
        "min_battery": plan.min_battery,
        "entered": now,
        "status": RUNNING,
    }
    key = connection.execute(insert(schema.rollouts).values(made).returning(rollouts.key)).scalar_one()
    listed = [
        {"rollout": key, "device": device, "at": at, "release": plan.releases.get(device)}
        for at, device in enumerate(plan.devices)
    ]
    connection.execute(insert(schema.rollout_devices), listed)
    return str(made["name"])


def running(connection: Connection) -> bool:
    """Is there any for `step` to look at?"""
    return connection.execute(select(rollouts.key).where(rollouts.status == RUNNING).limit(1)).first() is not None


def step(connection: Connection, now: float) -> None:
    """Go on with every rollout as far as it may go now."""
    rows.lock_name(connection, "rollouts")
    for row in _load(connection, rollouts.status == RUNNING):
        _step(connection, row, now)


def change(connection: Connection, name: str, order: str, now: float) -> None:
    """`approve`, `resume`, `abort` or `retry` a rollout. HostError where it does not stand so."""
    rows.lock_name(connection, "rollouts")
    row = _one(connection, name)
    allowed = {"approve": (WAITING,), "resume": (STOPPED,), "abort": (RUNNING, WAITING, STOPPED), "retry": ()}
    if order == "retry":
        _retry(connection, row, now)
        return
    if row.status not in allowed[order]:
        raise HostError(f"rollout {name} is {row.status}: it can't {order}", 1)
    if order == "approve":
        _set(connection, row, status=RUNNING, wave=row.wave + 1, why=None)
    elif order == "resume":
        failed = sum(member.status in _FAILED for member in _members(connection, row, now))
        _set(connection, row, status=RUNNING, forgiven=failed, why=None)
    else:
        _withdraw(connection, row, now)
        _set(connection, row, status=ABORTED, why=None)


_FAILED = (protocol.FAILED, protocol.REJECTED, protocol.INTERRUPTED, protocol.UNKNOWN)


def _load(connection: Connection, *where: Any) -> list[_Row]:
    return [_Row(*found) for found in connection.execute(select(*_COLUMNS).where(*where).order_by(rollouts.key))]


def _one(connection: Connection, name: str) -> _Row:
    found = _load(connection, rollouts.name == name)
    if not found:
        raise HostError(f"no rollout {name}", 2)
    return found[0]


def _set(connection: Connection, row: _Row, **values: Any) -> None:
    connection.execute(update(schema.rollouts).where(rollouts.key == row.key).values(values))


def _members(connection: Connection, row: _Row, now: float) -> list[Member]:
    """Its devices in their order."""
    waves = json.loads(row.waves)
    is_update = not json.loads(row.what)
    its = schema.updates.c if is_update else commands
    table = schema.updates if is_update else schema.commands
    query = (
        select(members.device, members.at, members.item, its.status, its.why, its.open, devices.seen, devices.next_due)
        .select_from(
            schema.rollout_devices.outerjoin(table, its.name == members.item).outerjoin(
                schema.devices, devices.id == members.device
            )
        )
        .where(members.rollout == row.key)
        .order_by(members.at)
    )
    found = []
    for device, at, item, status, why, is_open, seen, next_due in connection.execute(query):
        if item == _GONE:
            status, why = protocol.CANCELLED, "the device was removed"
        late = bool(is_open) and lateness.missed(seen, next_due, now) > lateness.GRACE
        wave = next(number for number, count in enumerate(waves, 1) if at < count)
        found.append(Member(device, wave, item, status, why, late))
    return found


def _step(connection: Connection, row: _Row, now: float) -> None:
    waves = json.loads(row.waves)
    every = _members(connection, row, now)
    failed = [member for member in every if member.status in _FAILED]
    if len(failed) - row.forgiven >= row.abort_after:
        _withdraw(connection, row, now)
        why = f"{len(failed)} failed, the last on {failed[-1].device}: {failed[-1].why or failed[-1].status}"
        _set(connection, row, status=STOPPED, why=why)
        return
    now_running = [member for member in every if member.wave <= row.wave + 1]
    to_begin = [member for member in now_running if member.item is None]
    if to_begin:
        _begin(connection, row, to_begin, now)
        return
    still = [member for member in now_running if member.status not in rules.FINAL]
    if any(not member.overdue for member in still):
        return
    if row.wave + 1 < len(waves) and len(still) > row.missing * len(now_running):
        _set(connection, row, status=STOPPED, why=f"{len(still)} of {len(now_running)} are overdue")
    elif row.wave + 1 < len(waves):
        _set(connection, row, **({"status": WAITING} if row.approve else {"wave": row.wave + 1}))
    elif not still:
        _set(connection, row, status=DONE)


def _begin(connection: Connection, row: _Row, found: Sequence[Member], now: float) -> None:
    """Enter the update or the command of these devices."""
    names = [member.device for member in found]
    known = rows.lock_all(connection, names)
    busy = updates.on_trial(connection, names)  # theirs begins when that is over
    names = [name for name in names if name not in busy]
    what = json.loads(row.what)
    by_release: dict[str | None, list[str]] = {}
    of_device = select(members.device, members.release).where(members.rollout == row.key)
    release_of: dict[str, str | None] = dict(map(tuple, connection.execute(of_device)))
    for name in names:
        if name in known:
            by_release.setdefault(release_of[name], []).append(name)
    for release, some in by_release.items():
        if release is None:
            text = what.get("args")
            items = entry.enter(connection, [entry.Order(d, what["do"], text, row.expires) for d in some], now)
        else:
            items = updates.enter(connection, some, release, updates.Terms(row.expires, row.min_battery), now)
        for device, item in zip(some, items, strict=True):
            mine = (members.rollout == row.key, members.device == device)
            connection.execute(update(schema.rollout_devices).where(*mine).values(item=item))
    for name in set(names) - known.keys():  # it was removed from the ledger meanwhile
        mine = (members.rollout == row.key, members.device == name)
        connection.execute(update(schema.rollout_devices).where(*mine).values(item=_GONE))


def _withdraw(connection: Connection, row: _Row, now: float) -> None:
    """Cancel what has not begun on a device."""
    begun = [member for member in _members(connection, row, now) if member.item and member.status not in rules.FINAL]
    rows.lock_all(connection, [member.device for member in begun])
    names = [member.item for member in begun if member.item]
    if json.loads(row.what):
        for name in names:
            entry.cancel(connection, name, now)
    else:
        updates.withdraw(connection, names, now)


def _retry(connection: Connection, row: _Row, now: float) -> None:
    """Once more, for the devices where it has failed or was withdrawn."""
    again = [
        m for m in _members(connection, row, now) if m.item and m.status in rules.FINAL and m.status != "succeeded"
    ]
    if not again:
        raise HostError(f"rollout {row.name}: nothing of it has failed", 1)
    for member in again:
        mine = (members.rollout == row.key, members.device == member.device)
        connection.execute(update(schema.rollout_devices).where(*mine).values(item=None))
    _set(connection, row, status=RUNNING, forgiven=0, why=None)


# ---- what is shown


def views(connection: Connection, now: float, name: str | None = None) -> list[RolloutView]:
    """Rollouts as they stand, the newest first."""
    found = [_one(connection, name)] if name is not None else _load(connection)[::-1]
    return [_view(row, _members(connection, row, now)) for row in found]


def _view(row: _Row, found: Sequence[Member]) -> RolloutView:
    what = json.loads(row.what)
    waves = json.loads(row.waves)
    text = what.get("do", "update")
    return RolloutView(
        row.name, text, row.status, row.why, row.wave + 1, len(waves), row.abort_after, row.entered, tuple(found)
    )
