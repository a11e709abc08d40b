"""CLI commands for the desk: the report, and the page."""

import os
import secrets
import sys
import time
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from dormouse_host.cli.options import Db, Group, Json, between, moment, opened, refuse
from dormouse_host.errors import HostError

PANEL = "Desk"


def register(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("web", rich_help_panel=PANEL)(web)
    app.command("report", rich_help_panel=PANEL)(report)


def web(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")] = 8420,
    lan: Annotated[
        bool, typer.Option("--lan", help="On the network, too; with DORMOUSE_WEB_PASSWORD, or a new token.")
    ] = False,
    cert: Annotated[Path | None, typer.Option(help="HTTPS: the certificate with its chain, as PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="HTTPS: its key, as PEM.")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Nothing can be sent or changed on the page.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show the fleet in a browser, live.

    The fleet, each device's life, commands, groups, rollouts. On this machine alone unless --lan is given. A password
    in DORMOUSE_WEB_PASSWORD is asked for in both cases. Runs until SIGTERM or Ctrl-C; needs dormouse-mqtt[web].
    """
    from dormouse_host import terminal
    from dormouse_host.web.server import Asked, serve

    given = os.environ.get("DORMOUSE_WEB_PASSWORD")
    if given is not None and not 8 <= len(given) <= 256:
        raise HostError("DORMOUSE_WEB_PASSWORD: expected 8 to 256 characters", 2)
    token = secrets.token_urlsafe(18) if lan and given is None else None

    def told(urls: list[str]) -> None:
        for url in urls:
            place = f"{url}?token={token}" if token else url
            terminal.told({"url": place}, place, json=json)
        if lan and cert is None:
            terminal.warn("without --cert and --key the password crosses the network in clear")

    with opened(db) as fleet:
        serve(fleet, Asked(port, lan, given or token, cert, key, read_only), told)


def report(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file: .html, or .pdf where Chromium is; - is stdout.")],
    since: Annotated[
        str | None,
        typer.Option(
            help="The last 30s, 5m, 2h, 7d of the ledger, with --until from so long ago, or since a date; default: all."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Up to 2h, 1d ago or a date; default: the newest that the ledger knows.")
    ] = None,
    group: Group = None,
    zone: Annotated[str, typer.Option(help="The time zone, as Europe/Berlin.")] = "UTC",
    empty_at: Annotated[
        float, typer.Option("--empty-at", min=0.5, max=60, metavar="VOLTS", help="A battery is empty below this.")
    ] = 3.3,
    db: Db = None,
    json: Json = False,
) -> None:
    """Write a report for others: one HTML or PDF file.

    What each board did and when, delivery delays, commands by outcome, readings, battery and the day it will be empty,
    awake time and mAh, silent times, errors. The same ledger and options give the same bytes.
    """
    from dormouse_host import files, terminal
    from dormouse_host.desk.report import Asked, build

    try:
        known = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise HostError(f"no time zone {zone}: write UTC, or a name such as Europe/Berlin", 2) from None
    kind = out.suffix.lower()
    if str(out) != "-" and kind not in (".html", ".htm", ".pdf"):
        raise HostError(f"{out}: expected a name that ends in .html or .pdf", 2)
    if str(out) == "-":
        refuse(context, "json", why="means nothing with --out -: the report itself is on stdout")
    start, end = between(since, until, time.time())
    with opened(db) as fleet:
        length = None
        if start is not None and end is not None:
            length = end - start
        elif since is not None:
            newest = fleet.newest() + 1
            length = newest - moment(since, newest)
        if length is not None and length <= 0:
            raise HostError(f"--since {since} is not before the end of the report", 2)
        text = build(fleet, Asked(length, end, group, known, empty_at))
    if str(out) == "-":
        sys.stdout.write(text)
        return
    if kind == ".pdf":
        import tempfile

        from dormouse_host.desk.pdf import print_pdf

        with tempfile.TemporaryDirectory(prefix="dormouse-report-") as folder:
            page = Path(folder) / "report.html"
            page.write_text(text)
            print_pdf(page, out)
    else:
        files.write(out, text, files.PUBLIC)
    size = out.stat().st_size
    terminal.told({"file": str(out), "bytes": size}, f"{out}: {size / 1024:.0f} KB", json=json)
