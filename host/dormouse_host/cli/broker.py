"""The commands of the line that deal with a broker itself.

Must stay true: what is started here ends with the command; with --json, stdout is JSON and nothing else.
"""

import signal
from typing import Annotated

import typer

from dormouse_host import terminal
from dormouse_host.cli.options import Json

broker = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="A broker: one to try things out.")


def register(app: typer.Typer) -> None:
    """Add these commands to the line."""
    app.add_typer(broker, name="broker")


@broker.command()
def run(
    lan: Annotated[bool, typer.Option("--lan", help="Let the whole network in, without a password.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it listens.")] = 1883,
    json: Json = False,
) -> None:
    """Run a mosquitto for trying things out.

    Until Ctrl-C; it keeps its sessions for the next time.
    """
    from dormouse_host.broker.local import TrialBroker
    from dormouse_host.processes import Stop

    stop = Stop()
    with stop.on((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)), TrialBroker(port, lan=lan) as running:
        if json:
            terminal.json_line({"broker": running.name, "urls": running.urls, "folder": str(running.folder)})
        else:
            terminal.line(f"{running.name}, sessions and log in {running.folder}")
            for url in running.urls:
                terminal.line(f"  {url}")
            terminal.warn(
                "anyone on this network may read and send everything" if lan else "only this machine is let in"
            )
        running.serve(stop.wait)
