"""Alerts and Home Assistant in a ledger: each of these methods is one transaction, as those of the Ledger that has it.

A method that returned has committed; one that raised has changed nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Connection, delete, insert, select, update

from dormouse_host.ledger import alerts, couriers, desk_schema, home, offers, outbound, rows, watching
from dormouse_host.ledger.alerts import AlertView, Rules, Seen
from dormouse_host.ledger.contention import retried
from dormouse_host.ledger.couriers import Message
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.offers import Program
from dormouse_host.ledger.queries import DeviceView
from dormouse_host.ledger.watching import Late, Places

_NAME = "desk"
held = desk_schema.desk.c


class DeskLedger:
    """The part of Ledger that alerts and Home Assistant stand on."""

    _clock: Callable[[], float]
    _reading: Callable[[], AbstractContextManager[Connection]]
    _writing: Callable[[], AbstractContextManager[Connection]]

    # ---- one relay at a time

    @retried
    def hold_desk(self, instance: str, seconds: float) -> bool:
        """Have the desk for so long from now. False where another relay has it that may be alive."""
        now = self._clock()
        with self._reading() as c:
            if _is_of_another(c, instance, now):
                return False
        with self._writing() as c:
            rows.lock_name(c, "desk")
            if _is_of_another(c, instance, now):
                return False
            there = c.execute(select(held.name).where(held.name == _NAME)).first()
            values = {"instance": instance, "until": now + seconds}
            if there is None:
                c.execute(insert(desk_schema.desk).values(name=_NAME, **values))
            else:
                c.execute(update(desk_schema.desk).where(held.name == _NAME).values(values))
            return True

    @retried
    def leave_desk(self, instance: str) -> None:
        """Another relay may have it at once. Nothing where this one has it not."""
        with self._writing() as c:
            c.execute(delete(desk_schema.desk).where(held.name == _NAME, held.instance == instance))

    # ---- alerts

    def alert_places(self) -> Places:
        """Up to where the ledger was judged."""
        with self._reading() as c:
            return watching.places(c, self._clock())

    def look_at_reports(self, rules: Rules, since: float) -> tuple[list[Seen], float, bool]:
        """A slice of the reports after `since`: what they say, up to when they are, and whether there are more."""
        with self._reading() as c:
            return watching.look_at_reports(c, rules, since)

    def newest_event(self) -> float:
        """The key of the newest event of a command."""
        with self._reading() as c:
            return watching.newest_event(c)

    def look_at_the_rest(
        self, rules: Rules, at: Places, upto: float, *, dropped: bool
    ) -> tuple[list[Seen], dict[str, int]]:
        """What commands, updates and, with `dropped`, lost records say since `at`, and the new counts of the latter."""
        with self._reading() as c:
            seen = watching.look_at_commands(c, rules, at.events, upto)
            seen += watching.look_at_updates(c, rules, at.updates)
            if not dropped:
                return seen, {}
            lost, counts = watching.look_at_dropped(c, rules, self._clock())
            return (seen + lost if at.dropped else seen), counts

    def look_at_late(self, rules: Rules, found: Late, after: str, open_ones: set[str]) -> str | None:
        """A slice of the fleet, judged into `found`. Returns where the next begins, None after the last."""
        with self._reading() as c:
            return watching.look_at_late(c, rules, found, after, open_ones, self._clock())

    def open_alerts(self) -> set[tuple[str, str]]:
        """(kind, device) of those that are open."""
        with self._reading() as c:
            return alerts.open_alerts(c)

    def alerts_want(self, rules: Rules) -> bool:
        """Is an alert open whose time to close has come?"""
        with self._reading() as c:
            return alerts.wanting(c, rules, self._clock())

    @retried
    def judge(
        self, seen: Sequence[Seen], rules: Rules, at: Places | None = None, counts: Mapping[str, int] | None = None
    ) -> int:
        """Open and close alerts by what was seen; `at` and `counts`, where given, are where the next look begins.
        Returns how many opened or closed.
        """
        now = self._clock()
        with self._writing() as c:
            changes = alerts.apply(c, seen, rules, now)
            alerts.forget(c, now - alerts.KEPT)
            if at is not None:
                watching.keep(c, at)
            if counts:
                watching.keep_dropped(c, counts)
            return changes

    def alert_views(self, since: float | None = None, device: str | None = None) -> list[AlertView]:
        """The alerts that are open, and those that closed after `since`; the newest first."""
        with self._reading() as c:
            return alerts.views(c, since, device)

    # ---- their messages

    @retried
    def claim_messages(self, channel: str, most: int) -> list[Message]:
        """The next messages for a channel, claimed; the oldest first."""
        now = self._clock()
        with self._reading() as c:
            if not couriers.waiting(c, channel, now):
                return []
        with self._writing() as c:
            return couriers.claim(c, channel, now, most)

    @retried
    def message_delivered(self, keys: Sequence[int]) -> None:
        """A channel has taken these."""
        with self._writing() as c:
            couriers.delivered(c, keys, self._clock())

    @retried
    def message_failed(self, found: Sequence[Message], why: str) -> int:
        """A try of these has failed. Returns how many are given up by that."""
        with self._writing() as c:
            return couriers.failed(c, found, why, self._clock())

    # ---- Home Assistant

    def home_changes(self, since: float, after: float) -> dict[str, home.Mark]:
        """The devices about which anything was stored since then, by time and by key of the commands' events."""
        with self._reading() as c:
            return home.changes(c, since, after)

    def home_standings(self, wanted: Sequence[str]) -> list[home.Standing]:
        """How these devices stand, of those that are there."""
        with self._reading() as c:
            return home.standings(c, wanted)

    def all_due(self) -> list[DeviceView]:
        """When each device was heard and is due, and nothing else of it."""
        with self._reading() as c:
            return home.all_due(c)

    def home_known(self) -> dict[str, dict[str, str]]:
        """The devices that Home Assistant was told of, with their components: name -> platform."""
        with self._reading() as c:
            return home.known(c)

    @retried
    def home_told(self, news: Mapping[str, Mapping[str, str] | None]) -> None:
        """Home Assistant is told of these components of each device; None: of none any more."""
        with self._writing() as c:
            home.told(c, news)

    def home_programs(self, only: Collection[str] | None = None) -> dict[str, Program]:
        """The programs of the devices for which there was an update; of `only` these."""
        with self._reading() as c:
            return offers.read(c, only)

    def home_updating(self, after: int) -> tuple[set[str], int]:
        """Devices with an update under way or one that has changed since the event `after`, and the newest event."""
        with self._reading() as c:
            return offers.changed(c, after)

    @retried
    def home_install(self, device: str, again: str) -> str:
        """Order an update that failed once more. Returns the new one's name; HostError where it can't be."""
        with self._writing() as c:
            return offers.order(c, device, again, self._clock())

    @retried
    def home_order(self, digest: str, order: Order) -> str | None:
        """Enter a command from Home Assistant. Returns its name; None where the same message has come before."""
        with self._writing() as c:
            return home.enter(c, digest, order, self._clock())


def _is_of_another(connection: Connection, instance: str, now: float) -> bool:
    there = connection.execute(select(held.instance, held.until).where(held.name == _NAME)).first()
    if there is None or there.instance == instance or there.until <= now:
        return False
    return not outbound.is_dead(there.instance)
