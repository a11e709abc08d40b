"""The commands of the line that work on a fleet: each reads its words, calls the library and shows what came back.

Must stay true: everything goes through Fleet, so that whoever embeds it can do the same; what devices said reaches the
terminal without control characters and a spreadsheet without formulas; with --json, stdout is JSON and nothing else.
"""

import os
import signal
import socket
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dormouse_host import show
from dormouse_host.errors import HostError
from dormouse_host.fleet import Fleet, Sent
from dormouse_host.settings import Settings, read
from dormouse_host.url import BrokerAddress, parse

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Db = Annotated[str | None, typer.Option("--db", help="The ledger: a file or postgresql://… ; also DORMOUSE_DB.")]
Broker = Annotated[str | None, typer.Option("--broker", help="mqtt://host[:port]; also DORMOUSE_BROKER.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, for machines.")]
Device = Annotated[str, typer.Argument(metavar="DEVICE", help="A device's id.")]
Command = Annotated[str, typer.Argument(metavar="ID", help="What `dormouse send` printed.")]

devices = typer.Typer(rich_markup_mode=None, help="Which devices there are, and in which groups.")
ledger = typer.Typer(rich_markup_mode=None, help="The ledger itself: copies of it.")


def register(app: typer.Typer) -> None:
    """Add these commands to the line."""
    for command in (send, result, cancel, status, log, relay, export, resend):
        app.command()(command)
    app.add_typer(devices, name="devices")
    app.add_typer(ledger, name="ledger")


def _settings(db: str | None = None, broker: str | None = None) -> Settings:
    return read(db, broker, os.environ, Path.cwd())


def _fleet(db: str | None) -> Fleet:
    settings = _settings(db)
    return Fleet(settings.db, settings.root)


def _address(settings: Settings) -> BrokerAddress:
    if settings.broker is None:
        raise HostError("no broker: give --broker mqtt://host, or set DORMOUSE_BROKER", 2)
    return parse(settings.broker, os.environ)


def _span(text: str) -> float | None:
    """`90`, `30s`, `5m`, `2h` or `1d` in seconds; None for anything else."""
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    return float(number) * unit if number.isascii() and number.replace(".", "", 1).isdigit() else None


def _date(text: str) -> float:
    """A date, or date and time, as Unix seconds."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise HostError(f"{text}: write 30s, 5m, 2h, 1d, or a date such as 2026-12-24T18:00", 2) from None


def seconds_until(text: str, now: float) -> float:
    """A length of time, or a date, as seconds from `now`."""
    span = _span(text)
    return _date(text) - now if span is None else span


def moment(text: str, now: float) -> float:
    """A length of time before `now`, or a date, as Unix seconds."""
    span = _span(text)
    return _date(text) if span is None else now - span


# ---- commands


def send(
    words: Annotated[
        list[str], typer.Argument(metavar="[DEVICE] COMMAND [KEY=VALUE]...", help="A device, a command, its arguments.")
    ],
    expires: Annotated[str | None, typer.Option(help="Not to be started later: 30s, 5m, 2h, 1d, or a date.")] = None,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Only when that command is settled.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is settled; exit code 0 if it succeeded.")
    ] = False,
    create: Annotated[bool, typer.Option("--create", help="Make the device known.")] = False,
    every: Annotated[bool, typer.Option("--all", help="To every device.")] = False,
    group: Annotated[str | None, typer.Option(help="To every device of a group.")] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Send a command. Its id is printed when it is in the ledger; the device gets it at its next wake."""
    life = None if expires is None else seconds_until(expires, time.time())
    with _fleet(db) as fleet:
        if every or group is not None:
            targets, (do, *args) = fleet.members(group), words
            if not targets:
                raise HostError("no devices there", 2)
            sent = fleet.send_many(targets, do, args, expires=life, after=after)
        else:
            if len(words) < 2:
                raise HostError("write DEVICE COMMAND [KEY=VALUE]...", 2)
            device, do, *args = words
            sent = [fleet.send(device, do, args, expires=life, after=after, create=create)]
        _show_sent(sent, json=json and not wait)
        if wait:
            _wait(fleet, sent, json=json)


def _show_sent(sent: list[Sent], *, json: bool) -> None:
    for warning in sorted({one.warning for one in sent if one.warning}):
        show.warn(warning)
    for one in sent:
        if json:
            show.json_line({"id": one.name, "device": one.device, "warning": one.warning})
        else:
            show.line(one.name if len(sent) == 1 else f"{one.name} {one.device}")


def _wait(fleet: Fleet, sent: list[Sent], *, json: bool) -> None:
    views = []
    for one in sent:
        device = fleet.status(one.device)[0]
        views.append(fleet.wait(one.name, None, partial(show.progress, device) if not json else show.nothing))
    for view in views:
        show.command(view, json=json)
    if any(view.status != "succeeded" for view in views):
        raise typer.Exit(1)


def result(command: Command, db: Db = None, json: Json = False) -> None:
    """Show what became of a command."""
    with _fleet(db) as fleet:
        show.command(fleet.result(command), json=json)


