"""A wake's timeline as SVG: what was sent and received, and when the radio could go off; ours above the others.

Every mark is a chunk at the time at which the proxy saw it, on one scale for all.
"""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from dormouse_host.lab.bench.cases import DELAY, Row

_WIDTH, _LEFT, _LANE, _TOP = 960, 120, 74, 46
_COLOURS = {"ours": "#1f7a4d", "plain": "#b4552d", "tuned": "#a07d1c"}


def picture(rows: Sequence[Row]) -> str:
    """The SVG of these rows, which are of one case."""
    trip = 2 * DELAY
    longest = max(row.asleep for row in rows)
    scale = (_WIDTH - _LEFT - 20) / longest
    height = _TOP + _LANE * len(rows) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15" fill="#222222">{rows[0].commands} commands queued, {rows[0].records} '
        f"records stored: one wake at {round(trip * 1000)} ms a round trip</text>",
    ]
    for lane, row in enumerate(rows):
        parts += _lane(row, _TOP + _LANE * lane, scale, trip)
    bottom = height - 26
    step = 1 if longest < 12 else 5
    for n in range(0, int(longest) + 1, step):
        x = _LEFT + n * scale
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle" fill="#666666">{n}</text>')
    parts.append(f'<text x="8" y="{bottom + 15}" fill="#666666">round trips</text></svg>')
    return "\n".join(parts) + "\n"


def _lane(row: Row, top: float, scale: float, trip: float) -> list[str]:
    colour = _COLOURS.get(row.style, "#444444")
    end, useful, middle = _LEFT + row.asleep * scale, _LEFT + row.useful * scale, top + 26
    bar = f'y="{middle - 4}" height="8" fill="{colour}"'
    parts = [
        f'<text x="8" y="{middle + 4}" fill="#222222">{escape(row.style)}</text>',
        f'<rect x="{_LEFT}" width="{useful - _LEFT:.1f}" {bar} opacity="0.75"/>',
        f'<rect x="{useful:.1f}" width="{end - useful:.1f}" {bar} opacity="0.25"/>',
        f'<text x="{min(end + 6, _WIDTH - 90):.1f}" y="{middle - 10}" fill="{colour}">asleep: {row.asleep:.1f}</text>',
    ]
    for seconds, up, _ in row.flights:
        x = _LEFT + (1 + seconds / trip) * scale
        y = middle - 16 if up else middle + 16
        parts.append(f'<line x1="{x:.1f}" y1="{middle}" x2="{x:.1f}" y2="{y}" stroke="{colour}" stroke-width="1.2"/>')
    return parts
