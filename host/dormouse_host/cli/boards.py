"""CLI commands for boards: flash, firmware, romfs, monitor, doctor, init, virtual boards, and the agent run here.

A secret is never an option, because options are in the process list. Exit codes beside the usual ones: 3 wrong board,
4 no board, 5 flashed but the first wake failed. A virtual board ends with the command; its flash stays.
"""

import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from dormouse_host import terminal
from dormouse_host.cli.completion import complete_board
from dormouse_host.cli.options import Json, Times, ledger_here, refuse, settings
from dormouse_host.errors import HostError

PANEL = "Boards"
FIRST_WAKE_FAILED = 5

Port = Annotated[
    str | None, typer.Option("--port", help="/dev/ttyUSB0, socket://host:port, …; default: the one that fits.")
]
BoardName = Annotated[
    str,
    typer.Option(
        "--board",
        help="The board's MicroPython name: ESP32_GENERIC, RPI_PICO_W, …",
        autocompletion=complete_board,
    ),
]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Set a key of config.json; may be repeated.")
]

board = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Run virtual boards: real MicroPython without hardware."
)
agent = typer.Typer(rich_markup_mode=None, help="Run a device on this machine, under Linux.")


def register(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (flash, firmware, romfs, monitor, doctor, init):
        app.command(rich_help_panel=PANEL)(command)
    app.add_typer(board, name="board", rich_help_panel=PANEL)
    app.add_typer(agent, name="agent", rich_help_panel=PANEL)


def flash(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="The device's id.")],
    board: BoardName = "",
    port: Port = None,
    app: Annotated[Path | None, typer.Option("--app", help="The program; default: from dormouse.toml.")] = None,
    broker: Annotated[
        str | None, typer.Option("--broker", help="mqtt://host[:port] as the board reaches it; also DORMOUSE_BROKER.")
    ] = None,
    ssid: Annotated[
        str | None, typer.Option("--ssid", help="The Wi-Fi name; its password comes from WIFI_PASSWORD.")
    ] = None,
    change: Set = [],  # noqa: B006  (typer copies it)
    wait: Annotated[float | None, typer.Option(min=0, help="Seconds to wait for a sleeping board.")] = None,
    watch: Annotated[bool, typer.Option(help="Wait for the first wake and report it.")] = True,
    yes: Annotated[
        bool, typer.Option("--yes", help="Replace files on the board that are not of a flash; copies stay on it.")
    ] = False,
    new_device: Annotated[
        bool, typer.Option("--new-device", help="The board was another device: remove the state of that one.")
    ] = False,
    json: Json = False,
) -> None:
    """Flash agent, program and configuration onto a board.

    Then waits for its first wake. At a terminal it asks for a Wi-Fi that dormouse.toml does not name. Files that a
    person has put on the board are replaced only with --yes, or after a question; their copies stay on the board.
    Exit codes: 0 done, 1 not done, 2 usage error, 3 wrong board or too old a MicroPython, 4 no board caught, 5 flashed
    but the first wake failed.
    """
    from dormouse_host.flash import before, kinds, project
    from dormouse_host.flash.flash import Request
    from dormouse_host.flash.flash import flash as run
    from dormouse_host.flash.ports import Place, attached, choose
    from dormouse_host.flash.starter import remember_wifi

    here = project.read(Path.cwd())
    said = here.device(device)
    kind = kinds.load(board or said.get("board", ""))
    over = project.settings(change)
    over.update({key: value for key, value in (("broker", broker), ("ssid", ssid)) if value is not None})
    files = project.device_files(here, kind, device, over, os.environ)
    if kind.firmware.tool == "none":
        raise HostError("this machine is not flashed: use dormouse agent run app.py", 2)
    if not before.has_network(files) and sys.stdin.isatty():
        over["ssid"], password = _ask_wifi()
        files = project.device_files(here, kind, device, over, {**os.environ, "WIFI_PASSWORD": password})
        if remember_wifi(here.folder, over["ssid"], password):
            _echo("kept in dormouse.toml", err=True)
    before.check_network(files)
    place = Place(port or said.get("port") or choose(kind, attached()).device)
    sleep = max(files.full["connect_every"], files.full["sample_every"])
    wait = sleep * 1.25 + 60 if wait is None else wait
    agree, named = partial(_agree, yes=yes), frozenset(over)
    request = Request(here, kind, place, files, app, wait, watch, agree, named, new_device)
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


def _ask_wifi() -> tuple[str, str]:
    """Name and password of the Wi-Fi, from the terminal."""
    name: str = typer.prompt("Wi-Fi name", err=True)
    password: str = typer.prompt("Wi-Fi password", default="", hide_input=True, show_default=False, err=True)
    return name, password


def _agree(names: Sequence[str], *, yes: bool) -> bool:
    """May these files of a person's be replaced?"""
    if yes or not sys.stdin.isatty():
        return yes
    said = terminal.safe(", ".join(names))
    return typer.confirm(f"Replace files on the board that dormouse did not put there ({said})?", err=True)


