"""Alerts: what was seen of the devices becomes episodes, and each episode two messages.

Must stay true: of one kind and device one episode is open at a time; an episode has one opening and one closing message
for each channel, entered in the transaction that opens or closes it, so that neither a restart nor a second relay makes
another; what is seen twice changes nothing; an alert whose cause is gone closes once `calm` seconds have passed since
it was last seen; while half of a fleet is overdue that is one alert, of the device "*".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from dormouse_host.ledger import desk_schema, rows
from dormouse_host.ledger.rows import devices

OVERDUE, BATTERY, WATCHDOG, PROGRAM = "overdue", "battery", "watchdog", "program"
COMMAND, DROPPED, SIGNATURE, UPDATE = "command", "dropped", "signature", "update"
_STATES = (BATTERY, PROGRAM)  # how a device is; the others are what has happened to it
KINDS = (OVERDUE, BATTERY, WATCHDOG, PROGRAM, COMMAND, DROPPED, SIGNATURE, UPDATE)
FLEET = "*"  # the device of an alert about the fleet; no id of a device
OPENED, CLOSED = "opened", "closed"
KEPT = 90 * 86400.0  # seconds that closed alerts are kept
_STALE = 7 * 86400.0  # seconds after which nobody can be about to send a message
_TEXT = 300  # characters
_SLICE = 500
alerts, messages = desk_schema.alerts.c, desk_schema.alert_messages.c


@dataclass(frozen=True)
class Limits:
    """The rules for a device. `kinds` are judged; `overdue`: wakes that it may miss; `minutes`: by how many it must be
    late besides; `battery`: volts below which it is low.
    """

    kinds: frozenset[str] = frozenset(KINDS)
    overdue: int = 2
    minutes: float = 10.0
    battery: float = 3.3


@dataclass(frozen=True)
class Rules:
    """The rules of a fleet. `groups`: those of the devices in a group, in the place of `limits`; `calm`: seconds
    without the cause until an alert closes; `fleet`: the part of it that is one alert when it is overdue at once;
    `channels`: each gets every message; `due`: when a channel takes a message of now (quiet hours).
    """

    limits: Limits = Limits()
    groups: Mapping[str, Limits] = field(default_factory=dict)
    calm: float = 3600.0
    fleet: float = 0.5
    channels: tuple[str, ...] = ()
    due: Callable[[str, float], float] = lambda channel, now: now


@dataclass(frozen=True)
class Seen:
    """Something that was seen of a device at `at` (Unix seconds). `bad`: it is a cause of this kind's alert, else the
    cause is gone; `lasting`: the cause stays until it is seen to be gone.
    """

    device: str
    kind: str
    at: float
    bad: bool
    text: str = ""
    lasting: bool = True


@dataclass(frozen=True)
class AlertView:
    """An alert. Times are Unix seconds; `device` is "*" for the fleet; `text` is of what was seen at `last`, where that
    came after it `opened`; `closed` is None while it is open; `waiting`: messages that are not delivered yet; `failed`:
    those that were given up, with why the last try failed.
    """

    key: int
    device: str
    kind: str
    opened: float
    text: str
    closed: float | None
    ending: str | None
    last: float
    waiting: int = 0
    failed: tuple[str, ...] = ()


@dataclass
class _Episode:
    device: str
    kind: str
    opened: float
    last: float
    lasting: bool
    text: str
    key: int = 0  # 0: not in the ledger yet
    changed: bool = False


def open_alerts(connection: Connection) -> set[tuple[str, str]]:
    """(kind, device) of those that are open."""
    found = connection.execute(select(alerts.kind, alerts.device).where(alerts.closed.is_(None)))
    return {(kind, device) for kind, device in found}


def last_outage(connection: Connection) -> float | None:
    """When the fleet's last alert closed; None where there was none."""
    of_fleet = (alerts.device == FLEET, alerts.kind == OVERDUE, alerts.closed.is_not(None))
    return connection.execute(select(alerts.closed).where(*of_fleet).order_by(alerts.key.desc()).limit(1)).scalar()


def wanting(connection: Connection, rules: Rules, now: float) -> bool:
    """Is an alert open whose time to close has come?"""
    ended = (alerts.closed.is_(None), alerts.lasting.is_(False), alerts.last <= now - rules.calm)
    return connection.execute(select(alerts.key).where(*ended).limit(1)).first() is not None


def apply(connection: Connection, seen: Iterable[Seen], rules: Rules, now: float) -> int:
    """Open, go on with and close what follows from this. Returns how many opened or closed."""
    rows.lock_name(connection, "alerts")
    episodes = {(each.kind, each.device): each for each in _open(connection)}
    for one in sorted(seen, key=lambda one: one.at):
        _take(connection, episodes, one)
    changes = 0
    there = _known(connection, {device for _, device in episodes})
    for episode in episodes.values():
        gone = episode.device not in there
        over = not episode.lasting and (episode.kind == OVERDUE or now - episode.last >= rules.calm)
        if episode.key == 0:
            if over or gone:
                continue  # begun and ended between two looks, or of long ago
            _begin(connection, episode, now)
            _tell(connection, episode, OPENED, rules, now)
            changes += 1
        elif over or gone:
            _end(connection, episode, now, "the device was removed or revoked" if gone else _ending(episode))
            _tell(connection, episode, CLOSED, rules, now)
            changes += 1
        elif episode.changed:
            values = {"last": episode.last, "lasting": episode.lasting, "text": episode.text}
            connection.execute(update(desk_schema.alerts).where(alerts.key == episode.key).values(values))
    return changes


