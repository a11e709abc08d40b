"""Messages of alerts on their way to each channel.

Must stay true: a message is claimed, in a transaction, before a byte of it leaves, and is tried again only when that
claim has run out or the try has failed; the closing message of an alert never goes before its opening one; a message
that a channel has not taken within a day is given up, and the alert shows it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, select, update

from dormouse_host.ledger import desk_schema, rows

GIVE_UP = 86400.0  # seconds after which a message is not tried again
_CLAIM = 120.0  # seconds that a try may take
_SOONEST, _LATEST = 5.0, 900.0  # seconds between two tries
_WHY = 200  # characters
alerts, messages = desk_schema.alerts.c, desk_schema.alert_messages.c


@dataclass(frozen=True)
class Message:
    """One message for one channel: the opening or closing of an alert."""

    key: int
    alert: int
    event: str
    channel: str
    tries: int
    device: str
    kind: str
    opened: float
    closed: float | None
    text: str
    ending: str | None
    last: float

    @property
    def id(self) -> str:
        """The same for each try of it, and another one in another ledger."""
        named = f"{self.alert} {self.opened!r} {self.kind} {self.device}"
        return f"{self.alert}-{self.event}-{hashlib.sha256(named.encode()).hexdigest()[:12]}"


def waiting(connection: Connection, channel: str, now: float) -> bool:
    """Is there anything for `claim`?"""
    found = select(messages.key).where(messages.channel == channel, messages.due <= now, ~_behind(channel, now))
    return connection.execute(found.limit(1)).first() is not None


def claim(connection: Connection, channel: str, now: float, most: int) -> list[Message]:
    """The next messages for a channel, the oldest first; until the claim runs out nobody else gets them."""
    rows.lock_name(connection, f"alerts to {channel}")
    columns = (messages.key, messages.alert, messages.event, messages.channel, messages.tries)
    about = (alerts.device, alerts.kind, alerts.opened, alerts.closed, alerts.text, alerts.ending, alerts.last)
    query: Select[Any] = select(*columns, *about).join(desk_schema.alerts, alerts.key == messages.alert)
    due = query.where(messages.channel == channel, messages.due <= now, ~_behind(channel, now))
    found = [Message(*row) for row in connection.execute(due.order_by(messages.key).limit(most))]
    if found:
        taken = update(desk_schema.alert_messages).where(messages.key.in_([one.key for one in found]))
        connection.execute(taken.values(due=now + _CLAIM, tries=messages.tries + 1))
    return found


def _behind(channel: str, now: float) -> ColumnElement[bool]:
    """Does an earlier message of the same alert wait for its next try? It holds up that alert, and no other."""
    earlier = desk_schema.alert_messages.alias("earlier").c
    same = (earlier.alert == messages.alert, earlier.channel == channel, earlier.key < messages.key)
    return exists().where(*same, earlier.due > now)


def delivered(connection: Connection, keys: Sequence[int], now: float) -> None:
    """A channel has taken these."""
    for some in rows.chunks(keys):
        done = update(desk_schema.alert_messages).where(messages.key.in_(some))
        connection.execute(done.values(due=None, delivered=now, why=None))


def failed(connection: Connection, found: Sequence[Message], why: str, now: float) -> int:
    """A try of these has failed. Returns how many were given up."""
    lost = 0
    for one in found:
        first = connection.execute(select(messages.at).where(messages.key == one.key)).scalar()
        over = first is None or now - first >= GIVE_UP
        lost += over
        wait = min(_LATEST, _SOONEST * 2 ** min(one.tries, 10))
        values = {"due": None if over else now + wait, "why": why[:_WHY]}
        connection.execute(update(desk_schema.alert_messages).where(messages.key == one.key).values(values))
    return lost
