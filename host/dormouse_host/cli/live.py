"""Live output on a terminal: a line for a command that is waited for, a bar for many, a table for the fleet.

Only a terminal is drawn on; anything else gets a plain line for each change, or nothing. A drawing is removed when it
ends.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from dormouse_host import terminal
from dormouse_host.cli import keys, show
from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from dormouse_host.fleet import CommandView, DeviceView, Fleet, RelayView, UpdateView

_LOOK = 2.0  # seconds between two queries of the device that is waited for
_COLOURS = {"succeeded": "green", "failed": "red", "rejected": "red", "interrupted": "red", "unknown": "yellow"}
_STEPS = {keys.PAGE_UP: -1, keys.PAGE_DOWN: 1}  # pages
_BAR_FROM = 20  # steps: fewer are over before the bar can be read


def _stderr() -> RichConsole:
    return RichConsole(stderr=True, highlight=False, markup=False, emoji=False)


@contextmanager
def bar(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr. The callback takes the steps done, and their total where `total` is None."""
    console = _stderr()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = console.is_terminal and (total is None or total >= _BAR_FROM)
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done, of=total: progress.update(task, completed=done, total=of)


# ---- one command


@contextmanager
def waiting(fleet: Fleet, device: str) -> Iterator[Callable[[CommandView], None]]:
    """A line on stderr that follows one command. The callback takes each status."""
    console = _stderr()
    line = _Waiting(fleet, device)
    if not console.is_terminal:
        yield lambda view: terminal.warn(line.plain(view))
        return
    with Live(line, console=console, transient=True, refresh_per_second=8):
        yield line.follow


class _Waiting:
    """`⠹ queued → sent → delivered   next wake expected in 12 min`, queried again whenever it is drawn."""

    def __init__(self, fleet: Fleet, device: str) -> None:
        self._fleet = fleet
        self._device = device
        self._spinner = Spinner("dots")
        self._view: CommandView | None = None
        self._looked = 0.0
        self._expected = ""

    def follow(self, view: CommandView) -> None:
        """The command has another status."""
        self._view = view
        self._looked = 0.0

    def plain(self, view: CommandView) -> str:
        """One change, for a log."""
        self._look()
        return f"{view.name} {view.status}" + ("" if view.final else f"; {self._expected}")

    def _look(self) -> None:
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        try:
            (view,) = self._fleet.status(self._device)
            self._expected = show.expected(view, time.time())
            if not any(relay.alive for relay in self._fleet.relays()):
                self._expected = "no relay runs on this ledger: dormouse relay"
        except HostError as error:  # this runs in a thread of its own, and the wait goes on
            self._expected = str(error)

    def __rich__(self) -> Spinner:
        self._look()
        line = Text(no_wrap=True, overflow="ellipsis")
        for status in path(self._view) if self._view else []:
            line.append(" → " if line else "")
            line.append(status, _COLOURS.get(status, "bold"))
        if self._view and not self._view.final:
            line.append(f"   {self._expected}", "dim")
        self._spinner.update(text=line)
        return self._spinner


def path(view: CommandView) -> list[str]:
    """The statuses on the way, each once, without those that last a moment."""
    steps = [status for _, status, _ in view.events if status != "publishing"]
    if not steps or steps[-1] != view.status:
        steps.append(view.status)
    return list(dict.fromkeys(steps))


# ---- many commands


@contextmanager
def settling(total: int) -> Iterator[Callable[[list[CommandView]], None]]:
    """A bar on stderr for commands that are waited for. The callback takes their views."""
    console = _stderr()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)

        def look(views: list[CommandView]) -> None:
            counts = Counter(view.status for view in views)
            text = ", ".join(f"{count} {status}" for status, count in counts.most_common())
            progress.update(task, completed=sum(view.final for view in views), description=text)

        yield look


