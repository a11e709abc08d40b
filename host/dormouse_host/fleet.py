"""The library: everything that the command line does, as calls.

    from dormouse_host import Fleet

    with Fleet("ledger.db") as fleet:
        sent = fleet.send("greenhouse", "water", {"s": 30}, expires=7200)
        print(fleet.wait(sent.name, 3600).status)

What `send` returned from is committed. Whatever is wrong with an order is found before anything is stored. Every error
is a HostError of one line.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from dormouse import protocol
from dormouse_host import orders
from dormouse_host.address import BrokerAddress
from dormouse_host.errors import HostError
from dormouse_host.ledger.database import missing
from dormouse_host.ledger.outbound import RelayView
from dormouse_host.ledger.queries import COLUMNS, MORE, CommandView, DeviceView, LogLine, Setting
from dormouse_host.ledger.rollouts import Plan, RolloutView
from dormouse_host.ledger.store import Ledger
from dormouse_host.ledger.strangers import Strangers
from dormouse_host.ledger.updates import Terms, UpdateView
from dormouse_host.release import Release

if TYPE_CHECKING:
    from dormouse_host.relay.relay import Relay

__all__ = [
    "COLUMNS",
    "MORE",
    "CommandView",
    "DeviceView",
    "Fleet",
    "LogLine",
    "RelayView",
    "RolloutView",
    "Sent",
    "Setting",
    "Strangers",
    "UpdateView",
    "log_relays",
    "missing",
]

T = TypeVar("T")
LOOK = 0.1  # seconds between two looks of `wait`


@dataclass(frozen=True)
class Sent:
    """A command that is in the ledger. `warning` is one line, or None."""

    name: str
    device: str
    warning: str | None


def _of_group(name: str, found: list[T]) -> list[T]:
    """A group has devices, or there is none."""
    if not found:
        raise HostError(f"no group {name}: dormouse devices group {name} DEVICE...", 2)
    return found


def log_relays(*, as_json: bool) -> None:
    """The relays of this process write their log to stderr from now on: logging's `dormouse.relay`."""
    from dormouse_host.relay import log

    log.set_up(as_json=as_json)


