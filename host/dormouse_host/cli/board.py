"""The commands of the line that deal with virtual boards.

Must stay true: a board that is run here ends with the command, and its flash stays; with --json, stdout is JSON and
nothing else.
"""

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from dormouse_host import terminal
from dormouse_host.cli.options import Json

board = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Virtual boards: real MicroPython, no hardware.")


def register(app: typer.Typer) -> None:
    """Add these commands to the line."""
    app.add_typer(board, name="board")


@board.command()
def kinds(json: Json = False) -> None:
    """List the boards that can be simulated."""
    from dormouse_host.virtual import kind as virtual_board_kind

    names = virtual_board_kind.names()
    if json:
        terminal.json_line({"boards": names})
    else:
        for name in names:
            terminal.line(name)


@board.command()
def run(
    kind: Annotated[str, typer.Argument(metavar="BOARD", help="As MicroPython names it; `dormouse board kinds`.")],
    folder: Annotated[Path, typer.Option("--dir", help="Its flash lies here and stays; its port appears here.")],
    speed: Annotated[float, typer.Option(min=1, max=1000, help="So many times faster passes sleep.")] = 1,
    tcp: Annotated[int, typer.Option(min=0, max=65535, help="Port of socket://127.0.0.1:PORT; 0: any.")] = 0,
    battery: Annotated[float, typer.Option(min=0, max=60, help="Volts.")] = 4.1,
    ssid: Annotated[str, typer.Option(help="The access point's name.")] = "virtual",
    password: Annotated[str, typer.Option(help="The access point's password; nothing real.")] = "virtual-password",
    app: Annotated[
        Path | None, typer.Option("--app", help="Flash it with this program, as `dormouse flash` does.")
    ] = None,
    device: Annotated[str, typer.Option(help="With --app: the device's id.")] = "virtual",
    broker: Annotated[str, typer.Option(help="With --app: where its broker is.")] = "mqtt://127.0.0.1",
    json: Json = False,
) -> None:
    """Run a virtual board until Ctrl-C. What surrounds it is changed by lines on stdin: `help` lists them."""
    from dormouse_host.processes import Stop
    from dormouse_host.virtual.board import VirtualBoard, Wifi
    from dormouse_host.virtual.device import flash
    from dormouse_host.virtual.script import serve

    stop = Stop()

    def ended(number: int, _frame: FrameType | None) -> NoReturn:
        stop.set()  # where the exception is swallowed, as in a finaliser, the loop sees this
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ended)
    wifi = Wifi(ssid=ssid, password=password)
    with VirtualBoard(kind, folder, speed=speed, tcp=tcp, battery=battery, wifi=wifi) as running:
        facts = {"board": running.kind.name, "port": running.port, "url": running.url, "flash": str(running.image)}
        if json:
            terminal.json_line(facts)
        else:
            for key, value in facts.items():
                terminal.line(f"{key:6} {value}")
        if app:
            running.wait_boot()
            flash(running, app, device, {"broker": broker}, terminal.warn)
        tell = (lambda event: terminal.json_line(event.plain())) if json else (lambda event: terminal.line(str(event)))
        serve(running, tell, stop.is_set)
