"""CLI command for monitoring: metrics."""

import ipaddress
from pathlib import Path
from typing import Annotated

import typer

from dormouse_host import terminal
from dormouse_host.cli.options import Db, Json, opened, refuse
from dormouse_host.errors import HostError

PANEL = "Fleet"
PORT = 9641


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(metrics)


def metrics(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0: any that is free.")] = PORT,
    listen: Annotated[str, typer.Option(metavar="ADDRESS", help="This machine's address to listen on.")] = "127.0.0.1",
    write: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write a Grafana dashboard and alert rules there, and listen to nothing."),
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show the fleet's metrics to Prometheus until Ctrl-C.

    At /metrics: last seen, next wake, overdue, battery, awake time and erases of each device, commands by status, and
    what the relay has yet to publish. What a device told last is gone once it has missed two wakes.
    """
    from dormouse_host.desk.metrics import MetricsServer, write_files

    if write is not None:
        refuse(context, "port", "listen", why="means nothing with --write, which listens to nothing")
        for path in write_files(write):
            terminal.json_line({"path": str(path)}) if json else terminal.line(str(path))
        return
    try:
        is_open = not ipaddress.ip_address(listen).is_loopback
    except ValueError:
        raise HostError(f"--listen {listen}: expected an address such as 127.0.0.1 or 0.0.0.0", 2) from None
    with opened(db) as fleet, MetricsServer(fleet, listen, port, terminal.warn) as server:
        if is_open:
            terminal.warn("whoever reaches this address reads the metrics: there is no password and no TLS")
        shown = f"[{listen}]" if ":" in listen else listen
        url = f"http://{shown}:{server.port}/metrics"
        terminal.json_line({"url": url}) if json else terminal.line(f"metrics at {url}")
        server.run()
