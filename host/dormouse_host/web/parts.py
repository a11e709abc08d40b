"""The parts of a device's page as HTML. No toolkit is needed here.

Must stay true: whatever a device has said is text here, and bounded.
"""

import json
from collections.abc import Sequence
from datetime import datetime, tzinfo

from dormouse_host.desk import charts
from dormouse_host.desk.charts import Scale, duration, figure, shown
from dormouse_host.fleet import CommandView, DeviceView, Life, LogLine, Setting, UpdateView
from dormouse_host.ledger.lateness import GRACE
from dormouse_host.web.table import moment

_OF_WAKES = {"battery": "Battery, V", "awake": "Awake, s", "rssi": "Signal, dBm", "erases": "Erases of flash"}
_READINGS = 12


def facts(view: DeviceView, life: Life, now: float) -> str:
    """How a device is, by its last report."""
    report = view.report
    missed = view.missed(now)
    due = moment(view.next_due, "unknown")
    silent = sum(end - start for start, end in life.silences)
    facts = {
        "Seen": moment(view.seen, "never"),
        "Next wake": f'<span class="{"overdue" if missed > GRACE else "late" if missed else "due"}">{due}</span>',
        "Missed wakes": f"{missed}",
        "Pending": f"{view.pending}",
        "Battery": _unit(report.get("battery"), "V"),
        "Signal": _unit(report.get("rssi"), "dBm"),
        "Wake": shown(f"{report.get('wake', '–')} {report.get('cause', '')}"[:80]),
        "Agent": shown(str(report.get("agent", "–"))[:80]),
        "Firmware": shown(str(report.get("fw", "–"))[:80]),
        "Groups": shown(", ".join(view.groups) or "–"),
        "Silent in this span": duration(silent) if silent else "never",
        "Records dropped": f"{view.dropped}",
    }
    if view.revoked:
        facts["Revoked"] = moment(view.revoked, "")
    body = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    wrong = "".join(
        f'<p class="word-bad">{shown(f"{kind} {name}: {why}"[:300])}</p>' for kind, name, why in view.faults
    )
    return f'<dl class="facts">{body}</dl>{wrong}'


def _unit(value: object, unit: str) -> str:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{figure(float(value))} {unit}" if known else "–"  # type: ignore[arg-type]


def drawn(life: Life, scale: Scale, zone: tzinfo | None) -> str:
    """The charts of its wakes and its readings."""
    drawn = [(title, life.of_wakes(name)) for name, title in _OF_WAKES.items()]
    drawn += [(f"Reading {name[:60]}", points) for name, points in list(life.readings().items())[:_READINGS]]
    found = [
        f"<figure>{charts.line(points, scale, zone, title)}<figcaption>{shown(title)}</figcaption></figure>"
        for title, points in drawn
        if points
    ]
    return f'<div class="charts">{"".join(found)}</div>' if found else '<p class="dim">Nothing in this span.</p>'


def command(each: CommandView) -> str:
    """A command that is open, with its way so far."""
    way = " → ".join(f"{shown(status)} {moment(at, '')}" for at, status, _ in each.events[-4:])
    named = f"<b>{shown(each.do)}</b> {_args(each)} <code>{shown(each.name)}</code>"
    return f"<div>{named}<br><span class=dim>{way}</span></div>"


def _args(each: CommandView) -> str:
    return shown(json.dumps(each.args, ensure_ascii=False)[:200]) if each.args else ""


def final(commands: Sequence[CommandView], others: bool) -> str:
    """Commands that are final; `others`: there are open ones, too."""
    if not commands:
        return "" if others else '<p class="dim">No commands yet.</p>'
    rows = "".join(
        f"<tr><td>{shown(each.do)} {_args(each)}<br><code class=dim>{shown(each.name)}</code></td>"
        f'<td><span class="word-{charts.tone(each.status)}">{shown(each.status)}</span> {moment(each.settled, "")}'
        f"<br><span class=dim>{shown(_outcome(each))}</span></td></tr>"
        for each in commands
    )
    return table(rows, "Command", "Outcome")


def _outcome(each: CommandView) -> str:
    return (each.why or ("" if each.value is None else json.dumps(each.value, ensure_ascii=False)))[:300]


def table(rows: str, *heads: str) -> str:
    """A table of these rows, which are markup, under these heads, which are text of our own."""
    head = "".join(f"<th>{each}</th>" for each in heads)
    head = f"<thead><tr>{head}</tr></thead>" if heads else ""
    return f'<table class="desk">{head}<tbody>{rows}</tbody></table>'


def settings(found: Sequence[Setting]) -> str:
    """What is known of its settings."""
    if not found:
        return '<p class="dim">Its settings are not known: send it <code>config</code>.</p>'
    rows = "".join(
        f"<tr><td>{shown(each.key[:60])}</td><td>{shown(json.dumps(each.value, ensure_ascii=False)[:120])}</td>"
        f"<td class=dim>{shown(str(each.origin)[:20])}</td></tr>"
        for each in found
    )
    return f'<div class="wide">{table(rows)}</div>'


def updates(found: Sequence[UpdateView]) -> str:
    """Its newest updates."""
    rows = "".join(
        f"<tr><td><code>{shown(each.release)}</code></td>"
        f"<td>{shown(each.status)} {moment(each.settled or each.entered, '')}"
        f"<br><span class=dim>{shown((each.why or '')[:200])}</span></td></tr>"
        for each in found
    )
    return table(rows, "Update", "") if rows else ""


def log(lines: Sequence[LogLine], zone: tzinfo | None) -> str:
    """Lines of its history, the newest first."""
    return "\n".join(
        f"{datetime.fromtimestamp(line.at, zone).strftime('%m-%d %H:%M:%S')} {shown(f'{line.kind}  {line.text}'[:400])}"
        for line in reversed(lines)
    )
