"""Updates and rollouts in a ledger: each of these methods is one transaction, as those of the Ledger that has them.

A method that returned has committed; one that raised has changed nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Connection, select

from dormouse_host.ledger import rollouts, rows, schema, update_views, updates
from dormouse_host.ledger.contention import retried
from dormouse_host.ledger.entry import all_devices, unknown_device
from dormouse_host.ledger.rollouts import Plan, RolloutView
from dormouse_host.ledger.update_views import UpdateView
from dormouse_host.ledger.updates import Terms
from dormouse_host.release import Release


class Sending:
    """The part of Ledger that sends programs."""

    _clock: Callable[[], float]
    _reading: Callable[[], AbstractContextManager[Connection]]
    _writing: Callable[[], AbstractContextManager[Connection]]

    # ---- updates

    @retried
    def enter_updates(self, devices: Sequence[str], release: Release, terms: Terms) -> list[str]:
        """Enter an update of each device to this release. Returns their names, in the same order."""
        with self._writing() as c:
            missing = set(devices) - rows.lock_all(c, devices).keys()
            if missing:
                raise unknown_device(min(missing), all_devices(c))
            updates.store(c, release, self._clock())
            return updates.enter(c, devices, release.id, terms, self._clock())

    @retried
    def cancel_update(self, name: str) -> UpdateView:
        """Cancel an update; what is final stays as it is."""
        with self._writing() as c:
            updates.cancel(c, name, self._clock())
            return update_views.view(c, name)

    def update_view(self, name: str) -> UpdateView:
        """An update as it stands, with its history."""
        with self._reading() as c:
            return update_views.view(c, name)

    def update_views(self, *, device: str | None = None, final: bool = False) -> list[UpdateView]:
        """Updates, the newest first, without their history: those that are open, or with `final` all."""
        columns = schema.updates.c
        where = [columns.device == device] if device is not None else []
        with self._reading() as c:
            return update_views.views(c, *where, *([] if final else [columns.open]))

    def running_manifest(self, device: str) -> str | None:
        """The manifest of the last release that a device has kept, None where no update of this ledger brought one."""
        with self._reading() as c:
            return update_views.running_manifest(c, device)

    def kind(self, name: str) -> str | None:
        """`update` or `rollout`, where there is one of this name."""
        with self._reading() as c:
            for kind, column in (("update", schema.updates.c.name), ("rollout", schema.rollouts.c.name)):
                if c.execute(select(column).where(column == name)).first():
                    return kind
        return None

    # ---- rollouts

    @retried
    def start_rollout(self, plan: Plan, releases: Sequence[Release]) -> str:
        """Enter a rollout, with the releases that it may take. Returns its name."""
        with self._writing() as c:
            for release in releases:
                updates.store(c, release, self._clock())
            return rollouts.start(c, plan, self._clock())

    @retried
    def change_rollout(self, name: str, order: str) -> None:
        """`approve`, `resume`, `abort` or `retry` a rollout. HostError where it does not stand so."""
        with self._writing() as c:
            rollouts.change(c, name, order, self._clock())

    def rollout_views(self, name: str | None = None) -> list[RolloutView]:
        """Rollouts as they stand, the newest first, or the one of that name."""
        with self._reading() as c:
            return rollouts.views(c, self._clock(), name)

    @retried
    def step_rollouts(self) -> None:
        """Go on with every rollout as far as it may go now."""
        with self._reading() as c:
            if not rollouts.running(c):
                return
        with self._writing() as c:
            rollouts.step(c, self._clock())
