"""CLI commands for rollouts: an update or a command for many devices, wave after wave.

A relay carries a rollout on; none of these commands waits for it.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dormouse_host import terminal
from dormouse_host.cli import show
from dormouse_host.cli.options import Db, Json, opened, seconds_until
from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from dormouse_host.fleet import Fleet

PANEL = "Updates"
rollout = typer.Typer(no_args_is_help=True, help="Roll out an update or a command in waves.")
Name = Annotated[str, typer.Argument(metavar="ID", help="The id that `dormouse rollout start` printed.")]


def register(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(rollout, name="rollout", rich_help_panel=PANEL)


@rollout.command("start")
def start(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND [KEY=VALUE]...]", help="A command, if not --app."),
    ] = None,
    app: Annotated[Path | None, typer.Option("--app", metavar="DIR", help="Update to the program in a folder.")] = None,
    agent: Annotated[bool, typer.Option("--agent", help="With --app: the agent, too.")] = False,
    group: Annotated[str | None, typer.Option(help="The devices of a group.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every device.")] = False,
    waves: Annotated[
        str, typer.Option(help="Devices once each wave has begun, as numbers or parts; at last all of them do.")
    ] = "1,10%,100%",
    abort_after: Annotated[int, typer.Option(help="Stop after so many failures.")] = 1,
    missing: Annotated[
        str, typer.Option(help="The part that may be overdue, or not have got it, when the next wave begins.")
    ] = "0%",
    approve: Annotated[bool, typer.Option("--approve", help="Let each further wave wait for `approve`.")] = False,
    min_battery: Annotated[float | None, typer.Option(metavar="V", help="Send nothing below so many volts.")] = None,
    expires: Annotated[str | None, typer.Option(help="Give up after 30s, 5m, 2h, 1d, or at a date.")] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only show the waves and what would be sent.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Start a rollout.

    The first wave begins at once. Failures stop it; what is not yet on trial, or a command not yet begun, is withdrawn
    then.
    """
    from dormouse_host import orders
    from dormouse_host.cli import updates

    said = words or []
    if bool(said) == (app is not None):
        raise HostError("expected --app DIR, or a command", 2)
    if said and (agent or min_battery is not None):
        raise HostError(f"{'--agent' if agent else '--min-battery'} needs --app", 2)
    if every == (group is not None):
        raise HostError("expected --group or --all", 2)
    if abort_after < 1:
        raise HostError("--abort-after: 1 or more", 2)
    life = None if expires is None else seconds_until(expires, time.time())
    until = orders.until(life, time.time())  # what is wrong with these is told before anything else
    least, allowed = orders.volts(min_battery), part(missing)
    counts(waves, 1)  # their form: of one device no wave has fewer than the one before
    with opened(db) as fleet:
        targets = fleet.members(group)
        if not targets:
            raise HostError("no devices yet: dormouse devices add DEVICE", 2)
        built = updates.releases(fleet, targets, app, agent=agent) if app else []
        releases = {device: release for release, reports in built for device in reports}
        if app:
            targets = [device for device in targets if device in releases]
        sizes = counts(waves, len(targets))
        if dry and said:
            orders.alike(targets, {view.id: view for view in fleet.status(group=group)}, said[0], said[1:], until)
        for release, reports in built:
            updates.explain(fleet, release, reports, least)
        if app:
            _warn_of_older(fleet, set(targets))
        steps = [str(one - before) for before, one in zip([0, *sizes], sizes, strict=False)]
        name = ""
        if not dry:
            name = fleet.rollout(
                targets,
                sizes,
                releases=releases or None,
                command=(said[0], said[1:]) if said else None,
                abort_after=abort_after,
                missing=allowed,
                approve=approve,
                expires=life,
                min_battery=least,
            )
        terminal.warn(f"{len(sizes)} wave{'s' if len(sizes) > 1 else ''}: {', '.join(steps)} of {len(targets)} devices")
        if name:
            terminal.told({"id": name, "devices": len(targets)}, name, json=json)


def _warn_of_older(fleet: "Fleet", targets: set[str]) -> None:
    """Which rollouts have some of these devices, and leave them to this one."""
    for view in fleet.rollouts():
        both = sum(member.device in targets for member in view.members)
        if both and view.what == "update" and view.status in ("running", "waiting for approval", "stopped"):
            terminal.warn(f"rollout {view.name} is {view.status}, and leaves {both} devices to this one")


@rollout.command("status")
def status(
    name: Annotated[str | None, typer.Argument(metavar="[ID]", help="One rollout; else all.")] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show rollouts, or one with its devices."""
    with opened(db) as fleet:
        views = fleet.rollouts(name)
        for view in views:
            show.rollout(view, json=json, devices=name is not None)
        if not views and not json:
            terminal.warn("no rollouts yet: dormouse rollout start")


@rollout.command("approve")
def approve(name: Name, db: Db = None, json: Json = False) -> None:
    """Run the next wave of a rollout."""
    _change(name, "approve", db, json=json)


@rollout.command("resume")
def resume(name: Name, db: Db = None, json: Json = False) -> None:
    """Run a rollout that has stopped."""
    _change(name, "resume", db, json=json)


@rollout.command("abort")
def abort(name: Name, db: Db = None, json: Json = False) -> None:
    """End a rollout."""
    _change(name, "abort", db, json=json)


@rollout.command("retry")
def retry(name: Name, db: Db = None, json: Json = False) -> None:
    """Send again where a rollout has failed."""
    _change(name, "retry", db, json=json)


def _change(name: str, order: str, db: str | None, *, json: bool) -> None:
    with opened(db) as fleet:
        fleet.change_rollout(name, order)
        view = fleet.rollouts(name)[0]
        terminal.told({"id": name, "status": view.status}, show.sentence(view), json=json)


def part(text: str) -> float:
    """`20%` as 0.2. HostError for what is none."""
    number = text.removesuffix("%")
    if not (text.endswith("%") and number.isascii() and number.isdigit() and int(number) <= 100):
        raise HostError(f"{text}: expected 0% to 100%", 2)
    return int(number) / 100


def counts(text: str, total: int) -> list[int]:
    """`1,10%,100%` as numbers of devices, each wave's with those before; the last wave is all. HostError where one has
    fewer than the one before, unless that was a number and there are few devices.
    """
    found: list[int] = []
    before = ""
    for word in text.split(","):
        if word.endswith("%"):
            count = max(1, round(part(word) * total))
        elif word.isascii() and word.isdigit() and int(word) > 0:
            count = int(word)
        else:
            raise HostError(f"--waves {text}: expected numbers and parts, as 1,10%,100%", 2)
        is_few = word.endswith("%") and not before.endswith("%")
        before = word
        if found and min(count, total) < found[-1] and not is_few:
            raise HostError(f"--waves {text}: {word} is less than the wave before; they count from the first device", 2)
        if not found or min(count, total) > found[-1]:
            found.append(min(count, total))
    return found if found[-1] == total else [*found, total]
