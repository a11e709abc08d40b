"""What a Fleet does with new programs: updates of devices over the air, and rollouts of updates and commands.

A part of fleet.py's Fleet, which alone is used; the errors are its own.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dormouse_host import orders
from dormouse_host.errors import HostError
from dormouse_host.ledger.rollouts import Plan, RolloutView
from dormouse_host.ledger.store import Ledger
from dormouse_host.ledger.update_views import UpdateView
from dormouse_host.ledger.updates import Terms
from dormouse_host.release import Release

LOOK = 0.1  # seconds between two looks of a wait


class Releases:
    """The part of Fleet that brings programs to devices."""

    clock: Callable[[], float]
    ledger: Ledger

    # ---- updates

    def update(
        self,
        devices: Iterable[str],
        release: Release,
        *,
        expires: float | None = None,
        min_battery: float | None = None,
    ) -> list[str]:
        """Update devices to a release (flash.releases.build makes one); `expires`: seconds from now; `min_battery`:
        volts below which nothing is sent, where a device reports any. Returns the updates' names, in the same order.
        """
        terms = Terms(orders.until(expires, self.clock()), orders.volts(min_battery))
        return self.ledger.enter_updates(orders.devices(devices), release, terms)

    def update_result(self, name: str) -> UpdateView:
        """An update as it stands, with its history."""
        return self.ledger.update_view(name)

    def updates(self, device: str | None = None, *, final: bool = False) -> list[UpdateView]:
        """Updates that are open, with `final` all, the newest first; without their history."""
        return self.ledger.update_views(device=device, final=final)

    def cancel_update(self, name: str) -> UpdateView:
        """Cancel an update. HostError where the device has it on trial already."""
        return self.ledger.cancel_update(name)

    def running_manifest(self, device: str) -> str | None:
        """The manifest of the last release that a device has kept, None where no update of this ledger brought one."""
        return self.ledger.running_manifest(orders.name(device))

    def wait_updates(
        self,
        names: Iterable[str],
        seconds: float | None = None,
        on_look: Callable[[list[UpdateView]], object] = lambda views: None,
    ) -> list[UpdateView]:
        """Wait until all of these updates are final, or so long; `on_look` is told how they stand, again and again."""
        deadline = None if seconds is None else time.monotonic() + seconds
        names = orders.several(names)
        while True:
            views = [self.ledger.update_view(name) for name in names]
            on_look(views)
            if all(view.final for view in views) or (deadline is not None and time.monotonic() >= deadline):
                return views
            time.sleep(LOOK * (1 + len(views) / 10))

    def kind(self, name: str) -> str | None:
        """Is this the name of an `update` or a `rollout`? None: of neither, perhaps of a command."""
        return self.ledger.kind(name)

    # ---- rollouts

    def rollout(
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
        """Roll out an update (`releases`: device -> release) or a command (its name and arguments), wave after wave:
        `waves` says how many devices have begun once each wave has, the last all. After `abort_after` failures it
        stops, and where more than the part `missing` of them is overdue or never got it; with `approve` each wave but
        the first waits for `change_rollout`. A device for which another release is ordered later is left to that.
        Returns its name.
        """
        devices = orders.devices(devices)
        waves = list(waves)
        _check(devices, waves, abort_after, missing)
        if bool(releases) == (command is not None):
            raise HostError("a rollout is of releases or of a command: give one of them", 2)
        until = orders.until(expires, self.clock())
        what: dict[str, Any] = {}
        if command is not None:
            known = {view.id: view for view in self.ledger.views()}
            what = orders.alike(devices, known, *command, until)
        chosen = releases or {}
        if lacking := [device for device in devices if releases and device not in releases]:
            raise HostError(f"no release for {lacking[0]}: each device of a rollout of releases has one", 2)
        named = {device: release.id for device, release in chosen.items()}
        plan = Plan(what, devices, waves, named, abort_after, missing, approve, until, orders.volts(min_battery))
        return self.ledger.start_rollout(plan, list({release.id: release for release in chosen.values()}.values()))

    def rollouts(self, name: str | None = None) -> list[RolloutView]:
        """Rollouts as they stand, the newest first, or the one of that name."""
        return self.ledger.rollout_views(name)

    def change_rollout(self, name: str, order: str) -> None:
        """`approve` the next wave, `resume` after a stop, `abort`, or `retry` where it has failed."""
        self.ledger.change_rollout(name, order)


def _check(devices: Sequence[str], waves: Sequence[int], abort_after: int, missing: float) -> None:
    """HostError for devices, waves and bounds of which no relay could make anything."""
    if not devices:
        raise HostError("a rollout to no devices", 2)
    if len(set(devices)) < len(devices):
        twice = next(device for at, device in enumerate(devices) if device in devices[:at])
        raise HostError(f"device {twice} is given twice: a rollout takes each once", 2)
    numbers = all(isinstance(count, int) and not isinstance(count, bool) for count in waves)
    if not numbers or [*waves] != sorted({0, *waves})[1:] or [*waves[-1:]] != [len(devices)]:
        raise HostError(f"waves {waves}: expected rising numbers of devices, the last {len(devices)}: all of them", 2)
    if abort_after < 1 or not 0 <= missing <= 1:
        raise HostError("abort_after is a number from 1, and missing a part from 0 to 1", 2)
