"""What a Fleet knows of devices over time, for whoever draws it: the page, the report, and programs.

A part of fleet.py's Fleet, which alone is used; the errors are its own.
"""

from collections.abc import Callable, Generator, Iterable, Sequence

from dormouse_host import orders
from dormouse_host.ledger import lives, overview, watch
from dormouse_host.ledger.database import moved_to
from dormouse_host.ledger.entry import unknown_group
from dormouse_host.ledger.lives import Life
from dormouse_host.ledger.overview import Glance
from dormouse_host.ledger.queries import CommandView, DeviceView
from dormouse_host.ledger.store import Ledger
from dormouse_host.ledger.watch import Watch


class Sights:
    """The part of Fleet that looks back."""

    clock: Callable[[], float]
    ledger: Ledger

    def life(self, device: str, since: float, until: float) -> Life:
        """What happened with a device from `since` to before `until` (Unix seconds); HostError for an unknown one."""
        self.ledger.devices(device)
        with self.ledger.database.reading() as connection:
            return lives.life(connection, device, since, until)

    def newest(self) -> float:
        """The last moment (Unix seconds) that the ledger knows of: of its newest entry, or of its relay's last sign of
        life; 0 for an empty one.
        """
        with self.ledger.database.reading() as connection:
            return lives.newest(connection)

    def oldest(self, device: str | None = None) -> float | None:
        """When the ledger's first wake report or command came, of a device or of all; None where there is none."""
        with self.ledger.database.reading() as connection:
            return lives.oldest(connection, device)

    def batteries(self, devices: Sequence[str], points: int = 40) -> dict[str, list[float]]:
        """The battery's volts in the newest `points` wakes of each of these devices, the oldest first; those that have
        told none are left out.
        """
        with self.ledger.database.reading() as connection:
            return lives.batteries(connection, devices, points)

    def each_status(self, group: str | None = None) -> Generator[DeviceView]:
        """Fleet.status of all devices, or of a group, one after the other: in memory are never more than some."""
        if group is not None and not self.ledger.members(group):
            raise unknown_group(group)
        return self.ledger.each_view(group)

    def glances(self, before: Iterable[Glance] = ()) -> list[Glance]:
        """All devices as a table shows them; `before`: what was read last, which makes the next reading cheap."""
        with self.ledger.database.reading() as connection:
            return overview.read(connection, before)

    def latest(self, device: str, limit: int = 50) -> list[CommandView]:
        """The newest commands of a device with their history, the newest first; not what the ledger asks."""
        with self.ledger.database.reading() as connection:
            return lives.latest_commands(connection, device, orders.limit(limit))

    def mark(self, device: str | None = None) -> tuple[int, ...]:
        """Changes whenever there is news of a device, or of any: cheap enough to be read once a second."""
        with self.ledger.database.reading() as connection:
            return lives.mark(connection, device)

    def moved(self) -> str | None:
        """The file that this ledger was exported to: it takes nothing since; None while it is in use."""
        with self.ledger.database.reading() as connection:
            return moved_to(connection)

    def watch(self) -> Watch:
        """A watch of the ledger: it says whether anything may have changed. Close it in the end."""
        return watch.watch(self.ledger.database)
