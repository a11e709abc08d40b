"""The fleet as a table: which rows, in which order, and their HTML. No toolkit is needed here.

Must stay true: whatever a device has said is text here; a row costs nothing for devices that are not shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from dormouse_host.desk.charts import figure, shown, spark
from dormouse_host.ledger.lateness import GRACE
from dormouse_host.ledger.overview import Glance

ROWS = 50  # of a page
COLUMNS = {  # key: heading
    "device": "Device",
    "seen": "Seen",
    "due": "Next wake",
    "battery": "Battery",
    "rssi": "Signal",
    "pending": "Pending",
    "agent": "Agent",
    "program": "Program",
    "groups": "Groups",
}


@dataclass(frozen=True)
class Asked:
    """Which rows: `words` are in the device's id, its groups or versions; of a `group`; only the `overdue`, the ones
    with `faults` or the `pending` ones; sorted by a column; the `page` from 0.
    """

    words: str = ""
    group: str = ""
    only: str = ""
    by: str = "device"
    down: bool = False
    page: int = 0


def choose(all_of_them: Sequence[Glance], asked: Asked, now: float) -> tuple[list[Glance], int, Asked]:
    """The rows of the page, how many there are on all pages, and what was asked for with a page that there is."""
    words = asked.words.lower().split()
    found = [each for each in all_of_them if not asked.group or asked.group in each.groups]
    if asked.only == "overdue":
        found = [each for each in found if each.missed(now) > GRACE]
    elif asked.only == "faults":
        found = [each for each in found if each.faults]
    elif asked.only == "pending":
        found = [each for each in found if each.pending]
    if words:
        found = [each for each in found if all(word in _searched(each) for word in words)]
    found = _sorted(found, asked, now)
    page = min(max(0, asked.page), max(0, (len(found) - 1) // ROWS))
    return found[page * ROWS : (page + 1) * ROWS], len(found), replace(asked, page=page)


def _searched(each: Glance) -> str:
    return " ".join((each.id, *each.groups, each.agent, each.program)).lower()


def _sorted(found: list[Glance], asked: Asked, now: float) -> list[Glance]:
    """In the order of a column; where nothing is known they come last, whichever way it is sorted."""
    keys: Mapping[str, Callable[[Glance], Any]] = {
        "device": lambda each: each.id,
        "seen": lambda each: None if each.seen is None else -each.seen,
        "due": lambda each: each.next_due,
        "battery": lambda each: each.battery,
        "rssi": lambda each: each.rssi,
        "pending": lambda each: each.pending,
        "agent": lambda each: each.agent or None,
        "program": lambda each: each.program or None,
        "groups": lambda each: each.groups or None,
    }
    key = keys.get(asked.by, keys["device"])
    known = [each for each in found if key(each) is not None]
    known.sort(key=key, reverse=asked.down)
    return known + [each for each in found if key(each) is None]


def html(rows: Sequence[Glance], batteries: Mapping[str, Sequence[float]], now: float) -> str:
    """The rows of the table's body."""
    if not rows:
        return f'<tr><td colspan="{len(COLUMNS)}" class="dim">No device here.</td></tr>'
    return "".join(_row(each, batteries.get(each.id, ()), now) for each in rows)


def _row(each: Glance, volts: Sequence[float], now: float) -> str:
    battery = "" if each.battery is None else f"{figure(each.battery)} V"
    cells = {
        "device": f'<a href="/device/{quote(each.id)}">{shown(each.id)}</a>{_flags(each)}',
        "seen": moment(each.seen, "never"),
        "due": _due(each, now),
        "battery": spark(volts, f"battery of {each.id}", 80) + f"<span>{battery}</span>",
        "rssi": "" if each.rssi is None else f"{figure(each.rssi)} dBm",
        "pending": f"<b>{each.pending}</b>" if each.pending else "",
        "agent": shown(each.agent),
        "program": shown(each.program),
        "groups": shown(", ".join(each.groups)),
    }
    line = "".join(f'<td class="c-{name}" data-head="{COLUMNS[name]}">{cell}</td>' for name, cell in cells.items())
    return f"<tr>{line}</tr>"


def _flags(each: Glance) -> str:
    flags = [("bad", "fault")] if each.faults else []
    flags += [("dull", "revoked")] if each.revoked else []
    flags += [("open", "updating")] if each.updating else []
    return "".join(f' <span class="flag {tone}">{text}</span>' for tone, text in flags)


def _due(each: Glance, now: float) -> str:
    if each.revoked:
        return '<span class="dim">revoked</span>'
    if each.next_due is None:
        return '<span class="dim">unknown</span>'
    missed = each.missed(now)
    late = "overdue" if missed > GRACE else "late" if missed else "due"
    return f'<span class="{late}">{moment(each.next_due, "")}</span>'


def moment(at: float | None, otherwise: str) -> str:
    """A time that the page's script writes as `4 min ago` or `in 2 h`, and keeps so."""
    return f'<span class="dim">{otherwise}</span>' if at is None else f'<time data-at="{at:.0f}"></time>'
