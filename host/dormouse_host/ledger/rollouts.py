"""Rollouts: an update or a command for many devices, wave after wave, stopped where too much of it fails.

Must stay true: what a rollout does next is decided from the ledger alone, in one transaction, under one lock, so that
any relay goes on with it after a crash and two do nothing twice; a wave begins once all of the one before is final or
overdue, and no more of it than was named has not got it; from the failure that stops it on nothing of it begins, and
what has not begun on a device is withdrawn; an update that was ordered later is never overwritten.
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
_GONE, _NEWER = "-", "="  # the item of a device that is no more, and of one for which an update was ordered later
_REASONS = {_GONE: "the device was removed", _NEWER: "something newer was ordered for it"}
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
    """A device of a rollout: its wave from 1, and how its update or command stands, None while it has not begun.
    `withdrawn`: the rollout has cancelled it itself; `settled`: in Unix seconds.
    """

    device: str
    wave: int
    item: str | None
    status: str | None
    why: str | None
    overdue: bool
    withdrawn: bool = False
    settled: float | None = None


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
    if order not in _ALLOWED:
        raise HostError(f"a rollout takes {', '.join(_ALLOWED)}, not {order}", 2)
    rows.lock_name(connection, "rollouts")
    row = _one(connection, name)
    if row.status not in _ALLOWED[order]:
        raise HostError(f"rollout {name} is {row.status}: there is nothing to {order}", 1)
    if order == "retry":
        _retry(connection, row, now)
    elif order == "approve":
        _set(connection, row, status=RUNNING, wave=row.wave + 1, why=None)
    elif order == "resume":
        _resume(connection, row, now)
    else:
        _withdraw(connection, row, "aborted", now)
        _set(connection, row, status=ABORTED, why=None)


_ALLOWED = {
    "approve": (WAITING,),
    "resume": (STOPPED,),
    "abort": (RUNNING, WAITING, STOPPED),
    "retry": (RUNNING, WAITING, STOPPED, DONE),
}
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
    columns = (members.device, members.at, members.item, members.withdrawn)
    query = (
        select(*columns, its.status, its.why, its.open, its.settled, devices.seen, devices.next_due)
        .select_from(
            schema.rollout_devices.outerjoin(table, its.name == members.item).outerjoin(
                schema.devices, devices.id == members.device
            )
        )
        .where(members.rollout == row.key)
        .order_by(members.at)
    )
    found = []
    for device, at, item, withdrawn, status, why, is_open, settled, seen, next_due in connection.execute(query):
        if item in _REASONS:
            status, why = protocol.CANCELLED, _REASONS[item]
        late = bool(is_open) and lateness.missed(seen, next_due, now) > lateness.GRACE
        wave = next((number for number, count in enumerate(waves, 1) if at < count), len(waves))
        found.append(Member(device, wave, item, status, why, late, withdrawn, settled))
    return found


def _step(connection: Connection, row: _Row, now: float) -> None:
    every = _members(connection, row, now)
    failed = sorted((member for member in every if member.status in _FAILED), key=lambda member: member.settled or 0)
    count = len(failed) - row.forgiven
    if count >= row.abort_after:
        _withdraw(connection, row, "stopped", now)
        more = f" since it went on, {len(failed)} in all" if row.forgiven else ""
        why = f"{count} failed{more}, the last on {failed[-1].device}: {failed[-1].why or failed[-1].status}"
        _set(connection, row, status=STOPPED, why=why)
        return
    reached = [member for member in every if member.wave <= row.wave + 1]
    if to_begin := [member for member in reached if _is_to_begin(member)]:
        _begin(connection, row, to_begin, now)
        return
    if any(member.status not in rules.FINAL and not member.overdue for member in reached):
        return
    is_last = row.wave + 1 == len(json.loads(row.waves))
    if is_last and any(member.overdue for member in reached):
        return  # there is nothing that should not begin for that
    if lacking := _unproven(row, reached):
        _set(connection, row, status=STOPPED, why=lacking)
    elif is_last:
        _set(connection, row, status=DONE)
    else:
        _set(connection, row, **({"status": WAITING} if row.approve else {"wave": row.wave + 1}))


def _is_to_begin(member: Member) -> bool:
    """Not yet begun; or withdrawn by a stop, and the rollout goes on."""
    return member.item is None or (member.withdrawn and member.status == protocol.CANCELLED)


def _unproven(row: _Row, reached: Sequence[Member]) -> str | None:
    """Why the next wave may not begin: too many of these devices are overdue, or never got it."""
    found = Counter(
        "overdue" if member.overdue else member.status
        for member in reached
        if member.overdue or (member.status in (protocol.CANCELLED, protocol.EXPIRED) and member.item != _GONE)
    )
    if found.total() <= row.missing * len(reached):
        return None
    head = f"{found.total()} of {len(reached)}"
    if set(found) == {"overdue"}:
        return f"{head} are overdue"
    return f"{head} did not get it: " + ", ".join(f"{count} {what}" for what, count in found.most_common())


def _resume(connection: Connection, row: _Row, now: float) -> None:
    """Go on after a stop: what has failed is counted no more, and where this wave is over the next one begins."""
    every = _members(connection, row, now)
    reached = [member for member in every if member.wave <= row.wave + 1]
    over = all((member.status in rules.FINAL and not _is_to_begin(member)) or member.overdue for member in reached)
    values: dict[str, Any] = {"status": RUNNING, "why": None}
    values["forgiven"] = sum(member.status in _FAILED for member in every)
    if over and _unproven(row, reached):
        is_last = row.wave + 1 == len(json.loads(row.waves))
        values |= {"status": DONE} if is_last else {"wave": row.wave + 1}
    _set(connection, row, **values)


def _begin(connection: Connection, row: _Row, found: Sequence[Member], now: float) -> None:
    """Enter the update or the command of these devices."""
    names = [member.device for member in found]
    known = rows.lock_all(connection, names)
    release_of = _releases(connection, row)
    what = json.loads(row.what)
    newer = set() if what else _newer(connection, row, names, release_of)
    busy = updates.on_trial(connection, names)  # theirs begins when that is over
    by_release: dict[str | None, list[str]] = {}
    for name in names:
        if name not in known:  # it was removed from the ledger meanwhile
            _item(connection, row, name, _GONE)
        elif name in newer:
            _item(connection, row, name, _NEWER)
        elif name not in busy:
            by_release.setdefault(release_of[name], []).append(name)
    for release, some in by_release.items():
        if release is None:
            text = what.get("args")
            items = entry.enter(connection, [entry.Order(d, what["do"], text, row.expires) for d in some], now)
        else:
            items = updates.enter(connection, some, release, updates.Terms(row.expires, row.min_battery), now)
        for device, entered in zip(some, items, strict=True):
            _item(connection, row, device, entered)


def _releases(connection: Connection, row: _Row) -> dict[str, str | None]:
    """The release of each of its devices."""
    query = select(members.device, members.release).where(members.rollout == row.key)
    return dict(map(tuple, connection.execute(query)))


def _newer(connection: Connection, row: _Row, names: Sequence[str], release_of: Mapping[str, str | None]) -> set[str]:
    """Those of these devices for which another release was ordered after this rollout: by itself, or by a rollout."""
    found = set()
    its = schema.updates.c
    rolled = select(members.device, members.release).join(schema.rollouts, rollouts.key == members.rollout)
    rolled = rolled.where(rollouts.key > row.key, rollouts.what == "{}", rollouts.status != ABORTED)
    ordered = select(its.device, its.release).where(its.entered > row.entered)
    ordered = ordered.where(its.status.not_in((protocol.CANCELLED, protocol.EXPIRED)))
    for some in rows.chunks(names):
        for query in (rolled.where(members.device.in_(some)), ordered.where(its.device.in_(some))):
            found |= {device for device, release in connection.execute(query) if release != release_of[device]}
    return found


def _item(connection: Connection, row: _Row, device: str, item: str | None) -> None:
    """This is its update or command there, from now on."""
    mine = (members.rollout == row.key, members.device == device)
    connection.execute(update(schema.rollout_devices).where(*mine).values(item=item, withdrawn=False))


def _withdraw(connection: Connection, row: _Row, why: str, now: float) -> None:
    """Cancel what has not begun on a device."""
    open_ones = [m for m in _members(connection, row, now) if m.item and m.status not in rules.FINAL]
    rows.lock_all(connection, [member.device for member in open_ones])
    names = [member.item for member in open_ones if member.item]
    for some in rows.chunks(names):
        its = (members.rollout == row.key, members.item.in_(some))
        connection.execute(update(schema.rollout_devices).where(*its).values(withdrawn=True))
    if json.loads(row.what):
        for name in names:
            entry.cancel(connection, name, now)
    else:
        updates.withdraw(connection, names, f"rollout {row.name} was {why}", now)


def _retry(connection: Connection, row: _Row, now: float) -> None:
    """Once more, for the devices where it has failed or was withdrawn."""
    again = [
        m for m in _members(connection, row, now) if m.item and m.status in rules.FINAL and m.status != "succeeded"
    ]
    if not again:
        raise HostError(f"rollout {row.name}: nothing of it has failed", 1)
    for member in again:
        _item(connection, row, member.device, None)
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