class Fleet:
    """A ledger and the devices in it. A context manager; its methods may be called from any thread."""

    def __init__(
        self,
        db: str | None = None,
        root: str = protocol.ROOT,
        clock: Callable[[], float] = time.time,
        *,
        make: bool = True,
    ) -> None:
        """`db`: a file's path or a database URL; without, this user's ledger. Where there is none it is made, or with
        `make=False` a HostError.
        """
        path = None if make else missing(db)
        if path:
            raise HostError(f"no ledger at {path}: dormouse devices add DEVICE makes one")
        self.root = root
        self.clock = clock
        self.ledger = Ledger(db, clock)

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- commands

    def send(
        self,
        device: str,
        do: str,
        args: Mapping[str, Any] | Sequence[str] = (),
        *,
        expires: float | None = None,
        after: str | None = None,
        create: bool = False,
    ) -> Sent:
        """Enter one command. `args`: values by name, or `key=value` words; `expires`: seconds from now; `after`: the
        name of a command that must be final first; `create`: register the device if it is new.
        """
        return self.send_many([device], do, args, expires=expires, after=after, create=create)[0]

    def send_many(
        self,
        devices: Sequence[str],
        do: str,
        args: Mapping[str, Any] | Sequence[str] = (),
        *,
        expires: float | None = None,
        after: str | None = None,
        create: bool = False,
        on_progress: Callable[[int], object] = lambda checked: None,
    ) -> list[Sent]:
        """Enter the same command for several devices: for all or, on an error, for none. `on_progress` is told how
        many were checked; they are entered together when all were.
        """
        devices = [orders.name(device) for device in devices]
        known = {view.id: view for view in self.ledger.views(devices[0] if len(devices) == 1 else None)}
        if create:
            known = {device: DeviceView(device) for device in devices} | known
        until = orders.until(expires, self.clock())
        checked, warnings = orders.make(devices, known, do, args, until, after, on_progress)
        names = self.ledger.enter(checked, create=create)
        return [Sent(*one) for one in zip(names, devices, warnings, strict=True)]

    def result(self, name: str) -> CommandView:
        """A command as it stands, with its history."""
        return self.ledger.command(name)

    def cancel(self, name: str) -> CommandView:
        """Cancel a command. What has left for the broker is cancelled by the device, if it has not started it."""
        return self.ledger.cancel(name)

    def wait(
        self, name: str, seconds: float | None = None, on_change: Callable[[CommandView], object] = lambda view: None
    ) -> CommandView:
        """Wait until a command is final, or so long; `on_change` is told of each status on the way."""
        deadline = None if seconds is None else time.monotonic() + seconds
        last = None
        while True:
            view = self.ledger.command(name)
            if view.status != last:
                last = view.status
                on_change(view)
            if view.final or (deadline is not None and time.monotonic() >= deadline):
                return view
            time.sleep(LOOK)

    def wait_all(
        self,
        names: Sequence[str],
        seconds: float | None = None,
        on_look: Callable[[list[CommandView]], object] = lambda views: None,
    ) -> list[CommandView]:
        """Wait until all of these commands are final, or so long; `on_look` is told how they stand, again and again.
        The views come without their history.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            views = self.results(names)
            on_look(views)
            if all(view.final for view in views) or (deadline is not None and time.monotonic() >= deadline):
                return views
            time.sleep(LOOK * (1 + len(views) / 100))

    def results(self, names: Sequence[str]) -> list[CommandView]:
        """Commands as they stand, in this order and without their history."""
        found = self.ledger.commands(names)
        for name in names:
            if name not in found:
                raise HostError(f"no command {name}", 2)
        return [found[name] for name in names]

    def resend(self, device: str, first: int, last: int) -> Sent:
        """Ask a device for telemetry records again."""
        if not 1 <= first <= last < protocol.NUMBER_LIMIT:
            raise HostError("records are counted from 1: write FROM..TO", 2)
        return self.send(device, "resend", {"from": first, "to": last})

    # ---- updates

    def update(
        self,
        devices: Sequence[str],
        release: Release,
        *,
        expires: float | None = None,
        min_battery: float | None = None,
    ) -> list[str]:
        """Update devices to a release (flash.releases.build makes one); `expires`: seconds from now; `min_battery`:
        volts below which nothing is sent. Returns the updates' names, in the same order.
        """
        terms = Terms(orders.until(expires, self.clock()), min_battery)
        return self.ledger.enter_updates([orders.name(device) for device in devices], release, terms)

    def update_result(self, name: str) -> UpdateView:
        """An update as it stands, with its history."""
        return self.ledger.update_view(name)

    def updates(self, device: str | None = None, *, final: bool = False) -> list[UpdateView]:
        """Updates that are open, with `final` all, the newest first; without their history."""
        return self.ledger.update_views(device=device, final=final)

    def cancel_update(self, name: str) -> UpdateView:
        """Cancel an update. HostError where the device has it on trial already."""
        return self.ledger.cancel_update(name)

    def wait_updates(
        self,
        names: Sequence[str],
        seconds: float | None = None,
        on_look: Callable[[list[UpdateView]], object] = lambda views: None,
    ) -> list[UpdateView]:
        """Wait until all of these updates are final, or so long; `on_look` is told how they stand, again and again."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            views = [self.ledger.update_view(name) for name in names]
            on_look(views)
            if all(view.final for view in views) or (deadline is not None and time.monotonic() >= deadline):
                return views
            time.sleep(LOOK * (1 + len(views) / 10))

    # ---- rollouts

    def rollout(
        self,
        devices: Sequence[str],
        waves: Sequence[int],
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
        `waves` says how many devices have begun once each wave has. After `abort_after` failures it stops, and where
        more than the part `missing` of a wave is overdue; with `approve` each wave but the first waits for
        `change_rollout`. Returns its name.
        """
        devices = [orders.name(device) for device in devices]
        until = orders.until(expires, self.clock())
        what: dict[str, Any] = {}
        if command is not None:
            known = {view.id: view for view in self.ledger.views()}
            checked, _ = orders.make(devices, known, command[0], command[1], until, None, lambda done: None)
            if len({order.args for order in checked}) > 1:
                raise HostError(f"{command[0]}: the devices declare its arguments differently", 2)
            what = {"do": command[0], "args": checked[0].args}
        chosen = releases or {}
        named = {device: release.id for device, release in chosen.items()}
        plan = Plan(what, devices, waves, named, abort_after, missing, approve, until, min_battery)
        return self.ledger.start_rollout(plan, list({release.id: release for release in chosen.values()}.values()))

    def rollouts(self, name: str | None = None) -> list[RolloutView]:
        """Rollouts as they stand, the newest first, or the one of that name."""
        return self.ledger.rollout_views(name)

    def change_rollout(self, name: str, order: str) -> None:
        """`approve` the next wave, `resume` after a stop, `abort`, or `retry` where it has failed."""
        self.ledger.change_rollout(name, order)

    # ---- devices

    def add(self, *devices: str) -> int:
        """Register devices. Returns how many were new."""
        return self.ledger.add_devices([orders.name(device) for device in devices])

    def remove(self, device: str, broker: BrokerAddress | None) -> None:
        """Forget a device; with a broker, end its session there and clear its retained report first."""
        self.ledger.devices(orders.name(device))
        if broker is not None:
            from dormouse_host.broker.client import Publisher

            with Publisher(broker, device) as publisher:  # a clean session under its id ends the one that was kept
                publisher.publish(protocol.topic(self.root, device, protocol.WAKE), [b""], retain=True)
        self.ledger.remove_device(device)

    def group(self, name: str, devices: Sequence[str]) -> None:
        """The devices of a group from now on; none of them dissolves it."""
        self.ledger.set_group(orders.name(name, "group"), devices)

    def members(self, group: str | None = None) -> list[str]:
        """The devices of a group, or all."""
        found = self.ledger.members(group)
        return found if group is None else _of_group(group, found)

    def status(self, device: str | None = None, group: str | None = None) -> list[DeviceView]:
        """How devices are, as far as they have said: one, those of a group, or all."""
        found = self.ledger.devices(device)
        return found if group is None else _of_group(group, [view for view in found if group in view.groups])

    def understood(self, device: str) -> dict[str, dict[str, Any]]:
        """The commands that a device is known to understand and that `send` takes, each with its arguments: a name and
        a type, or a list of type and default. Those of its app come first.
        """
        return orders.known(self.ledger.devices(device)[0])

    def settings(self, device: str) -> tuple[float | None, list[Setting]]:
        """A device's settings with their origin, and when it told all of them in answer to `config`; None: never."""
        self.ledger.devices(device)
        return self.ledger.settings(device)

    def log(self, device: str, limit: int = 100) -> list[LogLine]:
        """What happened with a device, the oldest first."""
        self.ledger.devices(device)
        return self.ledger.timeline(device, limit)

    def strangers(self) -> Strangers:
        """Ids that have sent something and are no devices of this ledger."""
        return self.ledger.strangers()

    # ---- relays

    def relay(self, broker: BrokerAddress, name: str, *, accept_new: bool | None = None) -> "Relay":
        """A relay between this ledger and a broker; its `run` lasts until its `stop`, from whatever thread.

        `accept_new`: ids that are not registered become devices; by default at a broker without credentials only.
        """
        from dormouse_host.relay.relay import Relay

        return Relay(self.ledger, broker, self.root, orders.name(name, "relay"), accept_new=accept_new)

    def relays(self) -> list[RelayView]:
        """The relays that have not ended in order."""
        return self.ledger.relays()

    def forget_relay(self, name: str, broker: BrokerAddress) -> None:
        """End the session that a relay has at the broker, with what is queued in it. HostError while it is alive."""
        from dormouse_host.broker.client import Publisher
        from dormouse_host.relay.relay import client_id

        if any(relay.alive for relay in self.relays() if relay.name == orders.name(name, "relay")):
            raise HostError(f"relay {name} is alive: stop it first", 2)
        with Publisher(broker, client_id(name)):  # a clean session under its id ends the one that was kept
            self.ledger.forget_relay(name)

    # ---- all of it

    def export(self, what: str, since: float = 0) -> Generator[dict[str, Any]]:
        """`telemetry`, `results` or `wakes` that came at or after `since` (Unix seconds), in that order."""
        if what not in COLUMNS:
            raise HostError(f"export {', '.join(COLUMNS)}, not {what}", 2)
        return self.ledger.export(what, since)

    def prune(
        self,
        before: float,
        *,
        dry: bool = False,
        on_progress: Callable[[int, int], object] = lambda done, steps: None,
    ) -> dict[str, int]:
        """Delete settled commands, results, telemetry and wakes from before a time (Unix seconds), but for what a rule
        may still ask for. Returns how much of what; `dry`: only counts it. `on_progress`: steps done, of how many.
        """
        if before > self.clock():
            raise HostError("that is in the future: say before when, as 30d or 2026-01-31", 2)
        return dict(self.ledger.prune(before, dry=dry, on_progress=on_progress))

    def backup(self, target: Path) -> None:
        """A consistent copy of a SQLite ledger in a new file."""
        self.ledger.back_up(target)

    def restored(self) -> tuple[int, int]:
        """Say that this ledger is a copy: it takes a new name with each device. Returns with how many, and how many
        commands are unknown now.
        """
        return self.ledger.restored()
