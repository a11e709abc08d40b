"""The commands of the line that work on boards: flash, firmware, monitor, doctor, init, and the agent on this machine.

Must stay true: each reads its words, calls the library and shows what came back; a secret is never an option, because
options are in the process list. Exit codes beside the usual: 3 another kind of board, 4 no board, 5 it was flashed and
its first wake failed.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from dormouse_host.errors import HostError

FIRST_WAKE_FAILED = 5

Port = Annotated[
    str | None, typer.Option("--port", help="/dev/ttyUSB0, socket://host:port, …; without it the one that fits.")
]
BoardName = Annotated[str, typer.Option("--board", help="As MicroPython names it: ESP32_GENERIC, RPI_PICO_W, …")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="A key of config.json; may be repeated.")]

agent = typer.Typer(rich_markup_mode=None, help="The agent on this machine: Linux as a target.")


def register(app: typer.Typer) -> None:
    """Add these commands to the line."""
    for command in (flash, monitor):
        app.command()(command)


def flash(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="The device's id.")],
    board: BoardName = "",
    port: Port = None,
    app: Annotated[Path | None, typer.Option("--app", help="The program; without it, what dormouse.toml says.")] = None,
    broker: Annotated[str | None, typer.Option("--broker", help="mqtt://host[:port], as the board reaches it.")] = None,
    ssid: Annotated[str | None, typer.Option("--ssid", help="The Wi-Fi; its password from WIFI_PASSWORD.")] = None,
    change: Set = [],  # noqa: B006  (typer copies it)
    wait: Annotated[float | None, typer.Option(min=0, help="Seconds in which a sleeping board must be caught.")] = None,
    watch: Annotated[bool, typer.Option(help="Wait for the first wake.")] = True,
) -> None:
    """Put the agent, your program and the device's configuration onto a board, and wait for its first wake.

    Exit codes: 0 done; 1 not done; 2 asked for wrongly; 3 another kind of board, or too old a MicroPython; 4 no board
    to be caught; 5 flashed, and the first wake failed.
    """
    from dormouse_host import boards, project
    from dormouse_host.flash import Request
    from dormouse_host.flash import flash as run
    from dormouse_host.flash_ports import Place, attached, choose

    here = project.read(Path.cwd())
    said = here.device(device)
    kind = boards.load(board or said.get("board", ""))
    over = project.settings(change)
    over.update({key: value for key, value in (("broker", broker), ("ssid", ssid)) if value is not None})
    files = project.device_files(here, kind, device, over, os.environ)
    if kind.firmware.tool == "none":
        raise HostError("this machine is not flashed: dormouse agent run app.py", 2)
    place = Place(port or said.get("port") or choose(kind, attached()).device)
    sleep = max(files.full["connect_every"], files.full["sample_every"])
    done = run(Request(here, kind, place, files, app, sleep * 1.25 + 60 if wait is None else wait, watch), typer.echo)
    if done.state:
        typer.echo(f"state {done.state}: a new device, with an empty journal")
    if done.wake is None:
        return
    if not done.wake.succeeded:
        raise HostError(done.wake.explain(files.full), FIRST_WAKE_FAILED)
    typer.echo(f"{device}: first wake reported after {done.wake.asleep.get('ms')} ms awake")


def monitor(
    port: Annotated[str, typer.Argument(metavar="PORT", help="Where the board is.")],
    seconds: Annotated[float | None, typer.Option(min=0, help="End by itself after so long.")] = None,
) -> None:
    """Follow a board's log, over sleeps in which its port is gone. Ctrl-C ends it."""
    from dormouse_host.flash_ports import Place
    from dormouse_host.monitor import monitor as run

    run(Place(port), seconds, typer.echo)