def _echo(line: str, *, err: bool = False) -> None:
    """Print a line at once, with control characters escaped."""
    typer.echo(terminal.safe(line), err=err)


def monitor(
    port: Annotated[
        str | None, typer.Argument(metavar="PORT", help="The board's port; default: the one that is connected.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so many seconds.")] = None,
    json: Json = False,
) -> None:
    """Follow a board's log until Ctrl-C.

    Continues over sleeps, in which its port is gone.
    """
    from dormouse_host.flash.first_wake import monitor as run
    from dormouse_host.flash.ports import Place, attached, choose_any

    run(Place(port or choose_any(attached()).device), seconds, _event if json else _echo, terminal.warn)


def _event(line: str) -> None:
    """Print a line of the device's log as JSON, and any other line as text in JSON."""
    from dormouse_host.agent.log import parse

    event = parse(line)
    terminal.json_line({"text": line} if event is None else {"event": event.name, **event.fields})


def firmware(
    context: typer.Context,
    board: BoardName = "",
    port: Port = None,
    file: Annotated[Path | None, typer.Option("--file", help="A .bin for ESP32, a .uf2 for Pico.")] = None,
    erase: Annotated[bool, typer.Option("--erase", help="Erase all of flash first, with files and state.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for a Pico's drive.")] = 60,
    json: Json = False,
) -> None:
    """Install MicroPython on a board.

    Uses esptool, or copies to the drive that a Pico shows while BOOTSEL is held.
    Without --file, mpflash finds and downloads a firmware (pip install 'dormouse-mqtt[firmware]'). Not yet run on
    hardware: the checks and the copy are tested, esptool and mpflash are not ours.
    """
    from dormouse_host.flash import kinds
    from dormouse_host.flash.firmware import install

    kind = kinds.load(board)
    is_copied = file is not None and kind.firmware.tool == "uf2"
    refuse(context, "port" if is_copied else "wait", why="means nothing here: only a .uf2 is copied to a drive")
    install(kind, port, file, erase=erase, wait=wait, say=partial(_echo, err=json))
    if json:
        terminal.json_line({"board": kind.name, "port": port, "file": None if file is None else str(file)})


def romfs(
    board: BoardName = "",
    out: Annotated[Path, typer.Option("--out", help="The image file.")] = Path("agent.romfs"),
    json: Json = False,
) -> None:
    """Build a ROMFS image of the agent.

    The agent runs in place and takes 35 KiB less RAM. The firmware needs a ROM partition (MicroPython 1.25 with
    MICROPY_VFS_ROM; check with `mpremote romfs query`): `mpremote romfs deploy FILE`, then flash. Not yet run on
    hardware.
    """
    from dormouse_host import files
    from dormouse_host.agent import mpy
    from dormouse_host.agent.mpy import image
    from dormouse_host.flash import kinds
    from dormouse_host.flash.files import umqtt

    kind = kinds.load(board)
    if kind.firmware.tool == "none":
        raise HostError("this machine needs no image: use dormouse agent run app.py", 2)
    if out.suffix not in (".romfs", ".img"):
        raise HostError(
            f"--out {out}: mpremote needs the suffix .romfs or .img, as {out.with_suffix('.romfs').name}", 2
        )
    data = image({**mpy.agent_files(kind.port), **umqtt()})
    files.write(out, data, files.PUBLIC)
    if json:
        terminal.json_line({"board": kind.name, "file": str(out), "bytes": len(data)})
    else:
        _echo(f"{out}: {len(data)} bytes; next: mpremote romfs deploy {out}, then dormouse flash")


def doctor(
    port: Annotated[str | None, typer.Argument(metavar="PORT", help="Only this port; default: all boards'.")] = None,
    json: Json = False,
) -> None:
    """Diagnose flashing problems.

    Each finding names one thing to do. Exit code 1 if there is one.
    """
    from dormouse_host.flash.doctor import examine

    findings = examine(port=port)
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
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder; created if it is missing.")] = Path("."),
    json: Json = False,
) -> None:
    """Create a project that works as it stands.

    app.py, dormouse.toml, a test on a virtual board, README.md and .gitignore. Existing files are kept.
    """
    from dormouse_host.flash.starter import init as run

    made = run(folder)
    text = f"{folder}: {'created ' + ', '.join(made) if made else 'nothing to create, all files exist'}"
    terminal.told({"folder": str(folder), "made": list(made)}, text, json=json)


