"""CLI commands for services: systemd units and a compose file for broker, relays and devices of this machine.

They are written to a folder and nothing is started: each command prints what starts them.
"""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dormouse_host import terminal
from dormouse_host.cli.options import Db, Folder, Json, Project, open_folder, refuse, settings
from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from dormouse_host.broker.services import Machine

PANEL = "Broker"

service = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Write systemd units or a compose file.")

Target = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that they are written to.")]
Relays = Annotated[
    list[str], typer.Option("--relay", metavar="NAME", help="Only these relays; default: all that have a credential.")
]


def register(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(service, name="service", rich_help_panel=PANEL)


@service.command("systemd")
def service_systemd(
    context: typer.Context,
    target: Target,
    folder: Folder = Path("broker"),
    project: Project = Path(),
    relay: Relays = [],  # noqa: B006  (typer copies it)
    device: Annotated[
        list[str], typer.Option("--device", help="Also a device that runs on this machine; may be repeated.")
    ] = [],  # noqa: B006
    app: Annotated[Path, typer.Option("--app", help="With --device: its program, in the project's folder.")] = Path(
        "app.py"
    ),
    own: Annotated[
        bool, typer.Option("--user", help="For this user's own service manager (systemctl --user).")
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Write systemd units for this machine.

    For the broker, the relays, and devices that run here. Nothing is started.
    """
    from dormouse_host.broker import services

    if not device:
        refuse(context, "app", why="needs --device")
    machine = _machine(folder, project, db, own=own)
    names = services.relays(machine.made, relay)
    units = services.systemd(machine, names, device, app)
    _name_ledger(machine)
    _write(target, units)
    systemctl = "systemctl --user" if own else "sudo systemctl"
    place = "~/.config/systemd/user/" if own else "/etc/systemd/system/"
    told = " ".join(shlex.quote(str(target / name)) for name in units)
    copy = f"mkdir -p {place} && cp {told} {place}" if own else f"sudo cp {told} {place}"
    start = f"{copy} && {systemctl} daemon-reload && {systemctl} enable --now {' '.join(units)}"
    linger = "loginctl enable-linger keeps them running while nobody is logged in"
    _tell(target, list(units), [f"start them:  {start}", *([linger] if own else [])], json=json)


@service.command("compose")
def service_compose(
    target: Target,
    folder: Folder = Path("broker"),
    project: Project = Path(),
    relay: Relays = [],  # noqa: B006
    postgresql: Annotated[bool, typer.Option("--postgresql", help="With a PostgreSQL that holds the ledger.")] = False,
    wheel: Annotated[
        Path | None, typer.Option(help="A wheel of dormouse-mqtt for the relays; default: this release.")
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Write a compose file for this machine.

    For the broker, the relays and perhaps PostgreSQL, with health checks. Nothing is started. With --postgresql the
    ledger's URL and password are in the broker's folder, in ledger.env.
    """
    from dormouse_host import files
    from dormouse_host.broker import services

    if postgresql and db:
        raise HostError("use --postgresql or --db, not both", 2)
    made, content = open_folder(folder), wheel.read_bytes() if wheel else b""
    machine = _machine(folder, project, services.database_of_compose(made) if postgresql else db, own=False)
    written = services.compose(machine, services.relays(made, relay), postgresql=postgresql, wheel=wheel)
    _name_ledger(machine)
    _write(target, written)
    if wheel:
        files.write(target / wheel.name, content, files.PUBLIC)
    where = shlex.quote(str(target / "compose.yaml"))
    ledger = shlex.quote(str(machine.ledger_file))
    lines = [f"start them:  docker compose -f {where} up --detach", f"the ledger:  set -a; . {ledger}; set +a"]
    _tell(target, list(written), lines, json=json)


def _name_ledger(machine: "Machine") -> None:
    from dormouse_host.broker import services

    if not services.name_ledger(machine, os.environ):
        where = f"give it in the URL or in PGPASSWORD, or add PGPASSWORD=… to {machine.ledger_file}"
        terminal.warn(f"the ledger's URL has no password: if PostgreSQL asks for one, {where}")


def _machine(folder: Path, project: Path, db: str | None, *, own: bool) -> "Machine":
    from dormouse_host.broker import services
    from dormouse_host.fleet import default_url

    named = settings(db).db or default_url()
    if "://" not in named:
        named = str(Path(named).expanduser().absolute())
    user = None if own else services.user_of_services()
    return services.Machine(open_folder(folder), project.resolve(), named, user, own)


def _write(target: Path, texts: dict[str, str]) -> None:
    from dormouse_host import files

    files.folder(target, 0o755)
    for name, text in texts.items():
        files.write(target / name, text, files.PUBLIC)


def _tell(target: Path, names: list[str], lines: list[str], *, json: bool) -> None:
    if json:
        terminal.json_line({"folder": str(target), "files": names})
        return
    terminal.line(f"{', '.join(names)} in {target}")
    for line in lines:
        terminal.line(line)
