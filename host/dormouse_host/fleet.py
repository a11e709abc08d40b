"""The library: everything that the command line does, as calls.

    from dormouse_host import Fleet

    with Fleet("ledger.db") as fleet:
        sent = fleet.send("greenhouse", "water", {"s": 30}, expires=7200)
        print(fleet.wait(sent.name, 3600).status)

What `send` returned from is committed. Whatever is wrong with an order is found before anything is stored. Every error
is a HostError of one line.
"""

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from dormouse import protocol
from dormouse_host import orders
from dormouse_host.address import BrokerAddress
from dormouse_host.errors import HostError
from dormouse_host.ledger import entry
from dormouse_host.ledger.alerts import AlertView
from dormouse_host.ledger.database import NoLedger, default_url
from dormouse_host.ledger.events import (
    KINDS,
    START,
    CommandEvent,
    Event,
    ResultEvent,
    TelemetryEvent,
    UpdateEvent,
    WakeEvent,
    Wanted,
)
from dormouse_host.ledger.exports import COLUMNS, MORE, TIMES, VALUES
from dormouse_host.ledger.following import Following
from dormouse_host.ledger.history import LogLine
from dormouse_host.ledger.lateness import GRACE
from dormouse_host.ledger.lives import Life
from dormouse_host.ledger.outbound import RelayView
from dormouse_host.ledger.queries import CommandView, DeviceView, Setting
from dormouse_host.ledger.rollouts import RolloutView
from dormouse_host.ledger.rows import chunks
from dormouse_host.ledger.store import Ledger
from dormouse_host.ledger.strangers import Strangers
from dormouse_host.ledger.transfer import check as check_export
from dormouse_host.ledger.update_views import UpdateView
from dormouse_host.releases import LOOK, Releases
from dormouse_host.sights import Sights
from dormouse_host.upkeep import Upkeep

