"""CLI commands for updates over the air: update, with list, cancel and history.

The id is printed once the update is in the ledger, before the wait. With `--wait`, exit code 0 means that each device
has kept the release.
"""

import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dormouse_host import terminal
from dormouse_host.cli import show
from dormouse_host.cli.options import Db, Json, complete_device, opened, seconds_until
from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from dormouse_host.fleet import Fleet, UpdateView
    from dormouse_host.release import Release

PANEL = "Updates"
_SHOWN = 12  # files that are listed
_HEAD = ("id", "device", "release", "status", "since")


def register(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel=PANEL)(update)


def update(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DEVICE | list | cancel ID | history [DEVICE]]",
            help="The device to update (not with --all or --group), or what to do with updates.",
            autocompletion=complete_device,
        ),
    ] = None,
    app: Annotated[Path, typer.Option("--app", metavar="DIR", help="The program's folder.")] = Path(),
    agent: Annotated[bool, typer.Option("--agent", help="Update the agent, too.")] = False,
    min_battery: Annotated[float | None, typer.Option(metavar="V", help="Send nothing below so many volts.")] = None,
    expires: Annotated[str | None, typer.Option(help="Give up after 30s, 5m, 2h, 1d, or at a date.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Update every device.")] = False,
    group: Annotated[str | None, typer.Option(help="Update every device of a group.")] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only show what would be sent.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the verdict; exit code 0 if it succeeded.")] = False,
    within: Annotated[str | None, typer.Option(help="With --wait: stop waiting after 30s, 5m, 2h, 1d.")] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Update the program of devices over the air.

    The release goes into the slot that does not run, over as many wakes as it takes. It is kept after one wake in which
    all went well; else the device goes back to the one before, and says why.
    """
    said = words or []
    if said[:1] == ["list"] or said[:1] == ["history"]:
        return _list(said, db, json=json)
    if said[:1] == ["cancel"]:
        return _cancel(said, db, json=json)
    if every and group is not None:
        raise HostError("use --all or --group, not both", 2)
    if len(said) != (0 if every or group is not None else 1):
        raise HostError("expected one DEVICE, or --group or --all", 2)
    if within is not None and not wait:
        raise HostError("--within needs --wait", 2)
    life = None if expires is None else seconds_until(expires, time.time())
    patience = None if within is None else seconds_until(within, time.time())
    with opened(db) as fleet:
        targets = fleet.members(group) if every or group is not None else said
        if not targets:
            raise HostError("no devices yet: dormouse devices add DEVICE", 2)
        names: list[str] = []
        for release, devices in releases(fleet, targets, app, agent=agent):
            _explain(fleet, release, devices)
            if not dry:
                names += _enter(fleet, devices, release, life, min_battery, json=json)
        if wait and names:
            _wait(fleet, names, patience, json=json)
    return None


def releases(fleet: "Fleet", targets: list[str], folder: Path, *, agent: bool) -> "list[tuple[Release, list[str]]]":
    """A release for each kind of board among the devices, with those that it is for."""
    from dormouse_host.flash import project
    from dormouse_host.flash.releases import build, kind_of

    if not folder.is_dir():
        raise HostError(f"--app {folder}: no such folder", 2)
    here = project.read(folder)
    kinds: dict[str, list[str]] = defaultdict(list)
    for target in targets:
        report = fleet.status(target)[0].report
        if not report:
            raise HostError(f"{target} has never connected: flash it first", 1)
        board = kind_of(str(report.get("fw", "")))
        kinds[board.name if board else ""].append(target)
    from dormouse_host.flash import kinds as boards

    found = []
    for name, devices in kinds.items():
        found.append((build(here, boards.load(name) if name else None, agent=agent), devices))
    return found


def _explain(fleet: "Fleet", release: "Release", devices: list[str]) -> None:
    """What changes on the first of these devices, and what that takes."""
    from dormouse_host.flash.releases import kind_of
    from dormouse_host.lab import update_cost

    report = fleet.status(devices[0])[0].report
    board = kind_of(str(report.get("fw", "")))
    cost = update_cost.of(release, fleet.running_manifest(devices[0]), board, [report])
    count = len(release.files)
    who = devices[0] if len(devices) == 1 else f"{devices[0]} and {len(devices) - 1} more"
    mah = f"; some {cost.mah:.3f} mAh" if cost.mah is not None else ""
    terminal.warn(
        f"release {release.id} for {who}: {count} file{'' if count == 1 else 's'}, at most {cost.size} bytes to send;"
        f" {cost.wakes} wakes and the trial{mah}"
    )
    for name, size, mark in cost.files[:_SHOWN]:
        terminal.warn(f"  {name}  {f'{size} bytes ' if size else ''}{mark}".rstrip())
    if len(cost.files) > _SHOWN:
        terminal.warn(f"  and {len(cost.files) - _SHOWN} more")


def _enter(
    fleet: "Fleet",
    devices: list[str],
    release: "Release",
    life: float | None,
    min_battery: float | None,
    *,
    json: bool,
) -> list[str]:
    names = fleet.update(devices, release, expires=life, min_battery=min_battery)
    for name, device in zip(names, devices, strict=True):
        if json:
            terminal.json_line({"id": name, "device": device, "release": release.id})
        else:
            terminal.line(name if len(names) == 1 else f"{name} {device}")
    return names


def _wait(fleet: "Fleet", names: list[str], patience: float | None, *, json: bool) -> None:
    from dormouse_host.cli import live

    try:
        with live.updating(len(names)) as look:
            views = fleet.wait_updates(names, patience, look)
    except KeyboardInterrupt:
        terminal.warn("stopped waiting; the update goes on: dormouse update list")
        raise
    for view in views:
        _show(view, json=json)
    if any(view.status != "succeeded" for view in views):
        raise typer.Exit(1)


def _show(view: "UpdateView", *, json: bool) -> None:
    if json:
        events = [{"at": at, "status": status, "why": why} for at, status, why in view.events]
        terminal.json_line({**asdict(view), "events": events})
        return
    terminal.line(f"{view.name} {view.device} {show.standing(view)}")
    for at, status, why in view.events:
        terminal.line(f"  {terminal.when(at)}  {status}" + (f" ({why})" if why else ""))


def _list(words: list[str], db: str | None, *, json: bool) -> None:
    history = words[0] == "history"
    if len(words) > (2 if history else 1):
        raise HostError("expected list, or history [DEVICE]", 2)
    device = words[1] if len(words) == 2 else None
    with opened(db) as fleet:
        found = fleet.updates(device, final=history)
        if json:
            for view in found:
                terminal.json_line(asdict(view))
            return
        if not found:
            terminal.warn(_none(fleet, device, history=history))
            return
        now = time.time()
        rows = [[v.name, v.device, v.release, show.standing(v), f"{terminal.span(now - v.entered)} ago"] for v in found]
        terminal.table(_HEAD, rows)


def _none(fleet: "Fleet", device: str | None, *, history: bool) -> str:
    """Why the list is empty, and where the others are."""
    if history:
        return "no update has ended yet: dormouse update list"
    if fleet.updates(device, final=True):
        return "no update is under way: dormouse update history lists those that have ended"
    return "no updates yet: dormouse update DEVICE"


def _cancel(words: list[str], db: str | None, *, json: bool) -> None:
    if len(words) != 2:
        raise HostError("expected cancel ID", 2)
    with opened(db) as fleet:
        _show(fleet.cancel_update(words[1]), json=json)
