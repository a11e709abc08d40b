"""Options and durations that several CLI commands share, and where ledger and broker come from.

The ledger is imported and opened only by commands that use it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dormouse_host import terminal
from dormouse_host.address import BrokerAddress, parse
from dormouse_host.cli.completion import complete_command, complete_group
from dormouse_host.cli.completion import complete_device as complete_device  # the areas have it from here
from dormouse_host.errors import HostError
from dormouse_host.settings import Settings, read

if TYPE_CHECKING:
    from dormouse_host.broker.folder import BrokerFolder
    from dormouse_host.fleet import Fleet

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def settings(db: str | None = None, broker: str | None = None) -> Settings:
    """Where ledger and broker are."""
    for option, given, form in (("--db", db, "a file or postgresql://…"), ("--broker", broker, "mqtt://host[:port]")):
        if given == "":
            raise HostError(f"{option} is empty: expected {form}, or leave it out", 2)
    return read(db, broker, os.environ, Path.cwd())


def opened(db: str | None, *, make: bool = False) -> "Fleet":
    """Open the ledger. HostError where there is none, unless `make` creates it."""
    from dormouse_host.fleet import Fleet

    said = settings(db)
    return Fleet(said.db, said.root, make=make)


@contextmanager
def ledger_here(db: str | None, *, make: bool = False, need: bool = False) -> Iterator["Fleet | None"]:
    """Open the ledger that is configured or that this user has; None where there is none, or with `need` a HostError.
    `make` creates that of a project, whose path nobody has typed.
    """
    from dormouse_host.fleet import NoLedger

    try:
        fleet = opened(db, make=make and settings(db).own)
    except NoLedger:
        if need:
            raise
        yield None
        return
    with fleet:
        yield fleet


def address(said: Settings) -> BrokerAddress:
    """The configured broker. HostError where there is none."""
    if said.broker is None:
        raise HostError("no broker: give --broker mqtt://host, or set DORMOUSE_BROKER", 2)
    return parse(said.broker, os.environ)


def open_folder(folder: Path) -> "BrokerFolder":
    """The broker's folder. HostError where it is none."""
    from dormouse_host.broker.folder import open_folder as opened_folder

    return opened_folder(folder)


def say_told(told: bool, made: "BrokerFolder") -> None:
    """Say why no broker has confirmed what its folder says. HostError where one runs here: it goes on as before."""
    if told:
        return
    pid = made.running()
    if pid is not None:
        why = f"the broker (process {pid}) has not reloaded its files, and goes by the old ones: kill -HUP {pid}"
        raise HostError(f"{why}, or start it anew")
    terminal.warn(f"no broker runs here from {made.path}: it reads this when it starts; elsewhere, copy it and reload")


def named(
    context: typer.Context, devices: list[str] | None, source: Path | None, count: int | None, first: int
) -> list[str]:
    """The ids that Devices, Source, Count and First name together. HostError where there are none."""
    from dormouse_host import names

    if count is not None:
        if len(devices or ()) != 1 or source is not None:
            raise HostError("--count takes one DEVICE, to which it adds numbers", 2)
        return names.numbered((devices or [])[0], count, first)
    refuse(context, "first", why="needs --count")
    found = [*(devices or ()), *(names.listed(source) if source else [])]
    if not found:
        raise HostError("expected DEVICE..., --from FILE, or DEVICE --count N", 2)
    return found


def given(context: typer.Context, *names: str) -> str:
    """The first of these parameters that was written on the command line, as it is written there; "" for none."""
    for one in context.command.params:
        source = context.get_parameter_source(one.name or "")
        if one.name in names and source is not None and source.name == "COMMANDLINE":
            return one.opts[0] if one.opts[0].startswith("-") else (one.name or "").upper()
    return ""


def refuse(context: typer.Context, *names: str, why: str) -> None:
    """HostError where one of these parameters was given, which would change nothing; `why`: without or beside what."""
    if useless := given(context, *names):
        raise HostError(f"{useless} {why}", 2)


# ---- durations and dates


def _span(text: str) -> float | None:
    """`90`, `30s`, `5m`, `2h` or `1d` in seconds; None for anything else."""
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    return float(number) * unit if number.isascii() and number.replace(".", "", 1).isdigit() else None


def _date(text: str) -> float:
    """A date, or date and time, as Unix seconds."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        form = "30s, 5m, 2h, 1d, or a date such as 2026-12-24T18:00"
        raise HostError(f"{text or 'an empty time'}: expected {form}", 2) from None


def seconds_until(text: str, now: float) -> float:
    """A duration or a date as seconds from `now`."""
    span = _span(text)
    return _date(text) - now if span is None else span


def moment(text: str, now: float) -> float:
    """A duration before `now`, or a date, as Unix seconds."""
    span = _span(text)
    return _date(text) if span is None else now - span


def between(since: str | None, until: str | None, now: float) -> tuple[float | None, float | None]:
    """The moments of --since and --until. HostError where nothing lies between them."""
    start, end = (None if text is None else moment(text, now) for text in (since, until))
    if start is not None and end is not None and start >= end:
        raise HostError(f"--since {since} is not before --until {until}: give --since the earlier moment", 2)
    return start, end


# ---- options and arguments

Db = Annotated[str | None, typer.Option("--db", help="The ledger: a file or postgresql://…; also DORMOUSE_DB.")]
Broker = Annotated[str | None, typer.Option("--broker", help="mqtt://host[:port]; also DORMOUSE_BROKER.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")]
Times = Annotated[list[str], typer.Option("--time", metavar="NAME=MS", help="A time of the board; may be repeated.")]
Device = Annotated[str, typer.Argument(metavar="DEVICE", help="A device's id.", autocompletion=complete_device)]
Command = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The id that `dormouse send` printed, of a command or a batch; or that of an update.",
        autocompletion=complete_command,
    ),
]
Since = Annotated[str | None, typer.Option(help="From the last 30s, 5m, 2h, 1d, or since a date.")]
Group = Annotated[
    str | None, typer.Option("--group", help="Only the devices of a group.", autocompletion=complete_group)
]
Devices = Annotated[
    list[str] | None,
    typer.Argument(metavar="[DEVICE]...", help="Ids of devices.", autocompletion=complete_device),
]
Source = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="Devices from a file: an id a line, or CSV with a column `device`."),
]
Count = Annotated[int | None, typer.Option(min=1, max=100_000, help="So many devices: DEVICE-01, DEVICE-02, …")]
First = Annotated[int, typer.Option(min=0, max=10**9, help="With --count: the first number.")]
Folder = Annotated[
    Path, typer.Option("--folder", envvar="DORMOUSE_BROKER_FOLDER", help="The folder of `dormouse broker init`.")
]
Project = Annotated[Path, typer.Option(help="The project's folder, with dormouse.toml and `devices/`.")]
