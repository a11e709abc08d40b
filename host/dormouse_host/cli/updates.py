"""CLI commands for updates over the air: update, with list, cancel and history.

The id is printed once the update is in the ledger, before the wait. With `--wait`, exit code 0 means that each device
has kept the release.
"""

import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dormouse_host import terminal
from dormouse_host.cli import show
from dormouse_host.cli.commands import cancel_update
from dormouse_host.cli.options import Db, Json, complete_device, given, opened, seconds_until
from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from dormouse_host.fleet import Fleet
    from dormouse_host.release import Release

PANEL = "Updates"
_SHOWN = 12  # files that are listed
_HEAD = ("id", "device", "release", "status", "ordered")


def register(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel=PANEL)(update)


def update(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DEVICE | list [DEVICE] | cancel ID | history [DEVICE]]",
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
    from dormouse_host import orders

    said = words or []
    if said and said[0] in ("list", "history", "cancel"):
        options = ("app", "agent", "min_battery", "expires", "every", "group", "dry", "wait", "within")
        if given(context, *options):
            raise HostError(f"update {said[0]} takes no option but --db and --json", 2)
        return (_cancel if said[0] == "cancel" else _list)(said, db, json=json)
    if every and group is not None:
        raise HostError("use --all or --group, not both", 2)
    if len(said) != (0 if every or group is not None else 1):
        raise HostError("expected one DEVICE, or --group or --all", 2)
    if within is not None and not wait:
        raise HostError("--within needs --wait", 2)
    if wait and dry:
        raise HostError("use --dry-run or --wait, not both", 2)
    life = None if expires is None else seconds_until(expires, time.time())
    patience = None if within is None else seconds_until(within, time.time())
    with opened(db) as fleet:
        targets = fleet.members(group) if every or group is not None else said
        if not targets:
            raise HostError("no devices yet: dormouse devices add DEVICE", 2)
        orders.until(life, time.time())  # what is wrong with it is told before anything else
        names: list[str] = []
        for release, reports in releases(fleet, targets, app, agent=agent):
            explain(fleet, release, reports, orders.volts(min_battery))
            if not dry:
                names += _enter(fleet, list(reports), release, life, min_battery, json=json)
        if wait and names:
            _wait(fleet, names, patience, json=json)
    return None


def releases(
    fleet: "Fleet", targets: list[str], folder: Path, *, agent: bool
) -> "list[tuple[Release, dict[str, dict[str, Any]]]]":
    """A release for each kind of board among the devices, with those that it is for and their last reports. Of several
    devices those that can't have one are left out, and named.
    """
    from dormouse_host.flash import kinds as boards
    from dormouse_host.flash import project
    from dormouse_host.flash.releases import build, kind_of

    if not folder.is_dir():
        raise HostError(f"--app {folder}: no such folder", 2)
    here = project.read(folder)
    last = {view.id: view.report for view in fleet.status(targets[0] if len(targets) == 1 else None)}
    kinds: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    left: dict[str, list[str]] = defaultdict(list)  # why -> devices
    for target in targets:
        report = last[target]
        try:
            if not report:
                raise HostError("it has never connected: flash it first", 1)
            board = kind_of(str(report.get("fw", "")))
            if agent and board is None:
                raise HostError("--agent: the agent of a process is updated where it runs, by pip", 2)
        except HostError as error:
            if len(targets) == 1:
                raise HostError(f"{target}: {error}", error.code) from None
            left[str(error)].append(target)
            continue
        kinds[board.name if board else ""][target] = report
    for why, devices in left.items():
        terminal.warn(f"left out: {', '.join(devices[:_SHOWN])}{' and more' if len(devices) > _SHOWN else ''}: {why}")
    if not kinds:
        raise HostError("none of these devices can be updated", 1)
    found: dict[str, tuple[Release, dict[str, dict[str, Any]]]] = {}
    for name, reports in kinds.items():
        release = build(here, boards.load(name) if name else None, agent=agent)
        found.setdefault(release.id, (release, {}))[1].update(reports)
    return list(found.values())


def explain(fleet: "Fleet", release: "Release", reports: dict[str, dict[str, Any]], min_battery: float | None) -> None:
    """What changes on the first of these devices, what that takes, and what will not hold for some."""
    from dormouse_host.flash.releases import kind_of
    from dormouse_host.lab import update_cost

    first, report = next(iter(reports.items()))
    cost = update_cost.of(release, fleet.running_manifest(first), kind_of(str(report.get("fw", ""))), [report])
    count = len(release.files)
    mah = f"; some {cost.mah:.3f} mAh" if cost.mah is not None else ""
    terminal.warn(
        f"release {release.id} for {_named(list(reports))}: {count} file{'' if count == 1 else 's'}, at most"
        f" {cost.size} bytes to send; {cost.wakes} wakes and the trial{mah}"
    )
    for name, size, mark in cost.files[:_SHOWN]:
        terminal.warn(f"  {name}  {f'{size} bytes ' if size else ''}{mark}".rstrip())
    if len(cost.files) > _SHOWN:
        terminal.warn(f"  and {len(cost.files) - _SHOWN} more")
    unknown = [device for device, report in reports.items() if not isinstance(report.get("battery"), int | float)]
    if min_battery is not None and unknown:
        terminal.warn(f"--min-battery holds back nothing where no voltage is reported: {_named(unknown)}")
    processes = [device for device, report in reports.items() if str(report.get("fw", "")).startswith("cpython")]
    if processes:
        terminal.warn(f"a process of `dormouse agent run` has no slots and refuses an update: {_named(processes)}")


def _named(devices: list[str]) -> str:
    return devices[0] if len(devices) == 1 else f"{devices[0]} and {len(devices) - 1} more"


def _enter(
    fleet: "Fleet",
    devices: list[str],
    release: "Release",
    life: float | None,
    min_battery: float | None,
    *,
    json: bool,
) -> list[str]:
    before = {view.name for view in fleet.updates()}
    names = fleet.update(devices, release, expires=life, min_battery=min_battery)
    for name, device in zip(names, devices, strict=True):
        if name in before:
            terminal.warn(f"{device}: this release is on its way already")
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
        show.update(view, json=json)
    if any(view.status != "succeeded" for view in views):
        raise typer.Exit(1)


def _list(words: list[str], db: str | None, *, json: bool) -> None:
    history = words[0] == "history"
    if len(words) > 2:
        raise HostError(f"expected {words[0]} [DEVICE]", 2)
    device = words[1] if len(words) == 2 else None
    with opened(db) as fleet:
        found = fleet.updates(device, final=history)
        if json:
            for view in found:
                show.update(view, json=True, history=False)
            return
        if not found:
            terminal.warn(_none(fleet, device, history=history))
            return
        now = time.time()
        rows = [[v.name, v.device, v.release, show.standing(v), f"{terminal.span(now - v.entered)} ago"] for v in found]
        terminal.table(_HEAD, rows)


def _none(fleet: "Fleet", device: str | None, *, history: bool) -> str:
    """Why the list is empty, and where the others are. HostError where the device is not known."""
    if not history and fleet.updates(device, final=True):
        return "no update is under way: dormouse update history lists all"
    if device is not None:
        fleet.status(device)
    return f"no updates yet: dormouse update {device or 'DEVICE'}"


def _cancel(words: list[str], db: str | None, *, json: bool) -> None:
    if len(words) != 2:
        raise HostError("expected cancel ID", 2)
    with opened(db) as fleet:
        cancel_update(fleet, words[1], json=json)
