"""CLI commands for devices: status, watch, log, export and the `devices` group.

Everything goes through Fleet, so that a program that embeds it can do the same.
"""

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from dormouse_host import terminal
from dormouse_host.cli import show, tables
from dormouse_host.cli.completion import complete_export, complete_group
from dormouse_host.cli.options import (
    Broker,
    Count,
    Db,
    Device,
    Devices,
    First,
    Group,
    Json,
    Since,
    Source,
    address,
    between,
    complete_device,
    moment,
    named,
    opened,
    refuse,
    settings,
)
from dormouse_host.errors import HostError

devices = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Register, list, group and remove devices.")

PANEL = "Fleet"
_LINES, _LONGEST = 50, 100_000  # of a log


def register(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (status, watch, log, settings_of, export):
        app.command(command.__name__.removesuffix("_of"), rich_help_panel=PANEL)(command)
    app.add_typer(devices, name="devices", rich_help_panel=PANEL)


def status(
    device: Annotated[str | None, typer.Argument(metavar="DEVICE", autocompletion=complete_device)] = None,
    group: Group = None,
    overdue: Annotated[
        bool, typer.Option("--overdue", help="Only the devices that have missed more wakes than --grace.")
    ] = False,
    grace: Annotated[int | None, typer.Option(min=0, max=1000, help="With --overdue: wakes; default: 2.")] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show the fleet or one device.

    Last contact, next wake, pending commands, battery, RSSI, agent version. A device that was due is late, and overdue
    once it has missed more than two wakes, its own backoff counted in. With --overdue revoked devices are named apart.
    Exit code 3 if the last report of a device shown names a fault of its program (app.py or a reading), or if a device
    is overdue with --overdue.
    """
    if device is not None and (group is not None or overdue):
        raise HostError(f"use DEVICE or {'--overdue' if overdue else '--group'}, not both", 2)
    if grace is not None and not overdue:
        raise HostError("--grace needs --overdue", 2)
    with opened(db) as fleet:
        judged = fleet.overdue if grace is None else partial(fleet.overdue, grace=grace)
        several = judged(group) if overdue else fleet.each_status(group)
        views = show.Passing(several if device is None else fleet.status(device))
        updates = [] if device is None else fleet.updates(device, final=True)
        now = time.time()
        if json:
            show.devices_json(views, now, **({} if device is None else {"release": show.kept(updates)}))
        elif device is not None:
            show.device(next(iter(views)), fleet.understood(device), updates, now)
        elif overdue:
            show.overdue(views, now)
        else:
            show.devices(views, now)
        show.twins(fleet.twins(device))
        if overdue:
            show.uncounted(*fleet.uncounted(group))
        else:
            show.strangers(fleet.strangers())
        if target := fleet.moved():
            terminal.warn(f"this ledger was moved to {target}: it stands still since, use it there")
        elif views.pending and not any(relay.alive for relay in fleet.relays()):
            terminal.warn("commands are pending and no relay runs on this ledger: start one with dormouse relay")
    if views.faulty or (overdue and views.any):
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
    since: Since = None,
    until: Annotated[str | None, typer.Option(help="Up to 30s, 5m, 2h, 1d ago, or up to a date.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=_LONGEST, help="The newest lines; default: 50, or all with --since.")
    ] = None,
    automatic: Annotated[
        bool, typer.Option("--all", help="Also describe, report and log, which the ledger asks by itself.")
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show a device's history.

    Wakes, wakes that failed and why, commands, results, telemetry and, once something has gone wrong, the lines of the
    device's own log (wake, milliseconds since boot, event), in order of time, the newest last. Times are of
    this machine's time zone (TZ), as are dates of --since and --until.
    """
    from dormouse_host.flash.explain import explained

    now = time.time()
    start, end = between(since, until, now)
    most = limit or (_LINES if start is None else _LONGEST)
    with opened(db) as fleet:
        report = fleet.status(device)[0].report or {}
        show.twins(fleet.twins(device))
        for line in fleet.log(device, most, since=start, until=end, automatic=automatic):
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
    context: typer.Context,
    what: Annotated[str, typer.Argument(metavar="telemetry|results|wakes|commands", autocompletion=complete_export)],
    csv: Annotated[bool, typer.Option("--csv", help="CSV, for a spreadsheet: a column for each reading.")] = False,
    json: Annotated[bool, typer.Option("--jsonl", "--json", help="One JSON object per line (default).")] = False,
    since: Since = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Only this device.", autocompletion=complete_device)
    ] = None,
    group: Group = None,
    times: Annotated[
        Literal["iso", "unix"] | None,
        typer.Option(help="ISO 8601 in this machine's time zone (default of --csv), or Unix seconds (of --jsonl)."),
    ] = None,
    influx: Annotated[
        bool, typer.Option("--influx", help="Telemetry as InfluxDB's line protocol, each record with its own time.")
    ] = False,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Telemetry from where this was last time, and on as it comes, until Ctrl-C."),
    ] = False,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="With --follow: what the ledger keeps the place under.")
    ] = "export",
    db: Db = None,
) -> None:
    """Export telemetry, results, wakes or commands.

    One line each, the oldest first. With --follow, what was printed and not yet kept as printed comes once more after a
    restart; a database of measurements takes it for the same.
    """
    if csv + json + influx > 1:
        raise HostError("use one of --csv, --jsonl and --influx", 2)
    if device is not None and group is not None:
        raise HostError("use --device or --group, not both", 2)
    if (influx or follow) and what != "telemetry":
        raise HostError("--follow and --influx are for telemetry", 2)
    if follow and (csv or since is not None):
        raise HostError("--follow goes on from where it was: without --csv and --since", 2)
    if not follow:
        refuse(context, "name", why="needs --follow")
    if influx:
        refuse(context, "times", why="means nothing with --influx, which has its own times")
    from dormouse_host.fleet import START

    start = 0.0 if since is None else moment(since, time.time())
    iso = csv if times is None else times == "iso"
    with opened(db) as fleet:
        if device is not None:
            fleet.status(device)
        if follow:
            following = fleet.on("telemetry", device=device, group=group, after=START, name=name)
            tables.follow(following, iso=iso, influx=influx)
            return
        found = partial(fleet.export, what, start, device=device, group=group)
        if influx:
            tables.influx(found())
        elif csv:
            tables.table(found, what, iso=iso)
        else:
            tables.rows(found(), iso=iso)