__all__ = [
    "COLUMNS",
    "GRACE",
    "KINDS",
    "MORE",
    "START",
    "TIMES",
    "VALUES",
    "AlertView",
    "CommandEvent",
    "CommandView",
    "DeviceView",
    "Event",
    "Fleet",
    "Following",
    "Life",
    "LogLine",
    "NoLedger",
    "RelayView",
    "ResultEvent",
    "RolloutView",
    "Sent",
    "Setting",
    "Strangers",
    "TelemetryEvent",
    "UpdateEvent",
    "UpdateView",
    "WakeEvent",
    "check_export",
    "default_url",
    "log_relays",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Sent:
    """A command that is in the ledger. `warning` is one line, or None; `batch` names those that were sent together."""

    name: str
    device: str
    warning: str | None
    batch: str | None = None


def _of_group(name: str, found: list[T]) -> list[T]:
    if not found:  # a group has devices, or there is none
        raise entry.unknown_group(name)
    return found


def log_relays(*, as_json: bool) -> None:
    """The relays of this process write their log to stderr from now on: logging's `dormouse.relay`."""
    from dormouse_host.relay import log

    log.set_up(as_json=as_json)


class Fleet(Releases, Upkeep, Sights):
    """A ledger and the devices in it. A context manager; its methods may be called from any thread."""

    def __init__(
        self,
        db: str | Path | None = None,
        root: str = protocol.ROOT,
        clock: Callable[[], float] = time.time,
        *,
        make: bool = True,
    ) -> None:
        """`db`: a file's path or a database URL; without, this user's ledger. Where there is none it is made, or with
        `make=False` a NoLedger.
        """
        self.root = root
        self.clock = clock
        self.ledger = Ledger(str(db) if isinstance(db, Path) else db, clock, make=make)

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
        (sent,) = self._send([device], do, args, expires, after, create, None, lambda checked: None)
        return sent

    def send_many(
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
        """Enter the same command for several devices: for all or, on an error, for none. They are a batch, whose name
        each of them has. `on_progress` is told how many were checked; they are entered together when all were.
        """
        return self._send(devices, do, args, expires, after, create, entry.command_name(), on_progress)

    def _send(
        self,
        devices: Iterable[str],
        do: str,
        args: Mapping[str, Any] | Sequence[str],
        expires: float | None,
        after: str | None,
        create: bool,
        batch: str | None,
        on_progress: Callable[[int], object],
    ) -> list[Sent]:
        devices = orders.devices(devices)
        if len(devices) == 1 and not create:
            views = self.ledger.devices(devices[0])  # an unknown one is told with those of a like name
        else:
            views = self.ledger.views(sorted(set(devices)))
        known = {view.id: view for view in views}
        if create:
            known = {device: DeviceView(device) for device in devices} | known
        until = orders.until(expires, self.clock())
        checked, warnings = orders.make(devices, known, do, args, until, after, on_progress)
        names = self.ledger.enter(checked, create=create, batch=batch)
        return [Sent(*one, batch) for one in zip(names, devices, warnings, strict=True)]

    def result(self, name: str) -> CommandView:
        """A command as it stands, with its history."""
        return self.ledger.command(name)

    def batch(self, name: str) -> list[CommandView]:
        """The commands that `send_many` entered together, without history; none where there is no such batch."""
        return self.ledger.batch(name)

    def cancel(self, name: str) -> CommandView:
        """Cancel a command. What has left for the broker is cancelled by the device, if it has not started it."""
        return self.ledger.cancel(name)

    def cancel_batch(self, name: str, on_progress: Callable[[int], object] = lambda done: None) -> list[CommandView]:
        """Cancel what waits of a batch, some at a time; `on_progress` is told how many of its commands are through."""
        waiting = [view.name for view in self.batch(name) if not view.final]
        done = 0
        for some in chunks(waiting):
            self.ledger.cancel_all(some)
            on_progress(done := done + len(some))
        return self.batch(name)

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
        names: Iterable[str],
        seconds: float | None = None,
        on_look: Callable[[list[CommandView]], object] = lambda views: None,
    ) -> list[CommandView]:
        """Wait until all of these commands are final, or so long; `on_look` is told how they stand, again and again.
        The views come without their history.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        names = orders.several(names)
        while True:
            views = self.results(names)
            on_look(views)
            if all(view.final for view in views) or (deadline is not None and time.monotonic() >= deadline):
                return views
            time.sleep(LOOK * (1 + len(views) / 100))

    def results(self, names: Iterable[str]) -> list[CommandView]:
        """Commands as they stand, in this order and without their history."""
        names = orders.several(names)
        found = self.ledger.commands(names)
        for name in names:
            if name not in found:
                raise HostError(f"no command {name}", 2)
        return [found[name] for name in names]

    def recent(self, limit: int = 50) -> list[str]:
        """The names of the newest commands, the newest first."""
        return self.ledger.recent(orders.limit(limit))

    def resend(self, device: str, first: int, last: int) -> Sent:
        """Ask a device for telemetry records again."""
        if not 1 <= first <= last < protocol.NUMBER_LIMIT:
            raise HostError("records are counted from 1: write FROM..TO", 2)
        return self.send(device, "resend", {"from": first, "to": last})

    # ---- events

    def on(
        self,
        *kinds: str,
        device: str | None = None,
        group: str | None = None,
        after: str | None = None,
        timeout: float | None = None,
        name: str | None = None,
    ) -> Following:
        """What happens from now on, one event after the other, each once: of these KINDS or of all, of a device or a
        group. `after`: from an event's cursor on, or START; `timeout`: it ends after so many seconds without an event;
        `name`: from the cursor on that Following.keep has stored under it, where it has.
        """
        if wrong := sorted(set(kinds) - set(KINDS)):
            raise HostError(f"no events called {wrong[0]}: there are {', '.join(KINDS)}", 2)
        if device is not None:
            self.ledger.devices(device)
        if group is not None:
            self.members(group)
        wanted = Wanted(frozenset(kinds), device, group)
        return Following(self.ledger.database, wanted, after, timeout, name, self.clock)

    # ---- devices

    def add(self, *devices: str) -> int:
        """Register devices. Returns how many were new."""
        return self.ledger.add_devices([orders.name(device) for device in devices])

    def remove(self, device: str, broker: BrokerAddress | None) -> None:
        """Forget a device; with a broker, end its session there and clear its retained report first."""
        self.ledger.devices(orders.name(device))
        if broker is not None:
            from dormouse_host.broker.client import Publisher

            try:
                with Publisher(broker, device) as publisher:  # a clean session under its id ends the one that was kept
                    publisher.publish(protocol.topic(self.root, device, protocol.WAKE), [b""], retain=True)
            except HostError:
                with Publisher(broker, device):  # still there: it takes no retained message, and so has none
                    pass
        self.ledger.remove_device(device)

    def group(self, name: str, devices: Iterable[str], *, keep: bool = False) -> None:
        """The devices of a group from now on, `keep`: beside those that it has; none dissolves it, if there is one."""
        self.ledger.set_group(orders.name(name, "group"), orders.devices(devices), keep=keep)

    def members(self, group: str | None = None) -> list[str]:
        """The devices of a group, or all."""
        found = self.ledger.members(group)
        return found if group is None else _of_group(group, found)

    def groups(self) -> dict[str, int]:
        """The groups, and how many devices each has."""
        return self.ledger.groups()

    def status(self, device: str | None = None, group: str | None = None) -> list[DeviceView]:
        """How devices are, as far as they have said: one, those of a group, or all."""
        if device is not None:
            return self.ledger.devices(device)
        found = self.ledger.views(group=group)
        return found if group is None else _of_group(group, found)

    def overdue(self, group: str | None = None, grace: int = GRACE) -> list[DeviceView]:
        """The devices that have missed more than `grace` wakes, of a group or of all, the longest missing first. The
        device's own backoff is counted in; those that were revoked are not among them.
        """
        if group is not None:
            self.members(group)
        now = self.clock()
        late = [view for view in self.ledger.views(group=group, late=now) if view.missed(now) > grace]
        return sorted(late, key=lambda view: (-view.missed(now), view.seen or 0, view.id))

    def uncounted(self, group: str | None = None) -> tuple[list[str], list[str]]:
        """The devices that are never overdue: those that were revoked, and those that have never connected."""
        return self.ledger.uncounted(group)

    def set_revoked(self, *devices: str, revoked: bool = True) -> None:
        """Note that the credentials of devices were revoked, or that they have new ones; other ids are passed over."""
        self.ledger.set_revoked([orders.name(device) for device in devices], revoked=revoked)

    def understood(self, device: str) -> dict[str, dict[str, Any]]:
        """The commands that a device is known to understand and that `send` takes, each with its arguments: a name and
        a type, or a list of type and default. Those of its app come first.
        """
        return orders.known(self.ledger.devices(device)[0])

    def settings(self, device: str) -> tuple[float | None, list[Setting]]:
        """A device's settings with their origin, and when it told all of them in answer to `config`; None: never."""
        self.ledger.devices(device)
        return self.ledger.settings(device)

    def log(
        self,
        device: str,
        limit: int = 100,
        *,
        since: float | None = None,
        until: float | None = None,
        automatic: bool = False,
    ) -> list[LogLine]:
        """What happened with a device, the oldest first: the newest `limit` lines from `since` to before `until` (Unix
        seconds). `automatic`: also `describe`, `report` and `log`, which the ledger asks by itself.
        """
        self.ledger.devices(device)
        return self.ledger.timeline(device, orders.limit(limit), since=since, until=until, automatic=automatic)

    def twins(self, device: str | None = None) -> dict[str, list[str]]:
        """Devices whose id two boards use, each with the states that took turns; one device or all."""
        return self.ledger.twins(device)

    def strangers(self) -> Strangers:
        """Ids that have sent something and are no devices of this ledger."""
        return self.ledger.strangers()

    def export(
        self, what: str, since: float = 0, *, device: str | None = None, group: str | None = None
    ) -> Generator[dict[str, Any]]:
        """`telemetry`, `results`, `wakes` or `commands` that came at or after `since` (Unix seconds), in that order; of
        all devices, of one, also one that was removed, or of a group.
        """
        if what not in COLUMNS:
            raise HostError(f"export {', '.join(COLUMNS)}, not {what}", 2)
        if group is not None:
            self.members(group)
        return self.ledger.export(what, since, device=device, group=group)
