"""CLI commands for the relay and the ledger: relay, prune and the `ledger` group.

A relay ends in order at SIGTERM, SIGINT and SIGHUP.
"""

import signal
import socket
import time
from pathlib import Path
from typing import Annotated

import typer

from dormouse_host import near, terminal
from dormouse_host.cli import alerts
from dormouse_host.cli.options import Broker, Db, Json, address, moment, opened, settings
from dormouse_host.errors import HostError

ledger = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Back up, restore or move the ledger.")
relay = typer.Typer(rich_markup_mode=None)

PANEL = "Fleet"


def register(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(relay, name="relay", rich_help_panel=PANEL)
    app.command(rich_help_panel=PANEL)(prune)
    app.add_typer(ledger, name="ledger", rich_help_panel=PANEL)


# ---- relay


@relay.callback(invoke_without_command=True)
def relay_run(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Option(help="The relay's name, part of its client id; default: that of its credential, or the host's."),
    ] = None,
    broker: Broker = None,
    accept_new: Annotated[
        bool | None,
        typer.Option(help="Register unknown ids as devices; by default only without a user in the URL."),
    ] = None,
    db: Db = None,
    json: Annotated[bool, typer.Option("--json", help="Log in JSON.")] = False,
) -> None:
    """Run the relay between ledger and broker.

    Publishes commands and stores answers until SIGTERM or Ctrl-C. After a kill it continues where it stopped. Where
    dormouse.toml has [alerts] or [homeassistant] it judges alerts and keeps Home Assistant informed.
    """
    if context.invoked_subcommand is not None:
        if name is not None or broker is not None or accept_new is not None or db is not None or json:
            raise HostError(f"put options after the subcommand {context.invoked_subcommand}", 2)
        return
    from dormouse_host.broker.access import relay_of
    from dormouse_host.fleet import log_relays

    said = settings(db, broker)
    at = address(said)
    log_relays(as_json=json)
    with opened(db, make=True) as fleet:
        called = name if name is not None else relay_of(at.user) or socket.gethostname()
        beside = alerts.beside(fleet)
        running = fleet.relay(at, called, accept_new=accept_new, waiting=said.waiting, beside=beside)
        with running.stopped_by((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)):
            running.run()


@relay.command("forget")
def relay_forget(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The --name of a relay that will not return.")],
    broker: Broker = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """End the session of a relay that will not return.

    Deletes its session at the broker with all that is queued in it. Refused while that relay is alive,
    and where neither this ledger nor the broker knows it.
    """
    said = settings(db, broker)
    with opened(db) as fleet:
        fleet.forget_relay(name, address(said))
        terminal.told({"forgotten": name}, f"relay {name} is forgotten", json=json)


@relay.command("list")
def relay_list(db: Db = None, json: Json = False) -> None:
    """List relays that have not ended in order."""
    with opened(db) as fleet:
        for one in fleet.relays():
            how = "alive" if one.alive else "dead"
            terminal.told(
                {"relay": one.name, "alive": one.alive, "instance": one.instance}, f"{one.name} {how}", json=json
            )


@relay.command("check")
def relay_check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The --name of a relay.")],
    db: Db = None,
    json: Json = False,
) -> None:
    """Test whether a relay is alive.

    For a health check: exit code 0 if it works on the ledger, else 1.
    """
    with opened(db) as fleet:
        known = {relay.name: relay.alive for relay in fleet.relays()}
    alive = known.get(name, False)
    how = "unknown" if name not in known else "alive" if alive else "dead"
    terminal.told({"relay": name, "alive": alive}, f"{name} {how}", json=json)
    if name not in known:
        terminal.warn(f"no relay {name} has started here, or it has ended in order{near.question(name, known)}")
    if not alive:
        raise typer.Exit(1)


# ---- the ledger itself


def prune(
    before: Annotated[str, typer.Option(help="Records older than 30s, 5m, 2h, 1d, or from before a date.")],
    dry: Annotated[bool, typer.Option("--dry-run", help="Only count what would be deleted.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Delete old commands, results, telemetry and wakes.

    Keeps pending commands and what a device may still answer or send again: its last 256 commands and 100 wakes. The
    file does not shrink; its space is used again.
    """
    from dormouse_host.cli import live

    with opened(db) as fleet, live.bar("pruning") as tell:
        pruned = fleet.prune(moment(before, time.time()), dry=dry, on_progress=tell)
    counts = ", ".join(f"{count} {what}" for what, count in pruned.items())
    terminal.told({**pruned, "deleted": not dry}, f"{counts} {'would be deleted' if dry else 'deleted'}", json=json)


@ledger.command("backup")
def ledger_backup(target: Annotated[Path, typer.Argument(metavar="FILE")], db: Db = None, json: Json = False) -> None:
    """Copy the ledger to a new file.

    The copy is consistent while relays and commands work on the ledger.
    """
    with opened(db) as fleet:
        fleet.backup(target)
        terminal.told({"backup": str(target)}, f"copied to {target}", json=json)


@ledger.command("restored")
def ledger_restored(db: Db = None, json: Json = False) -> None:
    """Run this after restoring a backup.

    The ledger starts a new numbering with each device; pending commands become unknown until their devices answer.
    """
    with opened(db) as fleet:
        devices, count = fleet.restored()
        text = f"new numbering for {devices} devices; {count} pending commands are unknown now"
        terminal.told({"devices": devices, "unknown": count}, text, json=json)


@ledger.command("export")
def ledger_export(target: Annotated[Path, typer.Argument(metavar="FILE")], db: Db = None, json: Json = False) -> None:
    """Export the whole ledger, to move it.

    To another machine, or to another kind of database. Stop the relays first. This ledger takes no commands from then
    on; `dormouse ledger import` reads the file. It holds the keys of signed commands.
    """
    with opened(db) as fleet:
        counts = fleet.export_ledger(target)
    text = f"{_told(counts)} written to {target}; this ledger takes no more commands"
    terminal.told({**counts, "file": str(target)}, text, json=json)


@ledger.command("import")
def ledger_import(source: Annotated[Path, typer.Argument(metavar="FILE")], db: Db = None, json: Json = False) -> None:
    """Import an exported ledger into a new one.

    Then start the relays under their old names: numbers and names go on, and nothing becomes unknown.
    """
    from dormouse_host.fleet import check_export

    check_export(source)  # before a ledger is made
    with opened(db, make=True) as fleet:
        counts = fleet.import_ledger(source)
    terminal.told({**counts, "file": str(source)}, f"{_told(counts)} read from {source}", json=json)


@ledger.command("reopen")
def ledger_reopen(db: Db = None, json: Json = False) -> None:
    """Reopen a ledger after an export.

    As long as nobody has imported it. Where it was imported, both would give the same numbers: then run `dormouse
    ledger restored` on one of them.
    """
    with opened(db) as fleet:
        was = fleet.reopen()
    terminal.told({"reopened": was}, "it takes commands again" if was else "it was not exported", json=json)


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())
