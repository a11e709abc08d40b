"""What a person, or with --json a program, reads of a fleet.

Must stay true: nothing that came from a device reaches a terminal as a control character, nor a spreadsheet as a
formula; JSON and CSV leave line by line, so that an export of any length takes no memory.
"""

import csv as csv_writer
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dormouse_host.console import Console
from dormouse_host.ledger.views import CommandView, DeviceView

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what makes a cell a formula in a spreadsheet (OWASP, CSV injection)


def safe(text: object) -> str:
    """`text` with what a terminal would act upon written as `\\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def line(text: str) -> None:
    """A line of text on stdout."""
    Console().line(safe(text))


def warn(text: str) -> None:
    """A line on stderr that is not an error."""
    sys.stderr.write(f"dormouse: {safe(text)}\n")


def json_line(value: Mapping[str, Any]) -> None:
    """A JSON object on one line of stdout, at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def when(at: float | None) -> str:
    """A time, as this machine's clock and zone have it."""
    return "never" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def span(seconds: float) -> str:
    """A length of time in its largest fitting unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def nothing(_view: CommandView) -> None:
    """For who wants only the end."""


def progress(device: DeviceView, view: CommandView) -> None:
    """One step of a command that somebody waits for."""
    text, now = f"{view.name} {view.status}", time.time()
    if not view.final and device.next_due:
        late = device.overdue(now)
        text += f"; the device is overdue by {span(late)}" if late else f"; next wake in {span(device.next_due - now)}"
    warn(text)


def command(view: CommandView, *, json: bool) -> None:
    """A command as it stands."""
    if json:
        fields = asdict(view)
        fields["events"] = [{"at": at, "status": status, "why": why} for at, status, why in view.events]
        json_line(fields)
        return
    status = view.status + (f", to be {view.void}" if view.void and not view.final else "")
    line(f"{view.name} {status}: {view.device} {view.do} {_compact(view.args) if view.args else ''}".rstrip())
    if view.value is not None:
        line(f"  value  {_compact(view.value)}")
    if view.why:
        line(f"  why    {view.why}")
    for at, status, why in view.events:
        line(f"  {when(at)}  {status}" + (f" ({why})" if why else ""))


def devices(views: Sequence[DeviceView], now: float, *, json: bool) -> None:
    """Devices side by side."""
    if json:
        for view in views:
            json_line({**asdict(view), "overdue": view.overdue(now)})
        return
    rows = [_device(view, now) for view in views]
    Console().table(["device", "seen", "next wake", "pending", "battery", "rssi", "agent", "dropped"], rows)


def _device(view: DeviceView, now: float) -> list[str]:
    late = view.overdue(now)
    due = "?" if view.next_due is None else f"overdue by {span(late)}" if late else f"in {span(view.next_due - now)}"
    seen = "never" if view.seen is None else f"{span(now - view.seen)} ago"
    said = [safe(view.report.get(key, "")) for key in ("battery", "rssi", "agent")]
    return [view.id, seen, due, str(view.pending), *said, str(view.dropped)]


def rows(found: Iterable[Mapping[str, Any]], *, csv: bool) -> None:
    """An export: a JSON object a line, or CSV with what is nested as JSON."""
    if not csv:
        for row in found:
            sys.stdout.write(json.dumps(row) + "\n")
        return
    writer, head = csv_writer.writer(sys.stdout), None
    for row in found:
        if head is None:
            head = list(row)
            writer.writerow(head)
        writer.writerow([_cell(row.get(key)) for key in head])


def _cell(value: Any) -> Any:
    """A number as it is; text and JSON so that no spreadsheet takes it for a formula."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    text = value if isinstance(value, str) else _compact(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
