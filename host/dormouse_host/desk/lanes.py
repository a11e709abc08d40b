"""A device's life as a swim-lane: wakes, silences, commands, results, telemetry, errors, updates, gaps, alerts.

A lane with more marks than can be told apart shows how many there are in each column. Pure, as charts.py is.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from dormouse_host.desk.charts import RIGHT, Scale, axis, duration, shown, svg, tone
from dormouse_host.ledger.lives import Life

WIDTH, ROW, _NAMES = 960, 26, 86
_COLUMN = 3.0  # pixels of a column where marks are too many
_MANY = 300  # marks of a lane that are drawn one by one
_DEEP = 5  # commands that are drawn above each other
_LONGEST = 120  # characters of a mark's text


@dataclass(frozen=True)
class Mark:
    """Something that happened from `at` to `end` (Unix seconds): its class in the style sheet, and its text."""

    at: float
    end: float
    tone: str
    text: str


def lanes_of(life: Life) -> dict[str, list[Mark]]:
    """The lanes by name, each with its marks in order of time; a lane that has none is there all the same."""
    end = life.until
    wakes = [
        Mark(wake.began, wake.began + (wake.awake or 0.0), "wake", _wake(wake.report, wake.awake))
        for wake in life.wakes
    ]
    silent = [Mark(start, until, "bad", f"silent for {duration(until - start)}") for start, until in life.silences]
    commands = [
        Mark(
            each.entered,
            end if each.settled is None else each.settled,
            tone(each.status),
            f"{each.do} {each.status}" + (f": {each.why}" if each.why else ""),
        )
        for each in life.commands
    ]
    results = [
        Mark(each["at"], each["at"], tone(each["status"]), f"{each['do'] or each['id']} {each['status']}")
        for each in life.results
    ]
    records = [Mark(each.time, each.time, "open", f"record {each.number}") for each in life.records]
    errors = [Mark(wake.at, wake.at, "bad", f"wake failed: {wake.failed}") for wake in life.wakes if wake.failed]
    errors += [Mark(wake.at, wake.at, "bad", f"{name}: {why}") for wake in life.wakes for _, name, why in wake.faults]
    updates = [
        Mark(each.entered, end if each.settled is None else each.settled, tone(each.status), f"update {each.status}")
        for each in life.updates
    ]
    gaps = [Mark(start, until, "bad", f"{count} records missing") for start, until, count in life.gaps]
    found = {"wakes": wakes, "silent": silent, "commands": commands, "results": results, "telemetry": records}
    alerts = [
        Mark(each.opened, end if each.closed is None else each.closed, "bad", f"alert {each.kind}: {each.text}")
        for each in life.alerts
    ]
    found |= {"errors": errors, "updates": updates, "gaps": gaps, "alerts": alerts}
    return {name: sorted(marks, key=lambda mark: (mark.at, mark.end, mark.text)) for name, marks in found.items()}


def _wake(report: dict[str, object], awake: float | None) -> str:
    cause = f" by {report['cause']}" if report.get("cause") else ""
    return f"wake {report.get('wake')}{cause}" + (f", {duration(awake)} awake" if awake is not None else "")


def picture(life: Life, zone: tzinfo | None, width: int = WIDTH) -> str:
    """The swim-lane of a life; lanes in which nothing happened are left out, but for the wakes and the commands."""
    scale = Scale(life.since, life.until, _NAMES, width - _NAMES - RIGHT)
    parts: list[str] = []
    top = 6.0
    for name, marks in lanes_of(life).items():
        if not marks and name not in ("wakes", "commands"):
            continue
        drawn, height = _lane(name, marks, scale, top, zone)
        parts.append(
            f'<text class="label" x="{_NAMES - 8}" y="{top + height / 2 + 4:.1f}" text-anchor="end">{name}</text>'
        )
        parts.append(f'<rect class="lane" x="{_NAMES}" y="{top:.1f}" width="{scale.width:.1f}" height="{height:.1f}"/>')
        parts.append(drawn)
        top += height + 5
    told = f"The life of {life.device}: {len(life.wakes)} wakes, {len(life.commands)} commands"
    return svg(width, top + 22, axis(scale, top, zone, 6) + "".join(parts), told, "lanes")


def _lane(name: str, marks: Sequence[Mark], scale: Scale, top: float, zone: tzinfo | None) -> tuple[str, float]:
    """The marks of a lane, and its height."""
    if len(marks) > _MANY:
        return _dense(marks, scale, top, zone), ROW
    if name != "commands":
        return "".join(_drawn(mark, scale, top + 4, ROW - 8, zone) for mark in marks), ROW
    rows: list[float] = []  # up to where each row is taken
    parts = []
    for mark in marks:
        x, end = scale.x(mark.at), max(scale.x(mark.end), scale.x(mark.at) + 3)
        free = next((n for n, taken in enumerate(rows) if taken < x), None)
        if free is None:
            free = len(rows) if len(rows) < _DEEP else min(range(_DEEP), key=rows.__getitem__)
            rows += [0.0] * (free + 1 - len(rows))
        rows[free] = end + 1
        parts.append(_drawn(mark, scale, top + 4 + free * 9, 7, zone))
    return "".join(parts), max(ROW, 8 + 9 * len(rows))


def _drawn(mark: Mark, scale: Scale, y: float, height: float, zone: tzinfo | None) -> str:
    x = scale.x(mark.at)
    width = max(2.5, scale.x(mark.end) - x)
    text = f"{_when(mark.at, zone)} {mark.text}"
    title = shown(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")
    return (
        f'<rect class="{mark.tone}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:g}" rx="1.5">'
        f"<title>{title}</title></rect>"
    )


def _dense(marks: Sequence[Mark], scale: Scale, top: float, zone: tzinfo | None) -> str:
    """A bar for each column in which something is, as high as there is much of it."""
    columns = int(scale.width / _COLUMN) + 1
    begun, ended, wrong = Counter[int](), Counter[int](), set[int]()
    for mark in marks:
        first, last = (scale.column(at, _COLUMN) for at in (mark.at, max(mark.at, mark.end)))
        begun[first] += 1
        ended[last + 1] += 1
        if mark.tone == "bad":
            wrong.add(first)
    held, counts = 0, []
    for column in range(columns):
        held += begun[column] - ended[column]
        counts.append(held)
    parts, most, plain = [], max(counts), marks[0].tone
    for column, count in enumerate(counts):
        if not count:
            continue
        height = max(3.0, (ROW - 4) * count / most)
        tone = "bad" if column in wrong else plain
        at = scale.since + column * _COLUMN * (scale.until - scale.since) / scale.width
        parts.append(
            f'<rect class="{tone}" x="{scale.left + column * _COLUMN:.1f}" y="{top + ROW - 2 - height:.1f}" '
            f'width="{_COLUMN - 0.5:g}" height="{height:.1f}"><title>{count} from {_when(at, zone)}</title></rect>'
        )
    return "".join(parts)


def _when(at: float, zone: tzinfo | None) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S")
