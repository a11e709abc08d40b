"""Updates of devices as they are shown: how far each has come, its history, and what a device runs since."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from dormouse import protocol
from dormouse_host.errors import HostError
from dormouse_host.ledger import schema
from dormouse_host.ledger.updates import COLUMNS, ON_TRIAL, OPEN, SENDING, manifest

updates, events = schema.updates.c, schema.update_events.c


@dataclass(frozen=True)
class UpdateView:
    """An update as its sender sees it. Times are Unix seconds; `sent` of `total` bytes are on the device; `events` are
    (when, status, why).
    """

    name: str
    device: str
    release: str
    status: str
    final: bool
    why: str | None
    entered: float
    settled: float | None
    sent: int
    total: int
    events: tuple[tuple[float, str, str | None], ...] = ()


def running_manifest(connection: Connection, device: str) -> str | None:
    """The manifest of the last release that a device has kept."""
    kept = select(updates.release).where(updates.device == device, updates.status == protocol.SUCCEEDED)
    last = kept.order_by(updates.settled.desc()).limit(1).scalar_subquery()
    found: str | None = connection.execute(
        select(schema.releases.c.manifest).where(schema.releases.c.id == last)
    ).scalar()
    return found


def views(connection: Connection, *where: ColumnElement[bool], limit: int | None = None) -> list[UpdateView]:
    """Updates as they stand, the newest first, without their history."""
    columns = (updates.key, updates.entered, updates.settled, *COLUMNS[1:])
    found = connection.execute(select(*columns).where(*where).order_by(updates.key.desc()).limit(limit)).all()
    sizes = _sizes(connection, {each.release for each in found})
    return [_view(each, sizes[each.release]) for each in found]


def view(connection: Connection, name: str) -> UpdateView:
    """One of them with its history. HostError where there is none."""
    found = views(connection, updates.name == name)
    if not found:
        raise HostError(f"no update {name}", 2)
    key = select(updates.key).where(updates.name == name).scalar_subquery()
    told = connection.execute(
        select(events.at, events.status, events.why).where(events.update == key).order_by(events.key)
    )
    return UpdateView(**{**asdict(found[0]), "events": tuple((at, status, why) for at, status, why in told)})


def _sizes(connection: Connection, wanted: set[str]) -> dict[str, list[int]]:
    """Bytes of the manifest and of each file."""
    found = {}
    for release in wanted:
        text = manifest(connection, release)
        lines = text.decode().splitlines()[1:]
        found[release] = [len(text), *(int(line.split(" ")[0]) for line in lines)]
    return found


def _view(row: Any, sizes: list[int]) -> UpdateView:
    wanted = json.loads(row.wanted) if row.wanted else range(len(sizes))
    total = sum(sizes[number] for number in wanted)
    told = json.loads(row.told) or {} if row.told else {}
    sent = 0
    if row.status == SENDING and told.get("release") == row.release and "at" in told:
        file, at = told["at"]
        sent = total if file < 0 else sum(sizes[number] for number in wanted if number < file) + at
    elif row.status in (ON_TRIAL, protocol.SUCCEEDED):
        sent = total
    final = row.status not in OPEN
    return UpdateView(
        row.name,
        row.device,
        row.release,
        row.status,
        final,
        row.why,
        row.entered,
        row.settled,
        min(sent, total),
        total,
    )
