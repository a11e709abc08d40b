"""Updates of devices: a release on its way into a slot, from the order to the device's verdict.

Must stay true: what an update has come to is decided from the answers to its commands and from end records alone, so
that any relay goes on with it after a crash; at most BATCH chunks are on their way to a device, and they are published
again only when an end record shows that they did not come. Chunks are no commands: twice does no harm. `succeeded`
is a release that the device has kept. What is final here is cleared on the device by the step `end`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, update

from dormouse import codec, protocol
from dormouse.signing import SIZE
from dormouse_host import release as releases
from dormouse_host.errors import HostError
from dormouse_host.ledger import entry, rows, rules, schema
from dormouse_host.ledger.keys import Signatures
from dormouse_host.ledger.rows import Device, commands

BATCH = 64  # chunks on their way to a device
SENDING, ON_TRIAL = "sending", "on trial"
OPEN = (rules.QUEUED, SENDING, ON_TRIAL)
_NOT_ALL = "not all of it has come"  # why a device refuses a commit that only came too early
_HEAD = 13  # bytes of a chunk before its data
_LAST = (1 << 30, 0)  # the place behind the last file
updates, events = schema.updates.c, schema.update_events.c


@dataclass
class Row:
    """One update, with the columns that may change."""

    key: int
    name: str
    device: str
    release: str
    expires: int | None
    min_battery: float | None
    begin: str
    status: str
    due: bool
    commit: str | None
    wanted: str | None
    told: str | None
    told_seq: int
    present: bool
    sent_file: int
    sent_at: int
    sent_seq: int
    sent_count: int
    why: str | None


COLUMNS = [updates[field.name] for field in fields(Row)]


@dataclass(frozen=True)
class Terms:
    """How an update is to be sent: `expires` in Unix seconds, `min_battery` in volts."""

    expires: int | None = None
    min_battery: float | None = None


def enter(connection: Connection, devices: Sequence[str], release: str, terms: Terms, now: float) -> list[str]:
    """Enter an update of each device, which are locked, to a release that is stored. Returns their names, in the same
    order. One that is on its way to the same device is cancelled by it, unless it is of the same release on the same
    terms: then it is that one. HostError where another release is on trial.
    """
    names: dict[str, str] = {}
    for device in devices:
        for row in _load(connection, updates.device == device, updates.open):
            if row.release == release and (row.status == ON_TRIAL or Terms(row.expires, row.min_battery) == terms):
                names[device] = row.name
                continue
            if row.status == ON_TRIAL:
                raise HostError(f"{device}: release {row.release} is on trial: wait for its verdict", 1)
            _settle(connection, row, protocol.CANCELLED, f"replaced by {release}", now)
    if new := [device for device in devices if device not in names]:
        names |= zip(new, _enter(connection, new, release, terms, now), strict=True)
    return [names[device] for device in devices]


def _enter(connection: Connection, devices: Sequence[str], release: str, terms: Terms, now: float) -> list[str]:
    begun = _ask(connection, devices, release, terms.expires, now)
    names = []
    for device, begin in zip(devices, begun, strict=True):
        names.append(entry.command_name())
        entered = {"name": names[-1], "device": device, "release": release, "entered": now, "begin": begin}
        made = insert(schema.updates).values(**entered, **asdict(terms), due=False, status=rules.QUEUED, open=True)
        key = connection.execute(made.returning(updates.key)).scalar_one()
        _tell(connection, key, rules.QUEUED, None, now)
    _mark(connection, devices, updating=True)
    return names


def _ask(connection: Connection, devices: Sequence[str], release: str, expires: int | None, now: float) -> list[str]:
    """Enter the step `begin`. Returns the commands' names."""
    digest = releases.sha256(manifest(connection, release))
    of = connection.execute(select(schema.releases.c.terms).where(schema.releases.c.id == release)).scalar_one()
    args = codec.encode({"step": "begin", "release": digest, "of": json.loads(of)}).decode()
    return entry.enter(connection, [entry.Order(device, rows.UPDATE, args, expires) for device in devices], now)


def _ask_again(connection: Connection, row: Row, now: float) -> None:
    """Once more from the first step, which does no harm: a device that has something of the release goes on with it."""
    row.begin = _ask(connection, [row.device], row.release, row.expires, now)[0]
    row.status, row.commit = rules.QUEUED, None


def cancel(connection: Connection, name: str, now: float) -> None:
    """Cancel an update. HostError where there is none, or where the device decides already."""
    found = _load(connection, updates.name == name)
    if not found:
        raise HostError(f"no update {name}", 2)
    rows.lock(connection, found[0].device)
    row = _load(connection, updates.name == name)[0]
    if row.status == ON_TRIAL:
        raise HostError(f"release {row.release} is on trial: the device keeps it or goes back by itself", 1)
    if row.status in OPEN:
        _settle(connection, row, protocol.CANCELLED, None, now)


