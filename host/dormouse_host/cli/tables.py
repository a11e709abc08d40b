"""How exports are printed: one JSON object per line, CSV, or InfluxDB's line protocol.

No cell of a CSV export is a formula. Exports are written row by row, so that one of any length takes little memory.
"""

import csv
import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dormouse_host.influx import line

if TYPE_CHECKING:
    from dormouse_host.fleet import Following

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what makes a cell a formula in a spreadsheet (OWASP, CSV injection)
_READINGS = 2000  # columns for readings at most; others share one

Export = Callable[[], Iterable[Mapping[str, Any]]]


def rows(found: Iterable[Mapping[str, Any]], *, iso: bool = False) -> None:
    """Print an export, one JSON object per line."""
    for row in found:
        sys.stdout.write(json.dumps(_dated(row) if iso else row) + "\n")


def table(export: Export, what: str, *, iso: bool = True) -> None:
    """Print an export as CSV, nested values as JSON. The columns are fixed, whatever the first row has; of telemetry
    there is one for each reading, for which `export` is called twice; what came in between has the column `more`.
    """
    from dormouse_host.fleet import COLUMNS, MORE, VALUES

    found = export()  # refuses what there is no export of
    columns = [column for column in COLUMNS[what] if column not in (VALUES, MORE)]
    readings = _readings(found, VALUES, {*columns, MORE}) if VALUES in COLUMNS[what] else {}
    has_more = not {VALUES, MORE}.isdisjoint(COLUMNS[what])
    written = [*columns, *readings, *([MORE] if has_more else [])]
    writer = csv.writer(sys.stdout)
    writer.writerow(map(_cell, written))
    for row in export():
        flat = dict(_dated(row) if iso else row)
        values = flat.pop(VALUES) if VALUES in COLUMNS[what] else {}
        cells = {column: flat.pop(column, None) for column in columns}
        cells.update((column, values.pop(name, None)) for column, name in readings.items())
        cells[MORE] = {**flat, **values} or None
        writer.writerow([_cell(cells[column]) for column in written])


def influx(found: Iterable[Mapping[str, Any]]) -> None:
    """Print exported telemetry as InfluxDB's line protocol."""
    for row in found:
        _influx(row["device"], row["number"], row["time"], row["values"])


def follow(following: "Following", *, iso: bool, influx: bool) -> None:
    """Print telemetry as it comes, for ever. What was handed over is noted in the ledger then, and not before."""
    from dormouse_host.fleet import TelemetryEvent

    with following:
        for event in following:
            if isinstance(event, TelemetryEvent):
                if influx:
                    _influx(event.device, event.number, event.time, event.values)
                else:
                    row = {"device": event.device, "state": event.state, "number": event.number}
                    rows([{**row, "time": event.time, "at": event.at, "values": event.values}], iso=iso)
            if not following.ahead:
                sys.stdout.flush()
                following.keep()


def _influx(device: str, number: int, time: float, values: Any) -> None:
    if text := line(device, number, time, values):
        sys.stdout.write(f"{text}\n")


def _readings(found: Iterable[Mapping[str, Any]], values: str, taken: Collection[str]) -> dict[str, str]:
    """Column -> reading, of all that is exported, in the order of their names."""
    names: dict[str, None] = {}
    for row in found:
        for name in row[values]:
            if name not in names and len(names) < _READINGS:
                names[name] = None
    return {f"{values}.{name}" if name in taken else name: name for name in sorted(names)}


def _dated(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with ISO 8601 times instead of Unix seconds."""
    from dormouse_host.fleet import TIMES

    return {key: _iso(value) if key in TIMES else value for key, value in row.items()}


def _iso(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return datetime.fromtimestamp(value).astimezone().isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):  # a device may say any number
        return value


def _cell(value: Any) -> Any:
    """A number as it is; text and JSON quoted where a spreadsheet would take them for a formula."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"'{text}" if text.startswith(_FORMULA) else text
