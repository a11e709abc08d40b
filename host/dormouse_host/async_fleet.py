"""The library for programs that run on asyncio: the calls of Fleet, each awaited.

    from dormouse_host import AsyncFleet

    async with AsyncFleet("ledger.db") as fleet:
        sent = await fleet.send("greenhouse", "water", {"s": 30}, expires=7200)
        print((await fleet.wait(sent.name, 3600)).status)

Each call is Fleet's own, run in a thread of a small pool, so no rule stands here twice and the event loop never waits
for a database. A wait that is cancelled leaves nothing running. Callbacks are called in the event loop's thread.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dormouse import protocol
from dormouse_host import orders
from dormouse_host.address import BrokerAddress
from dormouse_host.async_events import AsyncFollowing
from dormouse_host.async_releases import AsyncReleases
from dormouse_host.async_sights import AsyncSights
from dormouse_host.fleet import GRACE, AlertView, CommandView, DeviceView, LogLine, RelayView, Sent, Setting
from dormouse_host.ledger.strangers import Strangers
from dormouse_host.releases import LOOK

if TYPE_CHECKING:
    from dormouse_host.relay.beside import Beside


class AsyncFleet(AsyncReleases, AsyncSights):
    """A ledger and the devices in it; open inside `async with`. Errors, units and defaults are those of Fleet."""

    # ---- commands

    async def send(
        self,
        device: str,
        do: str,
        args: Mapping[str, Any] | Sequence[str] = (),
        *,
        expires: float | None = None,
        after: str | None = None,
        create: bool = False,
    ) -> Sent:
        """Enter one command: Fleet.send."""
        return await self._run(self.fleet.send, device, do, args, expires=expires, after=after, create=create)

    async def send_many(
        self,
        devices: Iterable[str],
        do: str,
        args: Mapping[str, Any] | Sequence[str] = (),
        *,
        expires: float | None = None,
        after: str | None = None,
        create: bool = False,
        on_progress: Callable[[int], object] = lambda checked: None,
    ) -> list[Sent]:
        """Enter the same command for several devices, for all or none: Fleet.send_many."""
        loop = asyncio.get_running_loop()

        def tell(checked: int) -> None:
            loop.call_soon_threadsafe(on_progress, checked)

        how = partial(self.fleet.send_many, expires=expires, after=after, create=create, on_progress=tell)
        return await self._run(how, devices, do, args)

    async def result(self, name: str) -> CommandView:
        """A command as it stands, with its history: Fleet.result."""
        return await self._run(self.fleet.result, name)

    async def results(self, names: Iterable[str]) -> list[CommandView]:
        """Commands as they stand: Fleet.results."""
        return await self._run(self.fleet.results, names)

    async def batch(self, name: str) -> list[CommandView]:
        """The commands that were sent together under this name: Fleet.batch."""
        return await self._run(self.fleet.batch, name)

    async def cancel(self, name: str) -> CommandView:
        """Cancel a command: Fleet.cancel."""
        return await self._run(self.fleet.cancel, name)

    async def cancel_batch(
        self, name: str, on_progress: Callable[[int], object] = lambda done: None
    ) -> list[CommandView]:
        """Cancel what waits of a batch: Fleet.cancel_batch."""
        loop = asyncio.get_running_loop()

        def tell(done: int) -> None:
            loop.call_soon_threadsafe(on_progress, done)

        return await self._run(self.fleet.cancel_batch, name, tell)

    async def wait(
        self, name: str, seconds: float | None = None, on_change: Callable[[CommandView], object] = lambda view: None
    ) -> CommandView:
        """Wait until a command is final, or so long: Fleet.wait. No thread waits with it."""
        deadline = None if seconds is None else time.monotonic() + seconds
        last = None
        while True:
            view = await self.result(name)
            if view.status != last:
                last = view.status
                on_change(view)
            if view.final or (deadline is not None and time.monotonic() >= deadline):
                return view
            await asyncio.sleep(LOOK)

    async def wait_all(
        self,
        names: Iterable[str],
        seconds: float | None = None,
        on_look: Callable[[list[CommandView]], object] = lambda views: None,
    ) -> list[CommandView]:
        """Wait until all of these commands are final, or so long: Fleet.wait_all. No thread waits with it."""
        deadline = None if seconds is None else time.monotonic() + seconds
        names = orders.several(names)
        while True:
            views = await self.results(names)
            on_look(views)
            if all(view.final for view in views) or (deadline is not None and time.monotonic() >= deadline):
                return views
            await asyncio.sleep(LOOK * (1 + len(views) / 100))

    async def recent(self, limit: int = 50) -> list[str]:
        """The names of the newest commands: Fleet.recent."""
        return await self._run(self.fleet.recent, limit)

    async def resend(self, device: str, first: int, last: int) -> Sent:
        """Ask a device for telemetry records again: Fleet.resend."""
        return await self._run(self.fleet.resend, device, first, last)

    def on(
        self,
        *kinds: str,
        device: str | None = None,
        group: str | None = None,
        after: str | None = None,
        timeout: float | None = None,
        name: str | None = None,
    ) -> AsyncFollowing:
        """What happens, one event after the other: Fleet.on. From now on is from `async with`, or the first event."""
        how = partial(self.fleet.on, *kinds, device=device, group=group, after=after, timeout=timeout, name=name)
        return AsyncFollowing(how, self._run)

    # ---- devices

    async def add(self, *devices: str) -> int:
        """Register devices: Fleet.add."""
        return await self._run(self.fleet.add, *devices)

    async def remove(self, device: str, broker: BrokerAddress | None) -> None:
        """Forget a device: Fleet.remove."""
        await self._run(self.fleet.remove, device, broker)

    async def group(self, name: str, devices: Iterable[str], *, keep: bool = False) -> None:
        """The devices of a group from now on: Fleet.group."""
        await self._run(self.fleet.group, name, devices, keep=keep)

    async def members(self, group: str | None = None) -> list[str]:
        """The devices of a group, or all: Fleet.members."""
        return await self._run(self.fleet.members, group)

    async def groups(self) -> dict[str, int]:
        """The groups, and how many devices each has: Fleet.groups."""
        return await self._run(self.fleet.groups)

    async def overdue(self, group: str | None = None, grace: int = GRACE) -> list[DeviceView]:
        """The devices that have missed more than `grace` wakes: Fleet.overdue."""
        return await self._run(self.fleet.overdue, group, grace)

    async def uncounted(self, group: str | None = None) -> tuple[list[str], list[str]]:
        """The devices that are never overdue: Fleet.uncounted."""
        return await self._run(self.fleet.uncounted, group)

    async def set_revoked(self, *devices: str, revoked: bool = True) -> None:
        """Note that the credentials of devices were revoked, or that they have new ones: Fleet.set_revoked."""
        await self._run(self.fleet.set_revoked, *devices, revoked=revoked)

    async def status(self, device: str | None = None, group: str | None = None) -> list[DeviceView]:
        """How devices are, as far as they have said: Fleet.status."""
        return await self._run(self.fleet.status, device, group)

    async def settings(self, device: str) -> tuple[float | None, list[Setting]]:
        """A device's settings with their origin: Fleet.settings."""
        return await self._run(self.fleet.settings, device)

    async def understood(self, device: str) -> dict[str, dict[str, Any]]:
        """The commands that a device is known to understand: Fleet.understood."""
        return await self._run(self.fleet.understood, device)

    async def log(
        self,
        device: str,
        limit: int = 100,
        *,
        since: float | None = None,
        until: float | None = None,
        automatic: bool = False,
    ) -> list[LogLine]:
        """What happened with a device, the oldest first: Fleet.log."""
        return await self._run(self.fleet.log, device, limit, since=since, until=until, automatic=automatic)

    async def twins(self, device: str | None = None) -> dict[str, list[str]]:
        """Ids that two boards use: Fleet.twins."""
        return await self._run(self.fleet.twins, device)

    # ---- relays

    async def strangers(self) -> Strangers:
        """Ids that have sent something and are no devices: Fleet.strangers."""
        return await self._run(self.fleet.strangers)

    async def relay(
        self,
        broker: BrokerAddress,
        name: str,
        *,
        accept_new: bool | None = None,
        waiting: int = protocol.WINDOW,
        beside: "Beside | None" = None,
    ) -> None:
        """Relay until this is cancelled: Fleet.relay, run in a thread of its own and stopped in order."""
        running = self.fleet.relay(broker, name, accept_new=accept_new, waiting=waiting, beside=beside)
        thread = asyncio.ensure_future(asyncio.to_thread(running.run))  # not of the pool: it would keep it for good
        try:
            await asyncio.shield(thread)
        except asyncio.CancelledError:
            running.stop()
            await thread
            raise

    async def relays(self) -> list[RelayView]:
        """The relays that have not ended in order: Fleet.relays."""
        return await self._run(self.fleet.relays)

    async def forget_relay(self, name: str, broker: BrokerAddress) -> None:
        """End a relay's session at the broker: Fleet.forget_relay."""
        await self._run(self.fleet.forget_relay, name, broker)

    async def alerts(self, since: float | None = None, device: str | None = None) -> list[AlertView]:
        """The alerts that are open, and those that closed after `since`: Fleet.alerts."""
        return await self._run(self.fleet.alerts, since, device)

    # ---- all of it

    async def export(
        self, what: str, since: float = 0, *, device: str | None = None, group: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """`telemetry`, `results`, `wakes` or `commands`, one by one: Fleet.export."""
        found = await self._run(self.fleet.export, what, since, device=device, group=group)
        async with aclosing(self._each(found)) as rows:
            async for row in rows:
                yield row

    async def prune(
        self,
        before: float,
        *,
        dry: bool = False,
        on_progress: Callable[[int, int], object] = lambda done, steps: None,
    ) -> dict[str, int]:
        """Delete what is old and of no use any more: Fleet.prune."""
        loop = asyncio.get_running_loop()

        def tell(done: int, devices: int) -> None:
            loop.call_soon_threadsafe(on_progress, done, devices)

        return await self._run(self.fleet.prune, before, dry=dry, on_progress=tell)

    async def backup(self, target: str | Path) -> None:
        """A consistent copy of a SQLite ledger in a new file: Fleet.backup."""
        await self._run(self.fleet.backup, target)

    async def restored(self) -> tuple[int, int]:
        """Say that this ledger is a copy: Fleet.restored."""
        return await self._run(self.fleet.restored)

    async def export_ledger(self, target: str | Path) -> dict[str, int]:
        """Write the whole ledger to a new file, to be imported elsewhere: Fleet.export_ledger."""
        return await self._run(self.fleet.export_ledger, target)

    async def import_ledger(self, source: str | Path) -> dict[str, int]:
        """Read the file of an export into this ledger, which is new: Fleet.import_ledger."""
        return await self._run(self.fleet.import_ledger, source)

    async def reopen(self) -> bool:
        """Have the ledger take commands again after an export: Fleet.reopen."""
        return await self._run(self.fleet.reopen)
