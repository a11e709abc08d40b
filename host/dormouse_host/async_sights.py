"""What an AsyncFleet knows of devices over time.

A part of async_fleet.py's AsyncFleet, which alone is used; errors, units and defaults are those of Fleet.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing

from dormouse_host.async_calls import AsyncCalls
from dormouse_host.ledger.lives import Life
from dormouse_host.ledger.overview import Glance
from dormouse_host.ledger.queries import CommandView, DeviceView
from dormouse_host.ledger.watch import Watch


class AsyncSights(AsyncCalls):
    """The part of AsyncFleet that looks back."""

    async def life(self, device: str, since: float, until: float) -> Life:
        """What happened with a device in a time: Fleet.life."""
        return await self._run(self.fleet.life, device, since, until)

    async def newest(self) -> float:
        """The last moment that the ledger knows of: Fleet.newest."""
        return await self._run(self.fleet.newest)

    async def oldest(self, device: str | None = None) -> float | None:
        """When the ledger's first wake report or command came: Fleet.oldest."""
        return await self._run(self.fleet.oldest, device)

    async def batteries(self, devices: Sequence[str], points: int = 40) -> dict[str, list[float]]:
        """The battery's volts in the newest wakes of these devices: Fleet.batteries."""
        return await self._run(self.fleet.batteries, devices, points)

    async def each_status(self, group: str | None = None) -> AsyncIterator[DeviceView]:
        """How all devices are, or those of a group, one after the other: Fleet.each_status."""
        found = await self._run(self.fleet.each_status, group)
        async with aclosing(self._each(found)) as views:
            async for view in views:
                yield view

    async def glances(self, before: Iterable[Glance] = ()) -> list[Glance]:
        """All devices as a table shows them: Fleet.glances."""
        return await self._run(self.fleet.glances, before)

    async def latest(self, device: str, limit: int = 50) -> list[CommandView]:
        """The newest commands of a device: Fleet.latest."""
        return await self._run(self.fleet.latest, device, limit)

    async def mark(self, device: str | None = None) -> tuple[int, ...]:
        """Changes whenever there is news: Fleet.mark."""
        return await self._run(self.fleet.mark, device)

    async def moved(self) -> str | None:
        """The file that this ledger was exported to: Fleet.moved."""
        return await self._run(self.fleet.moved)

    async def watch(self) -> Watch:
        """A watch of the ledger: Fleet.watch."""
        return await self._run(self.fleet.watch)
