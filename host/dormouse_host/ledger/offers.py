"""The program of a device as Home Assistant has it: the release that it has kept, the newest ordered, and what of that
may be ordered again from there.

Must stay true: only a release that was ordered for this very device can be ordered again, with the terms of that order,
and only while nothing was ordered since; so a message that comes twice orders once.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from dormouse import protocol
from dormouse_host.errors import HostError
from dormouse_host.ledger import entry, rows, schema, update_views, updates
from dormouse_host.ledger.update_views import UpdateView
from dormouse_host.ledger.updates import Terms

_AGAIN = (protocol.FAILED, protocol.EXPIRED)
columns, events = schema.updates.c, schema.update_events.c


@dataclass(frozen=True)
class Program:
    """`kept`: the release that the newest update to succeed has brought, None where none did; `newest`: the update that
    was ordered last.
    """

    kept: str | None
    newest: UpdateView

    @property
    def latest(self) -> str | None:
        """The release that the device is to have; None: what it was flashed with."""
        return self.kept if self.newest.status == protocol.CANCELLED else self.newest.release

    @property
    def again(self) -> str | None:
        """The name of the update that can be ordered again."""
        wanted = self.newest.status in _AGAIN and self.newest.release != self.kept
        return self.newest.name if wanted else None

    @property
    def percent(self) -> int | None:
        """How much of it is on the device; None where nothing is on its way."""
        return None if self.newest.final else 100 * self.newest.sent // max(1, self.newest.total)


def read(connection: Connection, only: Collection[str] | None = None) -> dict[str, Program]:
    """The programs of the devices for which there was an update; of `only` these."""
    chunks: list[list[Any]] = [[]] if only is None else [[columns.device.in_(some)] for some in rows.chunks(only)]
    found: dict[str, Program] = {}
    for where in chunks:
        last = select(func.max(columns.key)).where(*where).group_by(columns.device)
        of_kept = last.where(columns.status == protocol.SUCCEEDED)
        kept = select(columns.device, columns.release).where(columns.key.in_(of_kept))
        releases: dict[str, str] = dict(map(tuple, connection.execute(kept)))
        for view in update_views.views(connection, columns.key.in_(last)):
            found[view.device] = Program(releases.get(view.device), view)
    return found


def changed(connection: Connection, after: int) -> tuple[set[str], int]:
    """The devices with an update under way or one that has changed since the event `after`, and the newest event."""
    newest = connection.execute(select(func.max(events.key))).scalar() or 0
    found = set(connection.execute(select(columns.device).where(columns.open)).scalars())
    if newest > after:
        told = select(columns.device).join(schema.update_events, events.update == columns.key)
        found |= set(connection.execute(told.where(events.key > after)).scalars())
    return found, newest


def order(connection: Connection, device: str, again: str, now: float) -> str:
    """Order the update `again` of a device once more. Returns the new one's name; HostError where it is not the newest
    of this device, or has not failed.
    """
    if rows.lock(connection, device) is None:
        raise entry.unknown_device(device, entry.all_devices(connection))
    program = read(connection, [device]).get(device)
    if program is None or program.again != again:
        raise HostError(f"{device}: {again} is no update that could be ordered again", 1)
    its = select(columns.expires, columns.entered, columns.min_battery).where(columns.name == again)
    expires, entered, min_battery = connection.execute(its).one()
    terms = Terms(None if expires is None else int(now + expires - entered), min_battery)
    return updates.enter(connection, [device], program.newest.release, terms, now)[0]
