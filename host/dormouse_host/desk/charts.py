"""Charts as SVG text: lines, spark lines, bars, and the time axis under them.

Pure: the same values give the same bytes, whatever the machine. Colours are classes that the page's or the report's
style sheet gives; every text is escaped here, and nothing in a chart can be a link or a script.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from html import escape

from dormouse_host.terminal import safe

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 520, 140, 52, 12, 10, 22
MINUTE, HOUR, DAY = 60, 3600, 86400
_STEPS = (1, 5, 15, 30, *(MINUTE * n for n in (1, 5, 15, 30)), *(HOUR * n for n in (1, 3, 6, 12)))
_DAYS = (1, 2, 7, 14, 28, 56, 112, 224, 448)
_FEWEST_PIXELS = 78  # between two labels of the time axis
Points = Sequence[tuple[float, float]]


def shown(text: object) -> str:
    """A text as HTML and SVG show it: no markup, and control characters written out."""
    return escape(safe(text))


@dataclass(frozen=True)
class Scale:
    """A span of time (Unix seconds) on `width` pixels from `left` on."""

    since: float
    until: float
    left: float = LEFT
    width: float = WIDTH - LEFT - RIGHT

    def x(self, at: float) -> float:
        """Where a time is drawn; one outside of the span at its edge."""
        part = (at - self.since) / max(self.until - self.since, 1e-9)
        return self.left + self.width * min(1.0, max(0.0, part))

    def column(self, at: float, wide: float) -> int:
        """Which column of so many pixels a time falls into."""
        return int((self.x(at) - self.left) / wide)


def axis(scale: Scale, bottom: float, zone: tzinfo | None, top: float = TOP) -> str:
    """Lines and labels of the time axis, at round times of that time zone; None: this machine's."""
    seconds = max(scale.until - scale.since, 1.0)
    least = seconds * _FEWEST_PIXELS / scale.width
    step = next((step for step in (*_STEPS, *(DAY * n for n in _DAYS)) if step >= least), DAY * _DAYS[-1])
    first = datetime.fromtimestamp(scale.since, zone)
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    at = midnight + math.ceil((scale.since - midnight) / step) * step
    parts = []
    while at <= scale.until:
        x = scale.x(at)
        local = datetime.fromtimestamp(at, zone)
        if step >= DAY or (local.hour, local.minute, local.second) == (0, 0, 0):
            label = local.strftime("%d %b" if seconds < 300 * DAY else "%d %b %Y")
        else:
            label = local.strftime("%H:%M:%S" if step < MINUTE else "%H:%M")
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom:.1f}"/>')
        parts.append(f'<text class="label" x="{x:.1f}" y="{bottom + 15:.1f}" text-anchor="middle">{label}</text>')
        at += step
    return "".join(parts)


def svg(width: float, height: float, body: str, title: str, kind: str = "chart") -> str:
    """An SVG picture; `title` is what a screen reader says of it."""
    named = shown(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{named}">{body}</svg>'
    )


def thinned(points: Points, scale: Scale, wide: float = 2.0) -> list[tuple[float, float]]:
    """At most four points for each column: its first, lowest, highest and last, so that no peak is lost."""
    if len(points) <= 2 * scale.width / wide:
        return list(points)
    columns: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        columns.setdefault(scale.column(point[0], wide), []).append(point)
    found = []
    for of_column in columns.values():
        ends = {of_column[0], of_column[-1]}
        ends |= {min(of_column, key=lambda point: point[1]), max(of_column, key=lambda point: point[1])}
        found += sorted(ends)
    return found


def _round_up(value: float) -> float:
    """1, 2 or 5 times a power of ten, not below `value`."""
    power = 10 ** math.floor(math.log10(value))
    return float(next(times * power for times in (1, 2, 5, 10) if times * power >= value * (1 - 1e-9)))


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round values from below `low` to above `high`."""
    if high - low < 1e-9 * max(1.0, abs(low)):
        spread = max(abs(low) * 0.05, 0.5)
        low, high = low - spread, high + spread
    step = _round_up((high - low) / about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * n for n in range(first, last + 1)]


def line(
    points: Points, scale: Scale, zone: tzinfo | None, title: str, *, level: tuple[float, str] | None = None
) -> str:
    """A line chart of (Unix seconds, value); `level`: a value that is drawn across, with its name."""
    if not points:
        return ""
    values = [value for _, value in points] + ([level[0]] if level else [])
    marks = ticks(min(values), max(values))
    low, high, bottom = marks[0], marks[-1], HEIGHT - BOTTOM
    down = (bottom - TOP) / (high - low)
    parts = [axis(scale, bottom, zone)]
    for mark in marks:
        y = bottom - (mark - low) * down
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text class="label" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{figure(mark)}</text>')
    drawn = [(scale.x(at), bottom - (value - low) * down) for at, value in thinned(points, scale)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
    parts.append(f'<polyline class="curve" points="{path}"/>')
    if len(drawn) <= 60:
        parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in drawn]
    if level:
        y = bottom - (level[0] - low) * down
        parts.append(f'<line class="level" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="label" x="{WIDTH - RIGHT - 2}" y="{y - 3:.1f}" text-anchor="end">{shown(level[1])}</text>'
        )
    told = f"{title}: {figure(points[-1][1])} at last, from {figure(min(values))} to {figure(max(values))}"
    return svg(WIDTH, HEIGHT, "".join(parts), told)


def spark(values: Sequence[float], title: str, width: int = 110, height: int = 22) -> str:
    """A spark line, the newest value at the right."""
    if not values:
        return ""
    low, high = min(values), max(values)
    spread = max(high - low, 0.05, abs(high) * 0.01)
    base = (low + high - spread) / 2
    across = (width - 6) / max(1, len(values) - 1)
    points = [(3 + n * across, height - 3 - (value - base) / spread * (height - 6)) for n, value in enumerate(values)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    end = f'<circle class="dot" cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="2"/>'
    return svg(width, height, f'<polyline class="curve" points="{path}"/>{end}', title, "spark")


def bars(counts: Mapping[str, int], title: str) -> str:
    """A bar for each count."""
    if not counts:
        return ""
    most, row = max(counts.values()), 22
    parts = []
    for n, (name, count) in enumerate(counts.items()):
        y = 4 + n * row
        width = max(2.0, (WIDTH - 180) * count / most)
        parts.append(f'<text class="label" x="104" y="{y + 13}" text-anchor="end">{shown(name)}</text>')
        parts.append(f'<rect class="{tone(name)}" x="112" y="{y + 2}" width="{width:.1f}" height="15" rx="2"/>')
        parts.append(f'<text class="label" x="{118 + width:.1f}" y="{y + 13}">{count}</text>')
    return svg(WIDTH, 8 + row * len(counts), "".join(parts), title)


def tone(status: str) -> str:
    """The class of a status: `good`, `bad`, `dull` for what is void, and `open`."""
    if status == "succeeded":
        return "good"
    if status in ("failed", "rejected", "interrupted", "unknown", "rolled back"):
        return "bad"
    return "dull" if status in ("cancelled", "expired") else "open"


def figure(value: float) -> str:
    """A number as people write it: at most four digits that count."""
    if value == 0 or abs(value) < 1e-9:
        return "0"
    if abs(value) >= 10_000 and value == round(value) and abs(value) < 1e15:
        return f"{value:.0f}"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """A duration in two units at most: `4.2 s`, `12 min`, `3 h 20 min`, `2 d 5 h`."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    whole = round(seconds / 60)
    if whole < 60:
        return f"{whole} min"
    hours, minutes = divmod(whole, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / HOUR), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
