"""The report: one HTML file for others, with its charts as SVG and nothing that is loaded from elsewhere.

Must stay true: the same ledger, span and time zone give the same bytes. So the report ends with the newest moment that
the ledger knows of, and nothing in it says when it was made.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from importlib.resources import files

from dormouse_host.desk import charts, lanes
from dormouse_host.desk.charts import Scale, duration, figure, shown
from dormouse_host.desk.summary import Summary, delays, outcomes, summarize
from dormouse_host.errors import HostError
from dormouse_host.fleet import Fleet
from dormouse_host.terminal import safe

MOST = 500  # devices in one report: beyond that nobody reads it, and it is hundreds of megabytes
_READINGS = 24  # charts of readings for each device
_COMMANDS = 100  # commands that are listed for each device
_FAULTS = 50
_OF_WAKES = {
    "battery": "Battery, V",
    "awake": "Awake in each wake, s",
    "rssi": "Signal, dBm",
    "erases": "Erases of flash in each wake",
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Asked:
    """What to report: the last `seconds` (None: all there is) up to `until` (Unix seconds; None: the newest moment of
    the ledger), of a group or of all; times in `zone`; a battery is empty at `empty_at` volts.
    """

    seconds: float | None
    until: float | None
    group: str | None
    zone: tzinfo
    empty_at: float


def build(fleet: Fleet, asked: Asked) -> str:
    """The report as HTML. HostError where there is nothing to report, or too much for one file."""
    names = fleet.members(asked.group)
    if not names:
        raise HostError("no devices yet: register one with dormouse devices add DEVICE")
    if len(names) > MOST:
        raise HostError(f"{len(names)} devices are too many for one report, which takes {MOST}: pass --group", 2)
    until = fleet.newest() + 1 if asked.until is None else asked.until
    first = fleet.oldest()
    if first is None or first >= until:
        raise HostError("nothing to report yet: no device has been heard, and no command was sent")
    since = max(first, until - asked.seconds) if asked.seconds is not None else first
    found = [summarize(fleet.life(name, since, until), asked.empty_at) for name in names]
    page = _Page(found, asked, since, until)
    return "".join(f"{line}\n" for line in page.lines())


class _Page:
    """The lines of the report."""

    def __init__(self, found: Sequence[Summary], asked: Asked, since: float, until: float) -> None:
        self.found, self.asked, self.since, self.until = found, asked, since, until
        self.zone = asked.zone

    def when(self, at: float | None, form: str = "%Y-%m-%d %H:%M") -> str:
        return "–" if at is None else datetime.fromtimestamp(at, self.zone).strftime(form)

    def lines(self) -> Iterator[str]:
        title = f"Fleet report: {safe(self.asked.group)}" if self.asked.group else "Fleet report"
        style = "".join(files("dormouse_host.desk").joinpath(name).read_text() for name in ("report.css", "charts.css"))
        zone = getattr(self.zone, "key", None) or str(self.zone)
        yield "<!doctype html>"
        yield '<html lang="en"><head><meta charset="utf-8">'
        yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
        yield f"<title>{shown(title)}</title><style>{style}</style></head><body>"
        yield f"<h1>{shown(title)}</h1>"
        span = f"{self.when(self.since)} to {self.when(self.until)}"
        yield f'<p class="dim">{span} ({duration(self.until - self.since)}), times of {shown(zone)}.</p>'
        yield from self.overview()
        for each in self.found:
            yield from self.device(each)
        yield "</body></html>"

    # ---- all of them

    def overview(self) -> Iterator[str]:
        lives = [each.life for each in self.found]
        counted, delay = outcomes(lives), delays(lives)
        silent = sum(1 for each in self.found if each.life.silences and each.life.silences[-1][1] >= self.until)
        facts = [
            ("Devices", f"{len(self.found)}"),
            ("Silent at the end", f"{silent}"),
            ("Wakes", f"{sum(each.wakes for each in self.found)}"),
            ("Commands", f"{sum(counted.values())}"),
            ("Telemetry records", f"{sum(len(life.records) for life in lives)}"),
            ("Records missing or dropped", f"{sum(each.missing + each.life.dropped for each in self.found)}"),
        ]
        yield "<section><h2>The fleet</h2>"
        yield _facts(facts)
        yield "<h3>Commands by outcome</h3>"
        yield _figure(charts.bars(counted, "Commands by outcome")) if counted else _dim("No commands in this time.")
        if delay:
            yield "<h3>Delivery delay</h3>"
            yield _dim("From the entry of a command until its device had it, as far as the ledger was told.")
            yield _facts(
                [
                    ("p50", duration(delay.p50)),
                    ("p95", duration(delay.p95)),
                    ("Worst", duration(delay.worst)),
                    ("The worst command", safe(delay.command)),
                    ("Delivered", f"{delay.count} of {sum(counted.values())}"),
                ]
            )
        yield "<h3>Devices</h3>"
        yield _table(
            (
                "device",
                "wakes",
                "last heard",
                "battery",
                "",
                "empty on",
                "commands",
                "failed",
                "p95",
                "silent",
                "faults",
            ),
            (self.row(each) for each in self.found),
            right=frozenset({1, 3, 6, 7, 8, 9, 10}),
        )
        yield "</section>"

    def row(self, each: Summary) -> list[str]:
        life = each.life
        volts = [value for _, value in life.of_wakes("battery")]
        step = max(1, len(volts) // 60)
        name = shown(life.device)
        failed = sum(count for status, count in each.outcomes.items() if charts.tone(status) == "bad")
        return [
            f'<a href="#d-{name}">{name}</a>',
            f"{each.wakes}",
            self.when(life.wakes[-1].at if life.wakes else None),
            f"{figure(each.battery[1])} V" if each.battery else "–",
            charts.spark(volts[::step], f"battery of {life.device}"),
            self.when(each.empty, "%Y-%m-%d"),
            f"{sum(each.outcomes.values())}",
            _bad(failed),
            duration(each.delays.p95) if each.delays else "–",
            f'<span class="word-bad">{duration(each.silent)}</span>' if each.silent else "0",
            _bad(sum(fault.count for fault in each.faults)),
        ]

    # ---- one

    def device(self, each: Summary) -> Iterator[str]:
        life, scale = each.life, Scale(self.since, self.until)
        name = shown(life.device)
        yield f'<section class="device" id="d-{name}"><h2>{name}</h2>'
        if life.groups:
            yield _dim(f"In {shown(', '.join(life.groups))}.")
        yield _facts(self.facts(each))
        yield "<h3>What it did and when</h3>"
        yield _figure(lanes.picture(life, self.zone))
        if not life.whole:
            yield _dim("More than is drawn: the oldest of this time is left out.")
        if each.faults:
            yield "<h3>Errors</h3>"
            shown_faults = each.faults[:_FAULTS]
            rows = (
                [shown(fault.kind), shown(fault.text), f"{fault.count}", self.when(fault.first), self.when(fault.last)]
                for fault in shown_faults
            )
            yield _table(("kind", "what", "times", "first", "last"), rows, right=frozenset({2}))
            if len(each.faults) > _FAULTS:
                yield _dim(f"{len(each.faults) - _FAULTS} further kinds of errors are left out.")
        if life.silences:
            yield "<h3>Silent times</h3>"
            yield _dim("From when it was due until it was heard, where it missed more than two wakes.")
            rows = (
                [self.when(a), self.when(b) if b < self.until else "the end of this time", duration(b - a)]
                for a, b in life.silences[-_FAULTS:]
            )
            yield _table(("from", "until", "for"), rows, right=frozenset({2}))
        yield from self.drawn(each, scale)
        yield from self.commands(each)
        for note in each.notes:
            yield _dim(shown(note[0].upper() + note[1:] + "."))
        yield "</section>"

    def facts(self, each: Summary) -> list[tuple[str, str]]:
        life = each.life
        days = (self.until - self.since) / 86400
        report = life.wakes[-1].report if life.wakes else {}
        battery, delay = each.battery, each.delays
        return [
            ("Wakes", f"{each.wakes}"),
            ("Last heard", self.when(life.wakes[-1].at if life.wakes else None)),
            ("Commands", ", ".join(f"{count} {name}" for name, count in each.outcomes.items()) or "none"),
            ("Delivery p50, p95", f"{duration(delay.p50)}, {duration(delay.p95)}" if delay else "–"),
            ("Worst delivery", duration(delay.worst) if delay else "–"),
            ("Battery", f"{figure(battery[0])} V → {figure(battery[1])} V" if battery else "–"),
            (f"Empty ({self.asked.empty_at:g} V) on", self.when(each.empty, "%Y-%m-%d")),
            (
                "Awake",
                f"{duration(each.awake)}, {duration(each.awake / days)} a day" if each.awake is not None else "–",
            ),
            ("Energy", f"{figure(each.mah)} mAh, {figure(each.mah / days)} a day" if each.mah is not None else "–"),
            ("Silent", duration(each.silent) if each.silent else "never"),
            ("Telemetry records", f"{len(life.records)}, {each.missing} missing, {life.dropped} dropped"),
            ("Board", safe(each.board or "–")),
            ("Agent, firmware", safe(f"{report.get('agent', '–')}, {report.get('fw', '–')}")[:80]),
        ]

    def drawn(self, each: Summary, scale: Scale) -> Iterator[str]:
        life = each.life
        yield '<div class="charts">'
        for name, title in _OF_WAKES.items():
            points = life.of_wakes(name)
            level = (self.asked.empty_at, "empty") if name == "battery" and each.empty else None
            if points:
                yield _figure(charts.line(points, scale, self.zone, title, level=level), title)
        found = life.readings()
        for name, points in list(found.items())[:_READINGS]:
            yield _figure(charts.line(points, scale, self.zone, name), f"Reading {name[:60]}")
        yield "</div>"
        if len(found) > _READINGS:
            yield _dim(shown(f"{len(found) - _READINGS} further readings are left out."))

    def commands(self, each: Summary) -> Iterator[str]:
        found = [command for command in each.life.commands if command.entered >= self.since]
        if not found:
            return
        yield "<h3>Commands</h3>"
        rows = (
            [
                self.when(command.entered, "%Y-%m-%d %H:%M:%S"),
                shown(
                    f"{command.do} {json.dumps(command.args, ensure_ascii=False)}"[:200] if command.args else command.do
                ),
                f'<span class="word-{charts.tone(command.status)}">{shown(command.status)}</span>',
                duration(max(0.0, command.settled - command.entered)) if command.settled is not None else "–",
                shown((command.why or "")[:200]),
            ]
            for command in found[-_COMMANDS:]
        )
        yield _table(("entered", "command", "status", "took", "why"), rows, right=frozenset({3}))
        if len(found) > _COMMANDS:
            yield _dim(f"The newest {_COMMANDS} of {len(found)} commands.")


# ---- HTML; `shown` has made the texts harmless before, except where a function says that it does


def _dim(text: str) -> str:
    return f'<p class="dim">{text}</p>'


def _bad(count: int) -> str:
    return f'<span class="word-bad">{count}</span>' if count else "0"


def _figure(picture: str, caption: str = "") -> str:
    """A picture with a caption, which is made harmless here."""
    return f"<figure>{picture}" + (f"<figcaption>{shown(caption)}</figcaption>" if caption else "") + "</figure>"


def _facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values, which are made harmless here."""
    return (
        "<dl>" + "".join(f"<div><dt>{shown(name)}</dt><dd>{shown(value)}</dd></div>" for name, value in pairs) + "</dl>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        cell = (f"<{tag}{' class=n' if n in right else ''}>{text}</{tag}>" for n, text in enumerate(cells))
        return f"<tr>{''.join(cell)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table><thead>{line(head, "th")}</thead><tbody>{body}</tbody></table></div>'
