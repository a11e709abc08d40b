"""What the open pages share: one look at the ledger a second, the table of the fleet, and what a page may do.

Must stay true: however many pages are open, the ledger is looked at once a second at most, and the table is read again
only when there is news, and never for more than a fifth of the time.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host.errors import HostError
from dormouse_host.fleet import AlertView, CommandView, Fleet, Sent
from dormouse_host.ledger import watch
from dormouse_host.ledger.overview import Glance

LOOK = 1.0  # seconds between two looks
_SHARE = 4  # a reading may take one part in so many and one of the time
_KEPT = 2000  # devices whose battery's curve is kept
_SILENT = 30.0  # seconds after which pages are drawn anew without news: devices become overdue


class Actions:
    """What a page may change. `read_only`: nothing, whoever asks."""

    def __init__(self, fleet: Fleet, *, read_only: bool) -> None:
        self._fleet = fleet
        self.read_only = read_only

    def _may(self) -> Fleet:
        if self.read_only:
            raise HostError("this page is read-only")
        return self._fleet

    def send(self, devices: Sequence[str], do: str, words: Sequence[str], expires: float | None) -> list[Sent]:
        """Enter a command for these devices; `words` are `key=value`."""
        fleet = self._may()
        if len(devices) == 1:
            return [fleet.send(devices[0], do, words, expires=expires)]
        return fleet.send_many(devices, do, words, expires=expires)

    def cancel(self, command: str) -> CommandView:
        """Cancel a command."""
        return self._may().cancel(command)

    def cancel_update(self, update: str) -> None:
        """Cancel an update."""
        self._may().cancel_update(update)

    def set_group(self, name: str, devices: Sequence[str]) -> None:
        """The devices of a group from now on; none of them dissolves it."""
        self._may().group(name, devices)

    def change_rollout(self, name: str, order: str) -> None:
        """`approve`, `resume`, `abort` or `retry`."""
        self._may().change_rollout(name, order)


class Hub:
    """The ledger as the pages see it. `version` counts on whenever there is news."""

    def __init__(self, fleet: Fleet, actions: Actions) -> None:
        self.fleet, self.actions = fleet, actions
        self.version = 0
        self.glances: list[Glance] = []
        self.alerts: list[AlertView] = []  # those that are open
        self.wrong: str | None = None  # why the ledger cannot be read, while it cannot
        self.relays = 0
        self._watch: watch.Watch | None = None
        self._changed = True
        self._mark: tuple[int, ...] = ()
        self._batteries: dict[str, tuple[float | None, Sequence[float]]] = {}

    async def run(self) -> None:
        """Look at the ledger whenever it has changed, until cancelled."""
        drawn = 0.0
        try:
            while True:
                await asyncio.to_thread(self.wait)
                began = time.monotonic()
                news = await asyncio.to_thread(self.look)
                if news or began - drawn > _SILENT:
                    drawn = began
                    self.version += 1
                took = time.monotonic() - began
                await asyncio.sleep(max(LOOK, _SHARE * took))
        finally:
            self.close()

    def wait(self) -> None:
        """Until the ledger may have changed, at most for LOOK."""
        try:
            if self._watch is None:
                self._watch = self.fleet.watch()
                self._changed = True
            else:
                watch.wait(self._watch, LOOK)
            self._changed |= self._watch.changed()
        except HostError:  # `look` says why; then another connection is tried
            self.close()
            self._changed = True

    def close(self) -> None:
        """Give up the connection with which it waits."""
        if self._watch:
            self._watch.close()
        self._watch = None

    def look(self) -> bool:
        """Read what is new. Is anything?"""
        if not self._changed:
            return False
        try:
            mark = *self.fleet.mark(), sum(relay.alive for relay in self.fleet.relays())
            if mark != self._mark:
                self.glances, self.alerts = self.fleet.glances(self.glances), self.fleet.alerts()
        except HostError as error:
            news = self.wrong != str(error)
            self.wrong = str(error)
            return news
        news = mark != self._mark or self.wrong is not None
        self._changed, self._mark, self.relays, self.wrong = False, mark, mark[-1], None
        return news

    def knows(self, device: str) -> bool:
        """Is there such a device? Also where the ledger can't be read: its page says so."""
        try:
            return bool(self.fleet.ledger.views(protocol.check_device_id(device)))
        except ConfigError:
            return False
        except HostError:
            return True

    def batteries(self, rows: Sequence[Glance]) -> Mapping[str, Sequence[float]]:
        """The battery's volts of these devices; only those that were heard since are read."""
        if len(self._batteries) > _KEPT:
            self._batteries = {}
        new = [each for each in rows if each.id not in self._batteries or self._batteries[each.id][0] != each.seen]
        told = self.fleet.batteries([each.id for each in new if each.battery is not None]) if new else {}
        self._batteries.update({each.id: (each.seen, told.get(each.id, ())) for each in new})
        return {each.id: self._batteries.get(each.id, (None, ()))[1] for each in rows}

    @property
    def groups(self) -> list[str]:
        """The names of all groups."""
        return sorted({name for each in self.glances for name in each.groups})


async def asked(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str | None]:
    """What a call of the library gives, in a thread of its own, or why it gives nothing."""
    try:
        return await asyncio.to_thread(function, *arguments), None
    except HostError as error:
        return None, str(error)