def on_trial(connection: Connection, devices: Sequence[str]) -> set[str]:
    """Those of these devices that have a release on trial."""
    found: set[str] = set()
    for names in rows.chunks(devices):
        open_trials = (updates.device.in_(names), updates.open, updates.status == ON_TRIAL)
        found.update(connection.execute(select(updates.device).where(*open_trials)).scalars())
    return found


def withdraw(connection: Connection, names: Sequence[str], why: str, now: float) -> None:
    """Cancel those of these updates that are not on trial; their devices are locked."""
    for some in rows.chunks(names):
        for row in _load(connection, updates.name.in_(some), updates.open):
            if row.status != ON_TRIAL:
                _settle(connection, row, protocol.CANCELLED, why, now)


def store(connection: Connection, new: releases.Release, now: float) -> None:
    """Keep a release and its files."""
    text = json.dumps(new.terms())
    made = {"id": new.id, "manifest": new.manifest.decode(), "terms": text, "at": now}
    rows.insert_once(connection, schema.releases, made)
    for data in new.files.values():
        rows.insert_once(connection, schema.release_files, {"digest": releases.sha256(data), "data": data})


def _load(connection: Connection, *where: ColumnElement[bool]) -> list[Row]:
    return [Row(*found) for found in connection.execute(select(*COLUMNS).where(*where).order_by(updates.key))]


def _mark(connection: Connection, devices: Sequence[str], *, updating: bool) -> None:
    for names in rows.chunks(devices):
        connection.execute(update(schema.devices).where(schema.devices.c.id.in_(names)).values(updating=updating))


def _tell(connection: Connection, key: int, status: str, why: str | None, now: float) -> None:
    connection.execute(insert(schema.update_events).values(update=key, at=now, status=status, why=why))


def _settle(connection: Connection, row: Row, status: str, why: str | None, now: float) -> None:
    """This is what the update has come to; the device is told to clear what it has of it."""
    begun = row.status != rules.QUEUED
    row.status, row.why = status, why
    connection.execute(
        update(schema.updates).where(updates.key == row.key).values(status=status, why=why, open=False, settled=now)
    )
    _tell(connection, row.key, status, why, now)
    _mark(connection, [row.device], updating=False)
    if row.commit:
        entry.cancel(connection, row.commit, now)
    if begun:
        entry.enter(connection, [_step(row, "end")], now)
    else:
        entry.cancel(connection, row.begin, now)


def _step(row: Row, step: str) -> entry.Order:
    return entry.Order(row.device, rows.UPDATE, codec.encode({"step": step, "release": row.release}).decode())


def late(connection: Connection, device: str, told: dict[str, Any], now: float) -> None:
    """A device tells of a release for which no update is open: its verdict wins, and the device is told to clear it."""
    ours = (updates.device == device, updates.release == told["release"])
    found = _load(connection, *ours)
    if not found or "trial" in told:
        return
    row = found[-1]
    status = protocol.SUCCEEDED if "kept" in told else protocol.FAILED if "failed" in told else row.status
    if row.status in (protocol.CANCELLED, protocol.EXPIRED) and status != row.status:
        values = {"status": status, "why": told.get("failed")}
        connection.execute(update(schema.updates).where(updates.key == row.key).values(values))
        _tell(connection, row.key, status, told.get("failed"), now)
    clearing = (commands.device == device, commands.do == rows.UPDATE, commands.open)
    if not rows.load(connection, *clearing, limit=1):
        entry.enter(connection, [_step(row, "end")], now)


# ---- the relay's part


def advance(
    connection: Connection, devices: Sequence[Device], signatures: Signatures, now: float, room: int
) -> list[tuple[str, bytes]]:
    """Look at the updates of these locked devices that are due. Returns (device, payload) of the chunks to publish,
    `room` at most.
    """
    known = {device.id: device for device in devices}
    outgoing: list[tuple[str, bytes]] = []
    for row in _load(connection, updates.device.in_(list(known)), updates.open, updates.due):
        if len(outgoing) >= room:
            break
        before = row.status, row.why
        row.due = False
        for payload in _look(connection, row, known[row.device], now, room - len(outgoing)):
            outgoing.append((row.device, signatures.signed(row.device, protocol.FILE, payload)))
        if row.status not in OPEN:
            continue
        values = {key: value for key, value in asdict(row).items() if key != "key"}
        connection.execute(update(schema.updates).where(updates.key == row.key).values(values))
        if (row.status, row.why) != before:
            _tell(connection, row.key, row.status, row.why, now)
    return outgoing


def _look(connection: Connection, row: Row, device: Device, now: float, room: int) -> list[bytes]:
    """What is to happen with an update now. Returns the chunks to publish, `room` at most."""
    if row.expires is not None and row.expires <= now and row.status != ON_TRIAL:
        _settle(connection, row, protocol.EXPIRED, None, now)
        return []
    told: dict[str, Any] = json.loads(row.told) or {} if row.told else {}
    if row.status == rules.QUEUED and not _begun(connection, row, told, now):
        return []
    if row.told is None:  # no end record has come since it was begun
        return []
    if told.get("release") != row.release:
        if "at" in told and _load(connection, updates.device == row.device, updates.release == told["release"]):
            _ask_again(connection, row, now)  # the first step of one that this has replaced came late
            return []
        _settle(connection, row, protocol.FAILED, "the device knows nothing of it any more", now)
    elif "kept" in told:
        _settle(connection, row, protocol.SUCCEEDED, None, now)
    elif "failed" in told:
        rolled = "rolled back: " if row.status == ON_TRIAL else ""
        _settle(connection, row, protocol.FAILED, rolled + told["failed"], now)
    elif "trial" in told:
        row.status, row.why = ON_TRIAL, None
    elif "at" in told:
        return _send(connection, row, device, (told["at"][0], told["at"][1]), now, room)
    return []


