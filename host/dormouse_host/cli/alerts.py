"""CLI command for alerts: those that are open, those of before, and a test of every channel.

Relays judge them; what dormouse.toml says about it is read by desk/config.py.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dormouse_host import terminal
from dormouse_host.cli.options import (
    Broker,
    Db,
    Json,
    Since,
    address,
    complete_device,
    moment,
    opened,
    refuse,
    settings,
)
from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from dormouse_host.desk import config
    from dormouse_host.desk.desk import Desk
    from dormouse_host.fleet import AlertView, Fleet

PANEL = "Fleet"


def register(app: typer.Typer) -> None:
    """Register the command."""
    app.command("alerts", rich_help_panel=PANEL)(alerts)


def beside(fleet: "Fleet") -> "Desk | None":
    """What a relay does beside its work, by dormouse.toml; None where that wants nothing."""
    from dormouse_host.desk import config

    wanted = config.read(Path.cwd(), os.environ)
    if wanted.alerts is None and wanted.home is None:
        return None
    from dormouse_host.desk.desk import Desk

    return Desk(fleet.ledger, wanted, fleet.root)


def alerts(
    context: typer.Context,
    device: Annotated[str | None, typer.Argument(metavar="[DEVICE]", autocompletion=complete_device)] = None,
    since: Since = None,
    test: Annotated[bool, typer.Option("--test", help="Send a test message to every channel now.")] = False,
    broker: Broker = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show open alerts, or test where they go.

    A relay judges them where dormouse.toml has [alerts]. With --since also those that have closed. Exit code 3 if any
    is open, 1 if a channel fails with --test.
    """
    from dormouse_host.desk import config

    wanted = config.read(Path.cwd(), os.environ).alerts
    if test:
        refuse(context, "device", "since", why="means nothing with --test: use --test alone")
        if wanted is None:
            raise HostError("dormouse.toml has no [alerts] here: an empty table turns alerts on", 2)
        delivered = [_try(name, send, json=json) for name, send in _tries(wanted, broker)]
        if not all(delivered):
            raise typer.Exit(1)
        return
    refuse(context, "broker", why="needs --test")
    start = None if since is None else moment(since, time.time())
    with opened(db) as fleet:
        if device is not None:
            fleet.status(device)
        found = fleet.alerts(start, device)
    for view in found:
        terminal.told(asdict(view), _sentence(view), json=json)
        for why in view.failed if not json else ():
            terminal.warn(f"not delivered: {why}")
    if not found and not json:
        terminal.line("no alert is open")
    if wanted is None:
        terminal.warn("dormouse.toml has no [alerts] here: a relay of this folder judges none")
    if any(view.closed is None for view in found):
        raise typer.Exit(3)


def _sentence(view: "AlertView") -> str:
    who = "fleet" if view.device == "*" else view.device
    until = "" if view.closed is None else f" until {terminal.when(view.closed)} ({view.ending})"
    waiting = f"; {view.waiting} messages wait" if view.waiting else ""
    last = f" (last seen {terminal.when(view.last)})" if view.last > view.opened else ""
    return f"{terminal.when(view.opened)}{until}  {who} {view.kind}: {view.text}{last}{waiting}"


def _tries(wanted: "config.Alerts", broker: str | None) -> list[tuple[str, Callable[[], object]]]:
    """Each channel with what sends it a test message."""
    from dormouse_host.broker.client import Publisher
    from dormouse_host.desk import channels, config, telling

    message = channels.test_message(time.time())

    def publish() -> None:
        said = settings(None, broker)
        with Publisher(address(said)) as publisher:
            publisher.publish(f"{said.root}/alerts/{message.device}/{message.kind}", [telling.payload(message)])

    tries: list[tuple[str, Callable[[], object]]] = []
    if config.MQTT in wanted.rules.channels:
        tries.append((config.MQTT, publish))
    tries += [(each.name, partial(each.send, [message])) for each in channels.channels(wanted)]
    if not tries:
        raise HostError("no channel: dormouse.toml, [alerts]: notify, webhook or mqtt", 2)
    return tries


def _try(name: str, send: Callable[[], object], *, json: bool) -> bool:
    """Send it, and tell what came of it."""
    why = None
    try:
        send()
    except HostError as error:
        why = str(error)
    terminal.told({"channel": name, "delivered": why is None, "why": why}, f"{name}: {why or 'delivered'}", json=json)
    return why is None
