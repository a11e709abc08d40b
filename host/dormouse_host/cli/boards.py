"""The commands of the line for boards: flash, firmware, romfs, monitor, doctor, init, and the agent on this machine.

Must stay true: each reads its words, calls the library and shows what came back; a secret is never an option, because
options are in the process list; what a device says reaches no terminal as a control character. Exit codes beside the
usual: 3 another kind of board, 4 no board, 5 it was flashed and its first wake failed.
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from dormouse_host import terminal
from dormouse_host.cli.options import Json, ledger_here
from dormouse_host.errors import HostError

PANEL = "Boards"
FIRST_WAKE_FAILED = 5

Port = Annotated[
    str | None, typer.Option("--port", help="/dev/ttyUSB0, socket://host:port, …; without it the one that fits.")
]
BoardName = Annotated[str, typer.Option("--board", help="As MicroPython names it: ESP32_GENERIC, RPI_PICO_W, …")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="A key of config.json; may be repeated.")]

board = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Virtual boards: real MicroPython, no hardware.")
agent = typer.Typer(rich_markup_mode=None, help="The agent on this machine: Linux as a target.")


def register(app: typer.Typer) -> None:
    """Add these commands to the line."""
    for command in (flash, firmware, romfs, monitor, doctor, init):
        app.command(rich_help_panel=PANEL)(command)
    app.add_typer(board, name="board", rich_help_panel=PANEL)
    app.add_typer(agent, name="agent", rich_help_panel=PANEL)


def flash(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="The device's id.")],
    board: BoardName = "",
    port: Port = None,
    app: Annotated[Path | None, typer.Option("--app", help="The program; without it, what dormouse.toml says.")] = None,
    broker: Annotated[
        str | None, typer.Option("--broker", help="mqtt://host[:port], as the board reaches it; also DORMOUSE_BROKER.")
    ] = None,
    ssid: Annotated[str | None, typer.Option("--ssid", help="The Wi-Fi; its password from WIFI_PASSWORD.")] = None,
    change: Set = [],  # noqa: B006  (typer copies it)
    wait: Annotated[float | None, typer.Option(min=0, help="Seconds in which a sleeping board must be caught.")] = None,
    watch: Annotated[bool, typer.Option(help="Wait for the first wake.")] = True,
    json: Json = False,
) -> None:
    """Put agent, program and configuration onto a board.

    Then its first wake is waited for.
    Exit codes: 0 done; 1 not done; 2 asked for wrongly; 3 another kind of board, or too old a MicroPython; 4 no board
    to be caught; 5 flashed, and the first wake failed.
    """
    from dormouse_host.flash import kinds, project
    from dormouse_host.flash.flash import Request
    from dormouse_host.flash.flash import flash as run
    from dormouse_host.flash.ports import Place, attached, choose

    here = project.read(Path.cwd())
    said = here.device(device)
    kind = kinds.load(board or said.get("board", ""))
    over = project.settings(change)
    over.update({key: value for key, value in (("broker", broker), ("ssid", ssid)) if value is not None})
    files = project.device_files(here, kind, device, over, os.environ)
    if kind.firmware.tool == "none":
        raise HostError("this machine is not flashed: dormouse agent run app.py", 2)
    place = Place(port or said.get("port") or choose(kind, attached()).device)
    sleep = max(files.full["connect_every"], files.full["sample_every"])
    request = Request(here, kind, place, files, app, sleep * 1.25 + 60 if wait is None else wait, watch)
    done = run(request, partial(_echo, err=json))
    with ledger_here(None) as fleet:
        if fleet:
            fleet.add(device)
    if done.wake is not None and not done.wake.succeeded:
        raise HostError(done.wake.explain(files.full), FIRST_WAKE_FAILED)
    awake = done.wake and done.wake.asleep.get("ms")
    if json:
        terminal.json_line({"device": device, "board": kind.name, "state": done.state, "awake_ms": awake})
        return
    if done.state:
        _echo(f"state {done.state}: a new device, with an empty journal")
    if done.wake is not None:
        _echo(f"{device}: first wake reported after {awake} ms awake")


def _echo(line: str, *, err: bool = False) -> None:
    """A line at once, and none of it an order to the terminal."""
    typer.echo(terminal.safe(line), err=err)


def monitor(
    port: Annotated[
        str | None, typer.Argument(metavar="PORT", help="Where the board is; without it, the one connected.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End by itself after so long.")] = None,
    json: Json = False,
) -> None:
    """Follow a board's log until Ctrl-C.

    Over sleeps, too, in which its port is gone.
    """
    from dormouse_host.flash.first_wake import monitor as run
    from dormouse_host.flash.ports import Place, attached, choose_any

    run(Place(port or choose_any(attached()).device), seconds, _event if json else _echo, terminal.warn)


def _event(line: str) -> None:
    """A line of the device's log as JSON; what is none of its log as text."""
    from dormouse_host.agent.log import parse

    event = parse(line)
    terminal.json_line({"text": line} if event is None else {"event": event.name, **event.fields})