def cancel(command: Command, db: Db = None, json: Json = False) -> None:
    """Cancel a command: at once while it has not left, else by the device, unless it has started it."""
    with _fleet(db) as fleet:
        show.command(fleet.cancel(command), json=json)


def status(
    device: Annotated[str | None, typer.Argument(metavar="DEVICE")] = None, db: Db = None, json: Json = False
) -> None:
    """Show the fleet: last seen, next wake due, overdue by, commands pending, battery, RSSI, agent."""
    with _fleet(db) as fleet:
        show.devices(fleet.status(device), time.time(), json=json)


def log(
    device: Device,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many lines.")] = 50,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show what happened with a device: its wakes, commands, results and telemetry on one line of time."""
    with _fleet(db) as fleet:
        for at, kind, text in fleet.log(device, limit):
            if json:
                show.json_line({"at": at, "kind": kind, "text": text})
            else:
                show.line(f"{show.when(at)}  {kind:<9}  {text}")


def export(
    what: Annotated[str, typer.Argument(metavar="telemetry|results|wakes")],
    csv: Annotated[bool, typer.Option("--csv", help="As a table for a spreadsheet.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="A JSON object a line (default).")] = False,
    since: Annotated[str | None, typer.Option(help="Of the last 30s, 5m, 2h, 1d, or from a date on.")] = None,
    db: Db = None,
) -> None:
    """Write out telemetry, results or wakes, the oldest first."""
    if csv and jsonl:
        raise HostError("--csv or --jsonl, not both", 2)
    start = 0.0 if since is None else moment(since, time.time())
    with _fleet(db) as fleet:
        show.rows(fleet.export(what, start), csv=csv)


def resend(
    device: Device,
    span: Annotated[str, typer.Argument(metavar="FROM..TO", help="Numbers of telemetry records.")],
    db: Db = None,
    json: Json = False,
) -> None:
    """Ask a device for telemetry records again."""
    first, _, last = span.partition("..")
    if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        raise HostError("records are counted from 1: write FROM..TO", 2)
    with _fleet(db) as fleet:
        _show_sent([fleet.resend(device, int(first), int(last))], json=json)


# ---- relay


def relay(
    name: Annotated[str | None, typer.Option(help="Part of its client id; the host's name by default.")] = None,
    broker: Broker = None,
    db: Db = None,
    json: Annotated[bool, typer.Option("--json", help="Log lines as JSON.")] = False,
) -> None:
    """Carry commands to the broker and answers to the ledger, until SIGTERM or Ctrl-C."""
    from dormouse_host.relay import log as relay_log
    from dormouse_host.relay.relay import Relay

    settings = _settings(db, broker)
    address = _address(settings)
    relay_log.set_up(as_json=json)
    with _fleet(db) as fleet:
        running = Relay(fleet.ledger, address, settings.root, name or socket.gethostname())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: running.stop())
        running.run()


# ---- devices


@devices.command("add")
def devices_add(names: Annotated[list[str], typer.Argument(metavar="DEVICE...")], db: Db = None) -> None:
    """Make devices known."""
    with _fleet(db) as fleet:
        show.line(f"{fleet.add(*names)} added")


@devices.command("remove")
def devices_remove(
    device: Device,
    broker: Broker = None,
    offline: Annotated[bool, typer.Option("--offline", help="Leave the broker as it is.")] = False,
    db: Db = None,
) -> None:
    """Forget a device; end its session at the broker and clear its retained report."""
    settings = _settings(db, broker)
    with _fleet(db) as fleet:
        fleet.remove(device, None if offline else _address(settings))


@devices.command("group")
def devices_group(
    group: Annotated[str, typer.Argument(metavar="GROUP")],
    names: Annotated[list[str] | None, typer.Argument(metavar="DEVICE...")] = None,
    db: Db = None,
) -> None:
    """Say which devices a group has; none dissolves it."""
    with _fleet(db) as fleet:
        fleet.group(group, names or [])


@devices.command("list")
def devices_list(
    group: Annotated[str | None, typer.Option(help="Only those of a group.")] = None, db: Db = None, json: Json = False
) -> None:
    """List the devices."""
    with _fleet(db) as fleet:
        for name in fleet.members(group):
            if json:
                show.json_line({"device": name})
            else:
                show.line(name)


# ---- the ledger itself


@ledger.command("backup")
def ledger_backup(target: Annotated[Path, typer.Argument(metavar="FILE")], db: Db = None) -> None:
    """Write a consistent copy of the ledger to a new file."""
    with _fleet(db) as fleet:
        fleet.backup(target)


@ledger.command("restored")
def ledger_restored(db: Db = None, json: Json = False) -> None:
    """Say that this ledger is a copy put back: it takes a new name, and what was open is unknown until answered."""
    with _fleet(db) as fleet:
        name, count = fleet.restored()
        if json:
            show.json_line({"ledger": name, "unknown": count})
        else:
            show.line(f"this ledger is {name} from now on; {count} commands that were open are unknown")