@contextmanager
def updating(total: int) -> Iterator[Callable[[list[UpdateView]], None]]:
    """A bar on stderr for updates that are waited for, by the bytes that have arrived. The callback takes their views;
    where stderr is no terminal, each change is a line.
    """
    console = _stderr()
    told: dict[str, str] = {}
    percent, text = TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.description}")
    columns = (BarColumn(), percent, text, TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def look(views: list[UpdateView]) -> None:
            counts = Counter(view.status for view in views)
            text = ", ".join(f"{count} {status}" for status, count in counts.most_common())
            if total == 1 and views:
                text = show.standing(views[0])
            all_of_it = sum(view.total for view in views)
            done = sum(view.total if view.final else view.sent for view in views)
            progress.update(task, completed=done, total=all_of_it, description=terminal.safe(text))
            for view in views if not console.is_terminal else ():
                if told.get(view.name) != show.standing(view):
                    told[view.name] = show.standing(view)
                    terminal.warn(f"{view.device}: {told[view.name]}")

        yield look


# ---- the fleet


def watch(fleet: Fleet, group: str | None, every: float, *, json: bool) -> None:
    """Show the fleet until Ctrl-C, or q on a terminal."""
    console = RichConsole(highlight=False, markup=False, emoji=False)
    try:
        if json or not console.is_terminal:
            _tell_changes(fleet, group, every, json=json)
        else:
            with keys.pressed() as pressed, Live(console=console, screen=True, auto_refresh=False) as drawing:
                _draw_fleet(fleet, group, every, console, drawing, pressed)
    except KeyboardInterrupt:
        return


def _draw_fleet(
    fleet: Fleet,
    group: str | None,
    every: float,
    console: RichConsole,
    drawing: Live,
    pressed: Callable[[float], str | None],
) -> None:
    """Draw what the keys have scrolled to, and the ledger anew after `every` seconds."""
    first, looked = 0, -every
    views, relays = fleet.status(None, group), fleet.relays()
    while True:
        if time.monotonic() - looked >= every:
            views, relays, looked = fleet.status(None, group), fleet.relays(), time.monotonic()
        room = _room(console, len(views))
        first = max(0, min(first, len(views) - room))
        drawing.update(_screen(views, relays, first, room), refresh=True)
        key = pressed(max(0.0, every - (time.monotonic() - looked)))
        if key == keys.QUIT:
            return
        first = {keys.HOME: 0, keys.END: len(views)}.get(key or "", first + _STEPS.get(key or "", 0) * room)
        first += {keys.UP: -1, keys.DOWN: 1}.get(key or "", 0)


def _tell_changes(fleet: Fleet, group: str | None, every: float, *, json: bool) -> None:
    """A line for each device at first, and then for each that has changed."""
    told: dict[str, tuple[object, ...]] = {}
    while True:
        now = time.time()
        for view in fleet.status(None, group):
            mark = (
                view.seen,
                view.pending,
                view.state,
                view.dropped,
                view.late(now) > 0,
                view.overdue(now),
                view.groups,
            )
            if told.get(view.id) == mark:
                continue
            told[view.id] = mark
            if json:
                show.devices_json([view], now)
            else:
                terminal.line(f"{terminal.when(now)}  {_sentence(view, now)}")
        sys.stdout.flush()
        time.sleep(every)


def _sentence(view: DeviceView, now: float) -> str:
    said = [
        f"{key} {terminal.safe(view.report[key])}" for key in ("battery", "rssi") if view.report.get(key) is not None
    ]
    parts = [
        f"seen {show.seen(view, now)}",
        f"next wake {show.due(view, now)}",
        f"{view.pending} pending",
        *said,
    ]
    return f"{view.id}  {', '.join(parts)}"


def _room(console: RichConsole, count: int) -> int:
    """The devices that fit: all of them, or one line less, which says which these are."""
    room = max(1, console.height - 5)
    return room if count <= room else max(1, room - 1)


def _screen(views: Sequence[DeviceView], relays: Sequence[RelayView], first: int, room: int) -> Group:
    """A summary, and the devices from `first` on: the late ones before the others, and of these who wakes next."""
    now = time.time()
    ordered = sorted(views, key=lambda view: (-view.late(now), view.next_due is None, view.next_due or 0, view.id))
    shown = ordered[first : first + room]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for head in show.HEAD:
        table.add_column(head, no_wrap=True, overflow="ellipsis", justify="right" if head == "pending" else "left")
    for view in shown:
        style = "red" if view.overdue(now) else "yellow" if view.late(now) else "cyan" if view.pending else ""
        table.add_row(*show.cells(view, now), style=style)
    place = f"{first + 1} to {first + len(shown)} of {len(ordered)}; ↑ ↓ PgUp PgDn Home End scroll, q ends"
    below = [Text(place, "dim", no_wrap=True, overflow="ellipsis")] if len(shown) < len(ordered) else []
    return Group(_summary(views, relays, now), Text(), table, *below)


def _summary(views: Sequence[DeviceView], relays: Sequence[RelayView], now: float) -> Text:
    late = sum(view.overdue(now) for view in views)
    alive = [relay.name for relay in relays if relay.alive]
    text = Text(f"{time.strftime('%H:%M:%S', time.localtime(now))}  ", no_wrap=True, overflow="ellipsis")
    text.append(f"{len(views)} devices, ")
    text.append(f"{late} overdue", "bold red" if late else "")
    text.append(f", {sum(view.pending for view in views)} commands pending; ")
    text.append(f"relay {', '.join(alive)}" if alive else "no relay runs", "" if alive else "bold red")
    return text