def _begun(connection: Connection, row: Row, told: dict[str, Any], now: float) -> bool:
    """Has the device agreed to the release?"""
    found = rows.load(connection, commands.name == row.begin)
    if found and not found[0].final:
        return False
    status = found[0].status if found else protocol.UNKNOWN
    if status != protocol.SUCCEEDED:
        why = found[0].why if found else None
        same = status in (protocol.CANCELLED, protocol.EXPIRED)
        _settle(connection, row, status if same else protocol.FAILED, why or f"its first step is {status}", now)
        return False
    if found[0].value is None and not found[0].why:  # it was lost on its way
        _ask_again(connection, row, now)
        return False
    value = json.loads(found[0].value or "{}")
    if not isinstance(value, dict) or value.get("running"):
        _settle(connection, row, protocol.SUCCEEDED, "the device runs it already", now)
        return False
    have = value.get("have")
    text = manifest(connection, row.release)
    row.wanted = json.dumps([0, *releases.missing(text, have if isinstance(have, str) else "")])
    row.status = SENDING
    if told.get("release") != row.release:
        row.told = None
    return True


def _send(connection: Connection, row: Row, device: Device, at: releases.Place, now: float, room: int) -> list[bytes]:
    """The device has all up to `at`: the chunks that follow, and after the last the step `commit`."""
    asked = rows.load(connection, commands.name == row.commit) if row.commit else []
    if at[0] < 0:
        if not asked or _came_too_early(asked[0]):
            row.commit = entry.enter(connection, [_step(row, "commit")], now)[0]
        elif asked[0].final and asked[0].status != protocol.SUCCEEDED:
            why = asked[0].why or f"its last step is {asked[0].status}"
            _settle(connection, row, protocol.FAILED, why, now)
        return []
    lost = not row.present or row.sent_seq < row.told_seq
    if at >= (row.sent_file, row.sent_at) or lost:
        (row.sent_file, row.sent_at), row.sent_seq, row.sent_count = at, device.seq, 0
    most = min(room, BATCH - row.sent_count)
    if most <= 0 or (row.sent_file, row.sent_at) == _LAST:
        return []
    report = json.loads(_of_device(connection, device.id, schema.devices.c.report) or "{}")
    volts = report.get("battery")
    if row.min_battery is not None and isinstance(volts, int | float) and volts < row.min_battery:
        row.why = f"battery {volts} V, below {row.min_battery:g} V"
        return []
    row.why = None
    payload_limit = _of_device(connection, device.id, schema.devices.c.payload_limit) or protocol.PAYLOAD_LIMIT
    limit = max(1, min(releases.CHUNK, payload_limit - _HEAD - SIZE))
    contents = _contents(connection, row.release)
    wanted = sorted({*json.loads(row.wanted or "[]"), at[0]})
    payloads, end = releases.chunks(row.release, contents, wanted, (row.sent_file, row.sent_at), limit, most)
    row.sent_file, row.sent_at = end or _LAST
    row.sent_count += len(payloads)
    row.due = end is not None and row.sent_count < BATCH  # the relay has no room for more at this moment
    if end is None and (not asked or asked[0].final):
        row.commit = entry.enter(connection, [_step(row, "commit")], now)[0]
    return payloads


def _came_too_early(commit: rules.Row) -> bool:
    """Is that all that was wrong with it, or may it be? Of a result that was lost nobody knows the reason, and where
    the files are at fault the device tells of that by itself.
    """
    if commit.why:
        return commit.final and _NOT_ALL in commit.why
    return commit.final and commit.status in (protocol.FAILED, protocol.UNKNOWN)


def _of_device(connection: Connection, device: str, column: ColumnElement[Any]) -> Any:
    return connection.execute(select(column).where(schema.devices.c.id == device)).scalar()


def manifest(connection: Connection, release: str) -> bytes:
    """That of a release that is stored."""
    text: str = connection.execute(
        select(schema.releases.c.manifest).where(schema.releases.c.id == release)
    ).scalar_one()
    return text.encode()


def _contents(connection: Connection, release: str) -> list[bytes]:
    """The manifest and the files of a release, by their numbers."""
    text = manifest(connection, release)
    files = schema.release_files.c
    found = [text]
    for line in text.decode().splitlines()[1:]:
        digest = line.split(" ")[1]
        found.append(bytes(connection.execute(select(files.data).where(files.digest == digest)).scalar_one()))
    return found
