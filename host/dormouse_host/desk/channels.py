"""The channels to which alerts go: each takes some messages at a time, or says why not.

`mqtt` is not among them: the relay publishes those messages over its own connection.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dormouse_host.desk import config, telling, webhook
from dormouse_host.desk.notify import Notifier
from dormouse_host.ledger.alerts import FLEET, OPENED
from dormouse_host.ledger.couriers import Message

_TOGETHER = 100  # messages of one notification


@dataclass(frozen=True)
class Channel:
    """`name` is that in the ledger; `send` delivers at most `most` messages at once, HostError where it can't."""

    name: str
    most: int
    send: Callable[[Sequence[Message]], None]


def channels(alerts: config.Alerts) -> list[Channel]:
    """Those of a configuration. HostError where Apprise is missing or a URL is none."""
    found = [_notify(name, url) for name, url in zip(config.notify_names(alerts.notify), alerts.notify, strict=True)]
    if alerts.webhook and alerts.key:
        found.append(_webhook(alerts.webhook, alerts.key))
    return found


def _notify(name: str, url: str) -> Channel:
    notifier = Notifier(url, f"alerts.{name}")
    return Channel(name, _TOGETHER, lambda found: notifier.send(*telling.notification(found)))


def _webhook(url: str, key: bytes) -> Channel:
    def send(found: Sequence[Message]) -> None:
        for one in found:
            webhook.post(url, key, one.id, int(time.time()), telling.payload(one))

    return Channel(config.WEBHOOK, 1, send)


def test_message(now: float) -> Message:
    """What `dormouse alerts --test` sends."""
    text = "this is a test of dormouse alerts"
    return Message(0, int(now), OPENED, "", 0, FLEET, "test", now, None, text, None, now)
