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

from dormouse_host.address import BrokerAddress, parse
from dormouse_host.cli.completion import complete_command, complete_group
from dormouse_host.cli.completion import complete_device as complete_device  # the areas have it from here
from dormouse_host.errors import HostError
from dormouse_host.settings import Settings, read

if TYPE_CHECKING:
    from dormouse_host.fleet import Fleet

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def settings(db: str | None = None, broker: str | None = None) -> Settings:
    """Where ledger and broker are."""
    return read(db, broker, os.environ, Path.cwd())


def opened(db: str | None, *, make: bool = False) -> "Fleet":
    """Open the ledger. HostError where there is none, unless `make` creates it."""
    from dormouse_host.fleet import Fleet

    said = settings(db)
    return Fleet(said.db, said.root, make=make)


@contextmanager
def ledger_here(db: str | None) -> Iterator["Fleet | None"]:
    """Open the ledger that is configured or that this user has; None where there is none."""
    from dormouse_host.fleet import missing

    if missing(settings(db).db):
        yield None
        return
    with opened(db) as fleet:
        yield fleet


def address(said: Settings) -> BrokerAddress:
    """The configured broker. HostError where there is none."""
    if said.broker is None:
        raise HostError("no broker: give --broker mqtt://host, or set DORMOUSE_BROKER", 2)
    return parse(said.broker, os.environ)


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
        raise HostError(f"{text}: expected 30s, 5m, 2h, 1d, or a date such as 2026-12-24T18:00", 2) from None


def seconds_until(text: str, now: float) -> float:
    """A duration or a date as seconds from `now`."""
    span = _span(text)
    return _date(text) - now if span is None else span


def moment(text: str, now: float) -> float:
    """A duration before `now`, or a date, as Unix seconds."""
    span = _span(text)
    return _date(text) if span is None else now - span


# ---- options and arguments

Db = Annotated[str | None, typer.Option("--db", help="The ledger: a file or postgresql://…; also DORMOUSE_DB.")]
Broker = Annotated[str | None, typer.Option("--broker", help="mqtt://host[:port]; also DORMOUSE_BROKER.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Times = Annotated[list[str], typer.Option("--time", metavar="NAME=MS", help="A time of the board; may be repeated.")]
Device = Annotated[str, typer.Argument(metavar="DEVICE", help="A device's id.", autocompletion=complete_device)]
Command = Annotated[
    str,
    typer.Argument(metavar="ID", help="The id that `dormouse send` printed.", autocompletion=complete_command),
]
Group = Annotated[
    str | None, typer.Option("--group", help="Only the devices of a group.", autocompletion=complete_group)
]
