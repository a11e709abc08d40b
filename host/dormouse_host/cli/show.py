"""How commands, devices and exports are printed: as text, or as JSON with --json.

Text from devices is escaped by terminal.py, and no cell of a CSV export is a formula. Exports are written line by line,
so that one of any length takes no memory.
"""

import csv as csv_writer
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dormouse_host import figures
from dormouse_host.terminal import Console, json_line, line, safe, span, warn, when

if TYPE_CHECKING:
    from dormouse_host.fleet import CommandView, DeviceView, Setting, Strangers, UpdateView

_STRANGERS = 5  # ids that are named on a terminal
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what makes a cell a formula in a spreadsheet (OWASP, CSV injection)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def due(view: "DeviceView", now: float) -> str:
    """When a device wakes next, as far as it has said."""
    if view.next_due is None:
        return "?"
    late = view.overdue(now)
    return f"overdue {span(late)}" if late else f"in {span(view.next_due - now)}"


def expected(view: "DeviceView", now: float) -> str:
    """When a device wakes next, as a sentence."""
    if view.seen is None:
        return "the device has never connected"
    if view.next_due is None:
        return "its next wake is unknown"
    late = view.overdue(now)
    return f"overdue by {span(late)}" if late else f"next wake expected in {span(view.next_due - now)}"


def seen(view: "DeviceView", now: float) -> str:
    """When a device was last heard."""
    return "never" if view.seen is None else f"{span(max(0.0, now - view.seen))} ago"


def command(view: "CommandView", *, json: bool, history: bool = True) -> None:
    """Print a command; without its history it is one line."""
    if json:
        fields = asdict(view)
        fields["events"] = [{"at": at, "status": status, "why": why} for at, status, why in view.events]
        json_line(fields)
        return
    status = view.status + (f", to be {view.void}" if view.void and not view.final else "")
    line(f"{view.name} {status}: {view.device} {view.do} {_compact(view.args) if view.args else ''}".rstrip())
    if not history:
        return
    if view.value is not None:
        line(f"  value  {_compact(view.value)}")
    if view.why:
        line(f"  why    {view.why}")
    for at, status, why in view.events:
        line(f"  {when(at)}  {status}" + (f" ({why})" if why else ""))


def standing(view: "UpdateView") -> str:
    """How an update stands: `sending 14 of 37 KB`, `failed: rolled back: …`."""
    text = view.status
    if view.status == "sending":
        text += f" {view.sent // 1024} of {-(-view.total // 1024)} KB"
    return f"{text}: {view.why}" if view.why else text


def devices_json(views: "Sequence[DeviceView]", now: float) -> None:
    """Print devices, one JSON object each."""
    for view in views:
        json_line({**asdict(view), "overdue": view.overdue(now)})


HEAD = ("device", "seen", "next wake", "pending", "battery", "rssi", "agent")


def cells(view: "DeviceView", now: float) -> list[str]:
    """A row below HEAD."""
    said = [safe(view.report.get(key, "")) for key in ("battery", "rssi", "agent")]
    return [view.id, seen(view, now), due(view, now), str(view.pending), *said]


def devices(views: "Sequence[DeviceView]", now: float) -> None:
    """Print a table of devices, and a warning for each that lost telemetry."""
    if not views:
        warn("no devices yet: register one with dormouse devices add DEVICE")
        return
    Console().table(HEAD, [cells(view, now) for view in views])
    for view in views:
        if view.dropped:
            warn(f"{view.id} dropped {view.dropped} telemetry records: its buffer was full")
        for kind, name, why in view.faults:
            warn(f"{view.id} {kind} {name}: {why}")
        for doubt in figures.reported(view.report):
            warn(f"{view.id}: {doubt}")


def strangers(found: "Strangers") -> None:
    """Warn of messages from unregistered ids, and name a few of these."""
    if found.messages:
        names = [*found.names[:_STRANGERS], *(["…"] if found.more or len(found.names) > _STRANGERS else [])]
        warn(
            f"{found.messages} messages from unregistered ids ({', '.join(names)}): register with dormouse devices add"
        )


def device(view: "DeviceView", understood: Mapping[str, Mapping[str, Any]], now: float) -> None:
    """Print all that is known of one device."""
    said = view.report
    ended = said.get("end") if isinstance(said.get("end"), dict) else {}
    facts = [
        ("seen", f"{seen(view, now)} ({when(view.seen)})" if view.seen else "never"),
        ("next wake", due(view, now)),
        ("pending", view.pending),
        ("battery", said.get("battery")),
        ("rssi", said.get("rssi")),
        ("agent", said.get("agent")),
        ("firmware", said.get("fw")),
        ("wake", said.get("wake")),
        ("cause", said.get("cause")),
        ("drained", ended.get("drained") if ended else None),
        *((kind, f"{name}: {why}") for kind, name, why in view.faults),
        ("dropped", view.dropped or None),
        ("payload", f"at most {view.limit} bytes" if view.limit else None),
        ("groups", ", ".join(view.groups) or None),
        ("commands", _signatures(understood) if view.catalogue else "unknown: requested at its next wake"),
    ]
    line(view.id)
    for key, value in facts:
        if value is not None:
            line(f"  {key:<9}  {value}")
    for doubt in figures.reported(said):
        warn(f"{view.id}: {doubt}")


def settings(found: "Sequence[Setting]", *, json: bool) -> None:
    """Print settings, one JSON object each or as a table."""
    if json:
        for each in found:
            json_line(asdict(each))
        return
    texts = [
        [
            safe(each.key),
            safe(_compact(each.value)),
            safe(each.origin) + (_replaced(each.replaced) if each.origin == "command" else ""),
        ]
        for each in found
    ]
    if texts:
        Console().table(("key", "value", "origin"), texts)


def _replaced(value: Any) -> str:
    return f", in place of {'the default' if value is None else safe(_compact(value))}"


def _signatures(understood: Mapping[str, Mapping[str, Any]]) -> str:
    """`water(s:int, note:str="") ping() …`."""
    return " ".join(f"{name}({', '.join(map(_argument, spec.items()))})" for name, spec in understood.items())


def _argument(declared: tuple[str, Any]) -> str:
    name, kind = declared
    return f"{name}:{kind}" if isinstance(kind, str) else f"{name}:{kind[0]}={_compact(kind[1])}"


def rows(found: Iterable[Mapping[str, Any]]) -> None:
    """Print an export, one JSON object per line."""
    for row in found:
        sys.stdout.write(json.dumps(row) + "\n")


def table(found: Iterable[Mapping[str, Any]], what: str) -> None:
    """Print an export as CSV, nested values as JSON. The columns are fixed, whatever the first row has."""
    from dormouse_host.fleet import COLUMNS, MORE

    writer, columns = csv_writer.writer(sys.stdout), COLUMNS[what]
    writer.writerow(columns)
    for row in found:
        more = {key: value for key, value in row.items() if key not in columns or key == MORE}
        writer.writerow([_cell((more or None) if key == MORE else row.get(key)) for key in columns])


def _cell(value: Any) -> Any:
    """A number as it is; text and JSON quoted where a spreadsheet would take them for a formula."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    text = value if isinstance(value, str) else _compact(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
