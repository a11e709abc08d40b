"""The commands of the line about the ledger and the relays that work on it.

Must stay true: a relay ends in order at SIGTERM, SIGINT and SIGHUP; nothing is deleted that a rule may still ask for.
"""

import signal
import socket
import time
from pathlib import Path
from typing import Annotated

import typer

from dormouse_host import terminal
from dormouse_host.cli.options import Broker, Db, Json, address, moment, opened, settings
from dormouse_host.errors import HostError

ledger = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The ledger itself: copies of it.")
relay = typer.Typer(rich_markup_mode=None)

PANEL = "Fleet"


def register(app: typer.Typer) -> None:
    """Add these commands to the line."""
    app.add_typer(relay, name="relay", rich_help_panel=PANEL)
    app.command(rich_help_panel=PANEL)(prune)
    app.add_typer(ledger, name="ledger", rich_help_panel=PANEL)


# ---- relay


@relay.callback(invoke_without_command=True)
def relay_run(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="Part of its client id; the host's name by default.")] = None,
    broker: Broker = None,
    accept_new: Annotated[
        bool | None,
        typer.Option(help="Make devices of ids that are not registered; by default only without a user in the URL."),
    ] = None,
    db: Db = None,
    json: Annotated[bool, typer.Option("--json", help="Log lines as JSON.")] = False,
) -> None:
    """Carry commands out and answers back.

    Between the ledger and the broker, until SIGTERM or Ctrl-C. Killed at any point it goes on where it was.
    """
    if context.invoked_subcommand is not None:
        if name is not None or broker is not None or accept_new is not None or db is not None or json:
            raise HostError(f"write the options behind {context.invoked_subcommand}", 2)
        return
    from dormouse_host.fleet import log_relays

    said = settings(db, broker)
    at = address(said)
    log_relays(as_json=json)
    with opened(db, make=True) as fleet:
        running = fleet.relay(at, name or socket.gethostname(), accept_new=accept_new)
        with running.stopped_by((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)):
            running.run()


@relay.command("forget")
def relay_forget(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The --name of a relay that will not come back.")],
    broker: Broker = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """End what a relay left at the broker.

    Its session, and what is queued in it. Refused while that relay is alive.
    """
    said = settings(db, broker)
    with opened(db) as fleet:
        fleet.forget_relay(name, address(said))
        terminal.told({"forgotten": name}, f"relay {name} is forgotten", json=json)


@relay.command("list")
def relay_list(db: Db = None, json: Json = False) -> None:
    """List the relays, alive or dead.

    Those that have not ended in order.
    """
    with opened(db) as fleet:
        for one in fleet.relays():
            how = "alive" if one.alive else "dead"
            terminal.told(
                {"relay": one.name, "alive": one.alive, "instance": one.instance}, f"{one.name} {how}", json=json
            )


# ---- the ledger itself


def prune(
    before: Annotated[str, typer.Option(help="Older than 30s, 5m, 2h, 1d, or before a date.")],
    dry: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Delete what is old and settled.

    Commands, results, telemetry and wakes. What is open stays, and what a device may still answer or send again: its
    last 256 commands and 100 wakes. The file does not shrink, its space is used again.
    """
    from dormouse_host.cli import live

    with opened(db) as fleet, live.bar("pruning") as tell:
        pruned = fleet.prune(moment(before, time.time()), dry=dry, on_progress=tell)
    counts = ", ".join(f"{count} {what}" for what, count in pruned.items())
    terminal.told({**pruned, "deleted": not dry}, f"{counts} {'would be deleted' if dry else 'deleted'}", json=json)


@ledger.command("backup")
def ledger_backup(target: Annotated[Path, typer.Argument(metavar="FILE")], db: Db = None, json: Json = False) -> None:
    """Copy the ledger to a new file.

    The copy is consistent, whatever works on the ledger meanwhile.
    """
    with opened(db) as fleet:
        fleet.backup(target)
        terminal.told({"backup": str(target)}, f"copied to {target}", json=json)


@ledger.command("restored")
def ledger_restored(db: Db = None, json: Json = False) -> None:
    """Run this after restoring a backup.

    The ledger takes a new name with each device, and what was open is unknown until answered.
    """
    with opened(db) as fleet:
        devices, count = fleet.restored()
        text = f"new numbers for {devices} devices; {count} commands that were open are unknown"
        terminal.told({"devices": devices, "unknown": count}, text, json=json)
