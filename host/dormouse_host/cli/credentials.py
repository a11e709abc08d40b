"""CLI commands for credentials of devices: provision, revoke, rotate, sign.

No secret is an argument or a line of output.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dormouse_host import terminal
from dormouse_host.cli.completion import complete_group
from dormouse_host.cli.options import (
    Count,
    Db,
    Device,
    Devices,
    First,
    Folder,
    Group,
    Json,
    Project,
    Source,
    complete_device,
    ledger_here,
    named,
    open_folder,
    opened,
    refuse,
    say_told,
    seconds_until,
)
from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from dormouse_host.rotation import Rotated

PANEL = "Broker"


def register(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (provision, revoke, rotate, sign):
        app.command(rich_help_panel=PANEL)(command)


def provision(
    context: typer.Context,
    devices: Devices = None,
    folder: Folder = Path("broker"),
    project: Project = Path(),
    source: Source = None,
    count: Count = None,
    first: First = 1,
    missing: Annotated[bool, typer.Option("--missing", help="Pass over devices that have a credential.")] = False,
    group: Annotated[
        str | None, typer.Option(help="Add the devices to this group.", autocompletion=complete_group)
    ] = None,
    cert: Annotated[bool, typer.Option("--cert", help="Create a client certificate instead of a password.")] = False,
    psk: Annotated[
        bool, typer.Option("--psk", help="Create a key that device and broker share; needs MicroPython 1.29.")
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Create devices' credentials at the broker.

    Writes the files that `dormouse flash` puts on the boards, tells the broker once, and registers the devices in the
    ledger: the one that is configured if it exists, or the project's own.
    """
    from dormouse_host import orders
    from dormouse_host.broker import credentials
    from dormouse_host.cli import live

    wanted = named(context, devices, source, count, first)
    made = open_folder(folder)
    if group is not None:
        orders.name(group, "group")
    with ledger_here(db, make=True, need=group is not None) as fleet:
        with live.bar("provisioning", len(wanted)) as tell:
            done = credentials.provision_all(
                made, wanted, project, cert=cert, psk=psk, missing=missing, on_progress=tell
            )
        if fleet:
            fleet.add(*wanted)
            fleet.set_revoked(*wanted, revoked=False)
            if group is not None:
                fleet.group(group, wanted, keep=True)
        else:
            more = f" … ({len(wanted)} devices)" if len(wanted) > 1 else ""
            terminal.warn(
                f"no ledger here: register them where the relay runs, with dormouse devices add {wanted[0]}{more}"
            )
    if json:
        for device, where in done.folders.items():
            told = {"device": device, "folder": str(where), "files": _names(where), "broker_told": done.told}
            terminal.json_line(told)
    elif len(wanted) == 1 and done.folders:
        terminal.line(f"{wanted[0]}: {', '.join(_names(done.folder))} in {done.folder}")
    else:
        passed = len(wanted) - len(done.folders)
        text = f"{len(done.folders)} devices: their files are in {project / credentials.DEVICES}"
        terminal.line(text + (f"; {passed} had a credential" if passed else ""))
    say_told(done.told, made)


def revoke(device: Device, folder: Folder = Path("broker"), db: Db = None, json: Json = False) -> None:
    """Revoke a device's credential at once.

    Where a ledger is at hand, `dormouse status` shows the device as revoked.
    """
    from dormouse_host.broker import credentials

    made = open_folder(folder)
    told = credentials.revoke(made, device)
    with ledger_here(db) as fleet:
        if fleet:
            fleet.set_revoked(device)
    text = f"{device}: credential revoked" + ("" if told else f" in {made.path}")
    terminal.told({"device": device, "broker_told": told}, text, json=json)
    say_told(told, made)


def rotate(
    device: Annotated[
        str | None, typer.Argument(metavar="[DEVICE]", help="A device's id.", autocompletion=complete_device)
    ] = None,
    group: Group = None,
    folder: Folder = Path("broker"),
    project: Project = Path(),
    within: Annotated[
        str | None, typer.Option(help="Stop waiting after 30s, 5m, 2h, 1d; the same call continues.")
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Replace a device's password or certificate by a command.

    Or, with --group, those of a group's devices, each as it wakes. The old one stays valid until the device has the new
    one. A call that was stopped is continued by the same call. With --group, exit code 1 if a device was not done.
    """
    from dormouse_host import rotation

    if (device is None) == (group is None):
        raise HostError("expected DEVICE or --group", 2)

    def tell(name: str) -> None:
        terminal.told({"command": name}, f"{name} sent", json=json)

    patience = None if within is None else seconds_until(within, time.time())
    made = open_folder(folder)
    with opened(db) as fleet:
        if device is not None:
            done = rotation.rotate(made, fleet, device, project, patience, tell)
            _say_rotated(device, done, json=json)
            say_told(done.told, made)
            return
        failed, told = 0, True
        for name, ended in rotation.rotate_all(made, fleet, fleet.members(group), project, patience, tell):
            if isinstance(ended, HostError):
                failed += 1
                terminal.warn(str(ended) if name in str(ended) else f"{name}: {ended}")
            else:
                _say_rotated(name, ended, json=json)
                told = told and ended.told
    if failed:
        raise HostError(f"{failed} devices of {group} keep their credentials for now: the same call goes on")
    say_told(told, made)


def _say_rotated(device: str, done: "Rotated", *, json: bool) -> None:
    text = f"{device} has the new {done.what}" + ("; the broker accepts no other from now on" if done.told else "")
    terminal.told({"device": device, "rotated": done.what, "broker_told": done.told}, text, json=json)


def sign(
    context: typer.Context,
    device: Device,
    project: Project = Path(),
    off: Annotated[bool, typer.Option("--off", help="Stop signing for this device.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Require signed commands of a device.

    The device signs its messages too. It gets its key at the next `dormouse flash`.
    """
    from dormouse_host.broker import credentials

    credentials.check_name(device)
    if off:
        refuse(context, "project", why="means nothing with --off")
    with opened(db) as fleet:
        if off:
            fleet.ledger.set_key(device, None)
            terminal.told({"device": device, "signed": False}, f"{device}: signing is off", json=json)
            return
        fleet.add(device)
        where, key = credentials.sign(device, project)
        fleet.ledger.set_key(device, key)
    text = f"{device}: command_key in {where / 'secrets.json'}; required once the device has signed with it"
    terminal.told({"device": device, "signed": True, "file": str(where / "secrets.json")}, text, json=json)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
