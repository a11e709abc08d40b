"""An alert's message in words for people, and as JSON for programs."""

import json
from collections.abc import Sequence

from dormouse_host.ledger.alerts import FLEET, OPENED
from dormouse_host.ledger.couriers import Message
from dormouse_host.terminal import safe, span, when

_LINES = 20  # of one notification


def sentence(message: Message) -> str:
    """One line: `greenhouse overdue: 3 wakes missed, last heard …`."""
    who = "the fleet" if message.device == FLEET else message.device
    if message.event == OPENED:
        return safe(f"{who} {message.kind}: {message.text}")
    lasted = span(max(0.0, (message.closed or message.opened) - message.opened))
    return safe(f"{who} {message.kind} is over after {lasted}: {message.ending}")


def notification(found: Sequence[Message]) -> tuple[str, str]:
    """Title and text for several messages together."""
    lines = [f"{when(one.opened if one.event == OPENED else one.closed)}  {sentence(one)}" for one in found[:_LINES]]
    if len(found) > _LINES:
        lines.append(f"and {len(found) - _LINES} more: dormouse alerts")
    first = found[0]
    who = "fleet" if first.device == FLEET else first.device
    over = "" if first.event == OPENED else " is over"
    title = f"dormouse: {who} {first.kind}{over}" if len(found) == 1 else f"dormouse: {len(found)} alerts"
    return title, "\n".join(lines)


def payload(message: Message) -> bytes:
    """The message as JSON."""
    fields = {
        "id": message.id,
        "event": message.event,
        "device": message.device,
        "kind": message.kind,
        "opened": message.opened,
        "closed": message.closed if message.event != OPENED else None,
        "last": message.last,
        "text": message.text,
        "ending": message.ending if message.event != OPENED else None,
    }
    return json.dumps(fields).encode()
