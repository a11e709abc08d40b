"""CLI commands for devices: status, watch, log, export and the `devices` group.

Everything goes through Fleet, so that a program that embeds it can do the same.
"""

import time
from typing import Annotated

import typer

from dormouse_host import terminal
from dormouse_host.cli import show
from dormouse_host.cli.options import (
    Broker,
    Db,
    Device,
    Group,
    Json,
    address,
    complete_device,
    moment,
    opened,
    settings,
)
from dormouse_host.errors import HostError

devices = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Register, list, group and remove devices.")

PANEL = "Fleet"


def register(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (status, watch, log, settings_of, export):
        app.command(command.__name__.removesuffix("_of"), rich_help_panel=PANEL)(command)
    app.add_typer(devices, name="devices", rich_help_panel=PANEL)


def status(
    device: Annotated[str | None, typer.Argument(metavar="DEVICE", autocompletion=complete_device)] = None,
    group: Group = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show the fleet or one device.

    Last contact, next wake or how long it is overdue, pending commands, battery, RSSI, agent version. Exit code 3 if
    the last report of a device shown names a fault of its program: app.py or a reading.
    """
    if device is not None and group is not None:
        raise HostError("use DEVICE or --group, not both", 2)
    with opened(db) as fleet:
        views, now = fleet.status(device, group), time.time()
        if json:
            show.devices_json(views, now)
        elif device is not None:
            show.device(views[0], fleet.understood(device), now)
        else:
            show.devices(views, now)
        show.twins(fleet.twins(device))
        show.strangers(fleet.strangers())
        if any(view.pending for view in views) and not any(relay.alive for relay in fleet.relays()):
            terminal.warn("commands are pending and no relay runs on this ledger: start one with dormouse relay")
    if any(view.faults for view in views):
        raise typer.Exit(3)


def watch(
    group: Group = None,
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two refreshes.")] = 1,
    db: Db = None,
    json: Json = False,
) -> None:
    """Watch the fleet until Ctrl-C.

    A live table, overdue devices first; where stdout is no terminal, a line for each change.
    """
    from dormouse_host.cli import live

    with opened(db) as fleet:
        live.watch(fleet, group, every, json=json)


def log(
    device: Device,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The number of lines.")] = 50,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show a device's history.

    Wakes, commands, results and telemetry in order of time, the newest last.
    """
    from dormouse_host.flash.explain import explained

    with opened(db) as fleet:
        report = fleet.status(device)[0].report or {}
        show.twins(fleet.twins(device))
        for line in fleet.log(device, limit):
            fields = {**line.fields, "at": line.at, "kind": line.kind}
            text = explained(line.text, report.get("agent"), report.get("fw"))
            terminal.told(fields, f"{terminal.when(line.at)}  {line.kind:<9}  {text}", json=json)


def settings_of(
    device: Device,
    ask: Annotated[bool, typer.Option("--ask", help="Ask the device; it answers at its next wake.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show a device's settings: value, origin, and what was replaced.

    What commands changed is in every wake report; the flashed values are known once the device was asked (--ask).
    """
    with opened(db) as fleet:
        if ask:
            fleet.send(device, "config")
        at, found = fleet.settings(device)
        show.settings(found, json=json)
        if at is None and not ask:
            terminal.warn(f"the flashed settings are not known: ask with dormouse settings {device} --ask")
        elif ask:
            terminal.warn(f"asked: {device} answers at its next wake")


def export(
    what: Annotated[str, typer.Argument(metavar="telemetry|results|wakes")],
    csv: Annotated[bool, typer.Option("--csv", help="CSV, for a spreadsheet.")] = False,
    json: Annotated[bool, typer.Option("--jsonl", "--json", help="One JSON object per line (default).")] = False,
    since: Annotated[str | None, typer.Option(help="From the last 30s, 5m, 2h, 1d, or since a date.")] = None,
    db: Db = None,
) -> None:
    """Export telemetry, results or wakes.

    One line each, the oldest first.
    """
    if csv and json:
        raise HostError("use --csv or --jsonl, not both", 2)
    start = 0.0 if since is None else moment(since, time.time())
    with opened(db) as fleet:
        found = fleet.export(what, start)
        if csv:
            show.table(found, what)
        else:
            show.rows(found)


# ---- devices


@devices.command("add")
def devices_add(
    names: Annotated[list[str], typer.Argument(metavar="DEVICE...")], db: Db = None, json: Json = False
) -> None:
    """Register devices.

    Devices that were removed can be registered again.
    """
    with opened(db, make=True) as fleet:
        count = fleet.add(*names)
        terminal.told({"added": count}, f"{count} added", json=json)


@devices.command("remove")
def devices_remove(
    device: Device,
    broker: Broker = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not contact the broker.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Remove a device.

    Ends its session at the broker and clears its retained report. Its data stays in the ledger; what it sends from now
    on is not stored until it is registered again.
    """
    said = settings(db, broker)
    with opened(db) as fleet:
        fleet.remove(device, None if offline else address(said))
        terminal.told({"removed": device}, f"{device} removed", json=json)


@devices.command("group")
def devices_group(
    group: Annotated[str, typer.Argument(metavar="GROUP")],
    names: Annotated[list[str] | None, typer.Argument(metavar="DEVICE...", autocompletion=complete_device)] = None,
    dissolve: Annotated[bool, typer.Option("--dissolve", help="Delete the group and keep its devices.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Set the devices of a group.

    The devices named here replace those that the group had.
    """
    if bool(names) == dissolve:
        raise HostError("expected the group's devices, or --dissolve", 2)
    with opened(db) as fleet:
        fleet.group(group, names or [])
        count = len(set(names or ()))
        text = f"{group} has {count} devices" if count else f"{group} is dissolved"
        terminal.told({"group": group, "devices": count}, text, json=json)


@devices.command("list")
def devices_list(group: Group = None, db: Db = None, json: Json = False) -> None:
    """List the devices."""
    with opened(db) as fleet:
        for name in fleet.members(group):
            terminal.told({"device": name}, name, json=json)