def _open(connection: Connection) -> list[_Episode]:
    columns = (alerts.device, alerts.kind, alerts.opened, alerts.last, alerts.lasting, alerts.text, alerts.key)
    return [_Episode(*row) for row in connection.execute(select(*columns).where(alerts.closed.is_(None)))]


def _take(connection: Connection, episodes: dict[tuple[str, str], _Episode], one: Seen) -> None:
    episode = episodes.get((one.kind, one.device))
    if episode is None:
        if one.bad and not _before(connection, one):
            text = one.text[:_TEXT]
            episodes[one.kind, one.device] = _Episode(one.device, one.kind, one.at, one.at, one.lasting, text)
    elif one.bad and one.kind == OVERDUE:
        episode.changed |= not episode.lasting
        episode.lasting = True
    elif one.bad and one.at > episode.last:
        episode.last, episode.lasting, episode.text = one.at, one.lasting, one.text[:_TEXT]
        episode.changed = True
    elif not one.bad and one.at > episode.last and episode.lasting:
        episode.lasting, episode.changed = False, True
        if episode.key == 0 and one.kind in _STATES:  # gone before anybody looked
            del episodes[one.kind, one.device]


def _before(connection: Connection, one: Seen) -> bool:
    """Was this seen already, in an episode that is over? Who is late may have been heard since, too."""
    if one.kind == OVERDUE and one.device != FLEET:
        due = connection.execute(select(devices.next_due).where(devices.id == one.device)).scalar()
        if due is None or due > one.at:
            return True
    earlier = select(alerts.last, alerts.closed).where(alerts.device == one.device, alerts.kind == one.kind)
    last = connection.execute(earlier.order_by(alerts.key.desc()).limit(1)).first()
    return last is not None and one.at <= (last.closed if one.kind == OVERDUE else last.last)


def _known(connection: Connection, wanted: set[str]) -> set[str]:
    """Those of these devices that are there and were not revoked, and the fleet."""
    found = {FLEET}
    for some in rows.chunks(wanted):
        there = select(devices.id).where(devices.id.in_(some), devices.revoked.is_(None))
        found.update(connection.execute(there).scalars())
    return found


def _begin(connection: Connection, episode: _Episode, now: float) -> None:
    values = {"device": episode.device, "kind": episode.kind, "opened": now, "last": episode.last}
    made = insert(desk_schema.alerts).values(**values, lasting=episode.lasting, text=episode.text)
    episode.key = connection.execute(made.returning(alerts.key)).scalar_one()
    episode.opened = now


def _end(connection: Connection, episode: _Episode, now: float, why: str) -> None:
    values = {"closed": now, "ending": why, "lasting": False}
    connection.execute(update(desk_schema.alerts).where(alerts.key == episode.key).values(values))


def _ending(episode: _Episode) -> str:
    if episode.kind == OVERDUE:
        return "fewer devices are late" if episode.device == FLEET else "the device was heard again"
    return "not seen again since"


def _tell(connection: Connection, episode: _Episode, event: str, rules: Rules, now: float) -> None:
    told = []
    for channel in rules.channels:
        due = rules.due(channel, now)
        told.append({"alert": episode.key, "event": event, "channel": channel, "at": due, "due": due})
    if told:
        connection.execute(insert(desk_schema.alert_messages), told)


def forget(connection: Connection, before: float) -> int:
    """Delete alerts that closed before then, some at a time, with their messages. Returns how many. Messages of a
    channel that is no more are given up.
    """
    stale = (messages.due.is_not(None), messages.due < before + KEPT - _STALE)
    connection.execute(
        update(desk_schema.alert_messages).where(*stale).values(due=None, why="no such channel any more")
    )
    old = select(alerts.key).where(alerts.closed < before).limit(_SLICE)
    keys = list(connection.execute(old).scalars())
    if keys:
        connection.execute(delete(desk_schema.alert_messages).where(messages.alert.in_(keys)))
        connection.execute(delete(desk_schema.alerts).where(alerts.key.in_(keys)))
    return len(keys)


def views(connection: Connection, since: float | None, device: str | None) -> list[AlertView]:
    """The alerts that are open, and with `since` (Unix seconds) those that closed after it; the newest first."""
    where: list[Any] = [alerts.closed.is_(None) if since is None else alerts.closed.is_(None) | (alerts.closed > since)]
    if device is not None:
        where.append(alerts.device == device)
    found = connection.execute(select(desk_schema.alerts).where(*where).order_by(alerts.key.desc())).all()
    waiting: dict[int, int] = {}
    failed: dict[int, list[str]] = {}
    for keys in rows.chunks(row.key for row in found):
        for row in connection.execute(_untold(keys)):
            if row.due is not None:
                waiting[row.alert] = waiting.get(row.alert, 0) + 1
            else:
                failed.setdefault(row.alert, []).append(f"{row.channel}: {row.why}")
    return [_view(row, waiting.get(row.key, 0), failed.get(row.key, ())) for row in found]


def _untold(keys: Sequence[int]) -> Any:
    columns = (messages.alert, messages.channel, messages.due, messages.why)
    return select(*columns).where(messages.alert.in_(keys), messages.delivered.is_(None)).order_by(messages.key)


def _view(row: Any, waiting: int, failed: Sequence[str]) -> AlertView:
    told = (row.key, row.device, row.kind, row.opened, row.text, row.closed, row.ending, row.last)
    return AlertView(*told, waiting, tuple(failed))