def firmware(
    board: BoardName = "",
    port: Port = None,
    file: Annotated[Path | None, typer.Option("--file", help="A .bin for ESP32, a .uf2 for Pico.")] = None,
    erase: Annotated[bool, typer.Option("--erase", help="All of flash first, files and state too.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds for a Pico's drive to appear.")] = 60,
    json: Json = False,
) -> None:
    """Put MicroPython itself onto a board.

    By esptool, or onto the drive that a Pico shows with BOOTSEL held.
    Without --file, mpflash finds and downloads one (pip install 'dormouse-mqtt[firmware]'). Nobody has run this on
    hardware yet: its checks and the copy are tested, the tools behind it are other people's.
    """
    from dormouse_host.flash import kinds
    from dormouse_host.flash.firmware import install

    kind = kinds.load(board)
    install(kind, port, file, erase=erase, wait=wait, say=partial(_echo, err=json))
    if json:
        terminal.json_line({"board": kind.name, "port": port, "file": None if file is None else str(file)})


def romfs(
    board: BoardName = "",
    out: Annotated[Path, typer.Option("--out", help="The image.")] = Path("agent.romfs"),
    json: Json = False,
) -> None:
    """Write the agent as a ROMFS image, to be run where it lies.

    It takes 35 KiB less RAM then. For firmware with a ROM partition (MicroPython 1.25, MICROPY_VFS_ROM; `mpremote
    romfs query` tells): `mpremote romfs deploy FILE`, then flash. Nobody has run this on hardware yet.
    """
    from dormouse_host import files
    from dormouse_host.agent import mpy
    from dormouse_host.agent.mpy import image
    from dormouse_host.flash import kinds
    from dormouse_host.flash.files import umqtt

    kind = kinds.load(board)
    if kind.firmware.tool == "none":
        raise HostError("this machine needs no image: dormouse agent run app.py", 2)
    if out.suffix not in (".romfs", ".img"):
        raise HostError(f"--out {out}: mpremote knows an image by its name: {out.with_suffix('.romfs').name}", 2)
    data = image({**mpy.agent_files(kind.port), **umqtt()})
    files.write(out, data, files.PUBLIC)
    if json:
        terminal.json_line({"board": kind.name, "file": str(out), "bytes": len(data)})
    else:
        _echo(f"{out}: {len(data)} bytes; mpremote romfs deploy {out}, then dormouse flash")


def doctor(json: Json = False) -> None:
    """Say what may keep a board from being flashed.

    Each with one thing to do. Exit code 1 when there is something.
    """
    from dormouse_host.flash.doctor import examine

    findings = examine()
    for finding in findings:
        if json:
            terminal.json_line({"wrong": finding.wrong, "what": finding.what, "fix": finding.fix})
            continue
        _echo(f"{'!' if finding.wrong else 'ok'}  {finding.what}")
        if finding.wrong:
            _echo(f"    -> {finding.fix}")
    if any(finding.wrong for finding in findings):
        raise typer.Exit(1)


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made if it is not there.")] = Path("."),
    json: Json = False,
) -> None:
    """Make a new project: app.py, dormouse.toml, .gitignore. What is there already stays as it is."""
    from dormouse_host.flash.project import init as run

    made = run(folder)
    text = f"{folder}: {'made ' + ', '.join(made) if made else 'everything is there already'}"
    terminal.told({"folder": str(folder), "made": list(made)}, text, json=json)


@agent.command("run")
def agent_run(
    app: Annotated[Path, typer.Argument(metavar="APP", help="The program: app.py.")],
    device: Annotated[str, typer.Option("--device", help="The device's id; without it, the host's name.")] = "",
    state: Annotated[Path | None, typer.Option("--state", help="The state folder; else one of this user's.")] = None,
    broker: Annotated[str | None, typer.Option("--broker", help="mqtt://host[:port]; also DORMOUSE_BROKER.")] = None,
    change: Set = [],  # noqa: B006
    stay: Annotated[bool, typer.Option("--stay", help="Stay in memory between wakes, until SIGTERM.")] = False,
    timer: Annotated[bool, typer.Option("--timer", help="Nothing before the planned wake.")] = False,
    json: Json = False,
) -> None:
    """Run a device on this machine.

    Under CPython: one wake, or with --stay one after the other.
    Exit codes: 0 the wake finished, 1 network or broker, or the state folder is in use, 2 configuration.
    """
    import platformdirs

    from dormouse_host.agent.linux import Agent, default_id
    from dormouse_host.flash import kinds, project

    if stay and timer:
        raise HostError("--stay or --timer: one of them", 2)
    name = device or default_id()
    here = project.read(Path.cwd())
    over = project.settings(change)
    if broker is not None:
        over["broker"] = broker
    files = project.device_files(here, kinds.load("POSIX"), name, over, os.environ)
    folder = state or platformdirs.user_state_path("dormouse") / name
    emit = _event if json else _echo
    running = Agent(app, folder, files.contents(), files.full["connect_every"], emit)
    sys.exit(running.stay() if stay else running.once(timer=timer))


# ---- virtual boards


@board.command("kinds")
def board_kinds(json: Json = False) -> None:
    """List the boards that can be simulated."""
    from dormouse_host.virtual import kind

    names = kind.names()
    if json:
        terminal.json_line({"boards": names})
    else:
        for name in names:
            terminal.line(name)


@board.command("run")
def board_run(
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
