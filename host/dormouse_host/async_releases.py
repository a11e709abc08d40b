"""What an AsyncFleet does with new programs: updates of devices over the air, and rollouts.

A part of async_fleet.py's AsyncFleet, which alone is used; errors, units and defaults are those of Fleet.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dormouse_host import orders
from dormouse_host.async_calls import AsyncCalls
from dormouse_host.ledger.rollouts import RolloutView
from dormouse_host.ledger.update_views import UpdateView
from dormouse_host.release import Release
from dormouse_host.releases import LOOK


class AsyncReleases(AsyncCalls):
    """The part of AsyncFleet that brings programs to devices."""

    # ---- updates and rollouts

    async def update(
        self,
        devices: Iterable[str],
        release: Release,
        *,
        expires: float | None = None,
        min_battery: float | None = None,
    ) -> list[str]:
        """Update devices to a release: Fleet.update."""
        return await self._run(self.fleet.update, devices, release, expires=expires, min_battery=min_battery)

    async def update_result(self, name: str) -> UpdateView:
        """An update as it stands: Fleet.update_result."""
        return await self._run(self.fleet.update_result, name)

    async def updates(self, device: str | None = None, *, final: bool = False) -> list[UpdateView]:
        """Updates that are open, or all: Fleet.updates."""
        return await self._run(self.fleet.updates, device, final=final)

    async def cancel_update(self, name: str) -> UpdateView:
        """Cancel an update: Fleet.cancel_update."""
        return await self._run(self.fleet.cancel_update, name)

    async def running_manifest(self, device: str) -> str | None:
        """The manifest of the last release that a device has kept: Fleet.running_manifest."""
        return await self._run(self.fleet.running_manifest, device)

    async def wait_updates(
        self,
        names: Iterable[str],
        seconds: float | None = None,
        on_look: Callable[[list[UpdateView]], object] = lambda views: None,
    ) -> list[UpdateView]:
        """Wait until all of these updates are final, or so long: Fleet.wait_updates. No thread waits with it."""
        deadline = None if seconds is None else time.monotonic() + seconds
        names = orders.several(names)
        while True:
            views = [await self.update_result(name) for name in names]
            on_look(views)
            if all(view.final for view in views) or (deadline is not None and time.monotonic() >= deadline):
                return views
            await asyncio.sleep(LOOK * (1 + len(views) / 10))

    async def kind(self, name: str) -> str | None:
        """`update`, `rollout` or None: Fleet.kind."""
        return await self._run(self.fleet.kind, name)

    async def rollout(
        self,
        devices: Iterable[str],
        waves: Iterable[int],
        *,
        releases: Mapping[str, Release] | None = None,
        command: tuple[str, Mapping[str, Any] | Sequence[str]] | None = None,
        abort_after: int = 1,
        missing: float = 0.0,
        approve: bool = False,
        expires: float | None = None,
        min_battery: float | None = None,
    ) -> str:
        """Start a rollout: Fleet.rollout."""
        return await self._run(
            self.fleet.rollout,
            devices,
            waves,
            releases=releases,
            command=command,
            abort_after=abort_after,
            missing=missing,
            approve=approve,
            expires=expires,
            min_battery=min_battery,
        )

    async def rollouts(self, name: str | None = None) -> list[RolloutView]:
        """Rollouts as they stand, or one: Fleet.rollouts."""
        return await self._run(self.fleet.rollouts, name)

    async def change_rollout(self, name: str, order: str) -> None:
        """Approve, resume, abort or retry a rollout: Fleet.change_rollout."""
        await self._run(self.fleet.change_rollout, name, order)