# ---- devices


@devices.command("add")
def devices_add(
    context: typer.Context,
    names: Devices = None,
    source: Source = None,
    count: Count = None,
    first: First = 1,
    db: Db = None,
    json: Json = False,
) -> None:
    """Register devices.

    Devices that were removed can be registered again.
    """
    wanted = named(context, names, source, count, first)
    with opened(db, make=True) as fleet:
        added = fleet.add(*wanted)
        terminal.told({"added": added}, f"{added} added", json=json)


@devices.command("remove")
def devices_remove(
    context: typer.Context,
    device: Device,
    broker: Broker = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not contact the broker.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Remove a device.

    Ends its session at the broker and clears its retained report, with its own login where the project has that. Its
    data stays in the ledger; what it sends from now on is not stored until it is registered again.
    """
    from dormouse_host.broker.access import as_device

    if offline:
        refuse(context, "broker", why="means nothing with --offline")
    said = settings(db, broker)
    with opened(db) as fleet:
        fleet.status(device)
        fleet.remove(device, None if offline else as_device(address(said), Path(), device))
        terminal.told({"removed": device}, f"{device} removed", json=json)


@devices.command("group")
def devices_group(
    group: Annotated[str | None, typer.Argument(metavar="[GROUP]", autocompletion=complete_group)] = None,
    names: Annotated[list[str] | None, typer.Argument(metavar="[DEVICE]...", autocompletion=complete_device)] = None,
    dissolve: Annotated[bool, typer.Option("--dissolve", help="Delete the group and keep its devices.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """List the groups, show one, or set its devices.

    The devices named here replace those that the group had.
    """
    if dissolve and (group is None or names):
        raise HostError("--dissolve takes a group and no devices", 2)
    with opened(db) as fleet:
        if group is None:
            for name, count in fleet.groups().items():
                terminal.told({"group": name, "devices": count}, f"{name}  {_counted(count)}", json=json)
            return
        if not names and not dissolve:
            for name in fleet.members(group):
                terminal.told({"group": group, "device": name}, name, json=json)
            return
        fleet.group(group, names or [])
        count = len(set(names or ()))
        text = f"{group} has {_counted(count)}" if count else f"{group} is dissolved"
        terminal.told({"group": group, "devices": count}, text, json=json)


def _counted(count: int) -> str:
    return f"{count} device{'' if count == 1 else 's'}"


@devices.command("list")
def devices_list(group: Group = None, db: Db = None, json: Json = False) -> None:
    """List the devices."""
    with opened(db) as fleet:
        for name in fleet.members(group):
            terminal.told({"device": name}, name, json=json)
