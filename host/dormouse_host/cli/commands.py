"""CLI commands for commands: send, result, cancel, resend.

The id is printed once the command is in the ledger, before the wait. With `--wait`, exit code 0 means that each command
succeeded.
"""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from dormouse_host import terminal
from dormouse_host.cli import show
from dormouse_host.cli.completion import complete_group, complete_order
from dormouse_host.cli.options import Command, Db, Device, Json, opened, seconds_until
from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from dormouse_host.fleet import Fleet, Sent

PANEL = "Commands"


def register(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (send, result, cancel, resend):
        app.command(rich_help_panel=PANEL)(command)


def send(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[DEVICE] COMMAND [KEY=VALUE]...",
            help="A device (not with --all or --group), a command and its arguments.",
            autocompletion=complete_order,
        ),
    ],
    expires: Annotated[str | None, typer.Option(help="Expire the command after 30s, 5m, 2h, 1d, or at a date.")] = None,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Start it only after that command is final.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the final status; exit code 0 if it succeeded.")
    ] = False,
    within: Annotated[str | None, typer.Option(help="With --wait: stop waiting after 30s, 5m, 2h, 1d.")] = None,
    create: Annotated[bool, typer.Option("--create", help="Register the device if it is new.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Send to every device.")] = False,
    group: Annotated[
        str | None, typer.Option(help="Send to every device of a group.", autocompletion=complete_group)
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Send a command to a device, a group or all.

    Its id is printed once it is in the ledger; the device gets it at its next wake. With --all or --group the id is
    that of the batch: `dormouse result` shows who succeeded, failed and waits.
    """
    from dormouse_host.cli import live

    life = None if expires is None else seconds_until(expires, time.time())
    patience = None if within is None else seconds_until(within, time.time())
    if within is not None and not wait:
        raise HostError("--within needs --wait", 2)
    if every and group is not None:
        raise HostError("use --all or --group, not both", 2)
    with opened(db, make=create) as fleet:
        several = every or group is not None
        if several:
            targets, (do, *args) = fleet.members(group), words
            if not targets:
                raise HostError("no devices yet: dormouse devices add DEVICE", 2)
            if args and "=" not in args[0] and do in fleet.members() and do not in fleet.understood(targets[0]):
                raise HostError(f"--all and --group take no device: leave out {do}", 2)
            if create:
                raise HostError("--create registers one device: give its id", 2)
        else:
            if len(words) < 2:
                raise HostError("expected DEVICE COMMAND [KEY=VALUE]...", 2)
            device, do, *args = words
            targets = [device]
        if several:
            with live.bar("checking", len(targets)) as tell:
                sent = fleet.send_many(targets, do, args, expires=life, after=after, on_progress=tell)
        else:
            sent = [fleet.send(targets[0], do, args, expires=life, after=after, create=create)]
        _show_sent(sent, json=json, quiet=json and wait)
        if wait:
            _wait(fleet, sent, patience, json=json)


def _show_sent(sent: "list[Sent]", *, json: bool, quiet: bool = False) -> None:
    warnings = [one.warning for one in sent if one.warning]
    if warnings:
        more = f", and {len(warnings) - 1} more like this" if len(warnings) > 1 else ""
        terminal.warn(f"{warnings[0]}{more}")
    if quiet:
        return
    if not json:
        terminal.line(sent[0].batch or sent[0].name)
        return
    for one in sent:
        terminal.json_line({"id": one.name, "device": one.device, "batch": one.batch, "warning": one.warning})


def _wait(fleet: "Fleet", sent: "list[Sent]", patience: float | None, *, json: bool) -> None:
    from dormouse_host.cli import live

    names = [one.name for one in sent]
    try:
        if len(sent) == 1:
            with live.waiting(fleet, sent[0].device) as tell:
                views = [fleet.wait(names[0], patience, tell)]
        else:
            with live.settling(len(sent)) as look:
                views = fleet.wait_all(names, patience, look)
    except KeyboardInterrupt:
        terminal.warn(f"stopped waiting; the command is still pending: dormouse result {sent[0].batch or names[0]}")
        raise
    if sent[0].batch:
        show.batch(views, json=json)
    else:
        show.command(views[0], json=json)
    if any(view.status != "succeeded" for view in views):
        raise typer.Exit(1)


def result(command: Command, db: Db = None, json: Json = False) -> None:
    """Show a command's status and result.

    Or those of a batch, that is of a command sent with --all or --group: which devices failed, which wait, which
    succeeded. Or an update's, or a rollout's.
    """
    with opened(db) as fleet:
        views = fleet.batch(command)
        kind = None if views else fleet.kind(command)
        if views:
            show.batch(views, json=json)
        elif kind == "update":
            show.update(fleet.update_result(command), json=json)
        elif kind == "rollout":
            show.rollout(fleet.rollouts(command)[0], json=json, devices=True)
        else:
            show.command(fleet.result(command), json=json)


def cancel(command: Command, db: Db = None, json: Json = False) -> None:
    """Cancel a command, a batch or an update.

    At once while it is not at the broker, else by the device unless it has started it. Of a batch those that wait.
    """
    from dormouse_host.cli import live

    with opened(db) as fleet:
        views = fleet.batch(command)
        kind = None if views else fleet.kind(command)
        if kind == "rollout":
            raise HostError(f"{command} is a rollout: dormouse rollout abort {command}", 2)
        if kind == "update":
            cancel_update(fleet, command, json=json)
            return
        if all(view.final for view in views or [fleet.result(command)]):
            terminal.warn(f"{command} has ended: there is nothing to cancel")
        if not views:
            show.command(fleet.cancel(command), json=json)
            return
        with live.bar("cancelling", sum(not view.final for view in views)) as tell:
            views = fleet.cancel_batch(command, tell)
        show.batch(views, json=json)


def cancel_update(fleet: "Fleet", name: str, *, json: bool) -> None:
    """Cancel an update, and show what has become of it."""
    if fleet.update_result(name).final:
        terminal.warn(f"update {name} has ended: there is nothing to cancel")
    show.update(fleet.cancel_update(name), json=json)


def resend(
    device: Device,
    span: Annotated[str, typer.Argument(metavar="FROM..TO", help="The numbers of the records.")],
    db: Db = None,
    json: Json = False,
) -> None:
    """Request telemetry records again."""
    first, dots, last = span.partition("..")
    if not dots or not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in (first, last)):
        raise HostError("expected FROM..TO, counted from 1", 2)
    with opened(db) as fleet:
        _show_sent([fleet.resend(device, int(first), int(last))], json=json)