@agent.command("run")
def agent_run(
    app: Annotated[Path, typer.Argument(metavar="APP", help="The program: app.py.")],
    device: Annotated[str, typer.Option("--device", help="The device's id; default: the host's name.")] = "",
    state: Annotated[
        Path | None, typer.Option("--state", help="The state folder; default: one of this user's.")
    ] = None,
    broker: Annotated[str | None, typer.Option("--broker", help="mqtt://host[:port]; also DORMOUSE_BROKER.")] = None,
    change: Set = [],  # noqa: B006
    stay: Annotated[bool, typer.Option("--stay", help="Stay in memory between wakes until SIGTERM.")] = False,
    timer: Annotated[bool, typer.Option("--timer", help="Do nothing before the planned wake.")] = False,
    json: Json = False,
) -> None:
    """Run a device on this machine.

    Runs one wake under CPython, or with --stay one after the other.
    Exit codes: 0 the wake finished, 1 network or broker failed or the state folder is in use, 2 configuration.
    """
    import platformdirs

    from dormouse_host.agent.linux import Agent, default_id
    from dormouse_host.flash import before, kinds, project

    if stay and timer:
        raise HostError("use --stay or --timer, not both", 2)
    name = device or default_id()
    here = project.read(Path.cwd())
    over = project.settings(change)
    if broker is not None:
        over["broker"] = broker
    files = project.device_files(here, kinds.load("POSIX"), name, over, os.environ)
    files = before.anchored(files, terminal.warn, board=False)
    if project.lacks_credential(here, name, files):
        terminal.warn(f"{name} has no credential in {project.PROVISIONED}/, as others have: dormouse provision {name}")
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
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(metavar="BOARD", help="A name from `dormouse board kinds`.", autocompletion=complete_board),
    ],
    folder: Annotated[Path, typer.Option("--dir", help="The folder of its flash, which stays, and of its port.")],
    speed: Annotated[float, typer.Option(min=1, max=1000, help="A factor by which sleep passes faster.")] = 1,
    tcp: Annotated[int, typer.Option(min=0, max=65535, help="The port of socket://127.0.0.1:PORT; 0: any.")] = 0,
    battery: Annotated[float, typer.Option(min=0, max=60, help="The battery's voltage.")] = 4.1,
    firmware: Annotated[
        Path | None, typer.Option("--firmware", help="Run this .uf2 or .bin of MicroPython on an emulated RP2040.")
    ] = None,
    ssid: Annotated[str, typer.Option(help="The access point's name.")] = "virtual",
    password: Annotated[str, typer.Option(help="The access point's password; not a real one.")] = "virtual-password",
    timed: Annotated[
        bool, typer.Option("--timed", help="Take the board's times: imports, Wi-Fi start, TLS handshake, flash.")
    ] = False,
    time: Times = [],  # noqa: B006
    app: Annotated[Path | None, typer.Option("--app", help="Flash this program, as `dormouse flash` does.")] = None,
    device: Annotated[str, typer.Option(help="With --app: the device's id.")] = "virtual",
    broker: Annotated[
        str, typer.Option(help="With --app: its broker, else the project's. An emulated board's host is 10.0.0.1.")
    ] = "",
    lines: Annotated[
        list[str], typer.Option("--line", help="Obey this line before the app is flashed; may be repeated.")
    ] = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Run a virtual board until Ctrl-C.

    Lines on stdin change its surroundings; `help` lists them. With --firmware the board is emulated, which needs pip
    install 'dormouse-mqtt[emulator]'. Without --timed a virtual board is as fast as this machine; what --timed takes is
    in the board's board.toml, and --time sets boot, load (of 1 KiB), radio, handshake, erase or program.
    """
    from dormouse_host.emulated.board import EmulatedBoard
    from dormouse_host.flash.times import parse
    from dormouse_host.processes import Stop
    from dormouse_host.virtual.board import VirtualBoard, Wifi
    from dormouse_host.virtual.device import flash
    from dormouse_host.virtual.script import obey, serve, wrong

    stop = Stop()

    def ended(number: int, _frame: FrameType | None) -> NoReturn:
        stop.set()  # the loop sees this where the exception is swallowed, as in a finaliser
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ended)
    if app is None:
        refuse(context, "device", "broker", why="needs --app")
    wifi = Wifi(ssid=ssid, password=password)
    given = parse(time)
    if firmware and (timed or given):
        raise HostError("an emulated board has its own times: leave out --timed and --time", 2)
    make = partial(EmulatedBoard, firmware=firmware) if firmware else partial(VirtualBoard, timed=given or timed)
    with make(kind, folder, speed=speed, tcp=tcp, battery=battery, wifi=wifi) as running:
        facts = {"board": running.kind.name, "port": running.port, "url": running.url, "flash": str(running.image)}
        if json:
            terminal.json_line(facts)
        else:
            for key, value in facts.items():
                terminal.line(f"{key:6} {value}")
        for line in lines:
            if obey(running, line):
                raise HostError(f"--line {line}: {wrong(running, line)}", 2)
        if app:
            running.wait_boot()
            here = None if firmware else settings(None, broker or None).broker
            said = {"broker": broker or here or f"mqtt://{running.host}"}
            done, full = flash(running, app, device, said, terminal.warn)
            if done.wake and not done.wake.succeeded:  # as on a desk: the board stays, flashed
                terminal.warn(f"{done.wake.explain(full)}; the board runs on: end it with Ctrl-C, and run this again")
        tell = (lambda event: terminal.json_line(event.plain())) if json else (lambda event: terminal.line(str(event)))
        serve(running, tell, stop.is_set)
