"""What a Fleet does beside devices and commands: relays, and the ledger as a whole.

A part of fleet.py's Fleet, which alone is used; the errors are its own.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dormouse import protocol
from dormouse_host import near, orders
from dormouse_host.address import BrokerAddress
from dormouse_host.errors import HostError
from dormouse_host.ledger.alerts import AlertView
from dormouse_host.ledger.outbound import RelayView
from dormouse_host.ledger.store import Ledger
from dormouse_host.ledger.transfer import COUNTED

if TYPE_CHECKING:
    from dormouse_host.relay.beside import Beside
    from dormouse_host.relay.relay import Relay


class Upkeep:
    """The half of Fleet that looks after the ledger and its relays."""

    root: str
    clock: Callable[[], float]
    ledger: Ledger

    # ---- relays

    def relay(
        self,
        broker: BrokerAddress,
        name: str,
        *,
        accept_new: bool | None = None,
        waiting: int = protocol.WINDOW,
        beside: "Beside | None" = None,
    ) -> "Relay":
        """A relay between this ledger and a broker; its `run` lasts until its `stop`, from whatever thread.

        `accept_new`: ids that are not registered become devices; by default at a broker without credentials only.
        `waiting`: how many commands may wait at the broker for one device. `beside`: what runs with it, as the
        alerts of `dormouse_host.desk`.
        """
        from dormouse_host.relay.relay import Relay

        name = orders.name(name, "relay")
        return Relay(self.ledger, broker, self.root, name, accept_new=accept_new, waiting=waiting, beside=beside)

    def relays(self) -> list[RelayView]:
        """The relays that have not ended in order."""
        return self.ledger.relays()

    def forget_relay(self, name: str, broker: BrokerAddress) -> None:
        """End the session that a relay has at the broker, with what is queued in it. HostError while it is alive, and
        where neither the ledger nor the broker knows it.
        """
        from dormouse_host.broker.client import Publisher
        from dormouse_host.relay.relay import client_id

        known = {relay.name: relay.alive for relay in self.relays()}
        if known.get(orders.name(name, "relay")):
            raise HostError(f"relay {name} is alive: stop it first", 2)
        present = name in known
        if not present:  # one that has ended in order is known to the broker alone
            with Publisher(broker, client_id(name), clean=False) as publisher:
                present = publisher.present
        with Publisher(broker, client_id(name)):  # a clean session under its id ends the one that was kept
            self.ledger.forget_relay(name)
        if not present:
            raise HostError(f"no relay {name} here, and none at the broker{near.question(name, known)}", 2)

    # ---- alerts

    def alerts(self, since: float | None = None, device: str | None = None) -> list[AlertView]:
        """The alerts that are open, and those that closed after `since` (Unix seconds), the newest first; of one device
        or all. Relays judge them where dormouse.toml has `[alerts]`.
        """
        return self.ledger.alert_views(since, device)

    # ---- the ledger

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

    def backup(self, target: str | Path) -> None:
        """A consistent copy of a SQLite ledger in a new file."""
        self.ledger.back_up(Path(target))

    def restored(self) -> tuple[int, int]:
        """Say that this ledger is a copy: it takes a new name with each device. Returns with how many, and how many
        commands are unknown now.
        """
        return self.ledger.restored()

    def export_ledger(self, target: str | Path) -> dict[str, int]:
        """Write the whole ledger to a new file, to be imported elsewhere; this one takes nothing more. Returns how much
        of what. HostError while a relay is alive.
        """
        return _counted(self.ledger.write_out(Path(target)))

    def import_ledger(self, source: str | Path) -> dict[str, int]:
        """Read the file of an export into this ledger, which is new. Returns how much of what. The relays go on under
        their names: nothing is unknown by that.
        """
        return _counted(self.ledger.read_in(Path(source)))

    def reopen(self) -> bool:
        """Have the ledger take commands again after an export that nobody has imported. Was it exported?"""
        return self.ledger.reopen()


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in COUNTED}
