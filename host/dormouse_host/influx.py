"""Telemetry as InfluxDB's line protocol: a line for each record, with its own time.

Must stay true: a record is the same line each time, so that one that is written twice is stored once; two records of a
device never have the same time, or the second would replace the first; a device's words end no line and no field.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

MEASUREMENT = "dormouse"
_DEEP = 8  # levels of nested values
_LAST = 9e9  # seconds; nanoseconds since 1970 fit into 63 bits
_TELLS_APART = 1_000_000  # nanoseconds in the millisecond of a record's time: its number stands there


def line(device: str, number: int, time: float, values: Any) -> str | None:
    """A record as one line, without its end; None where it has no value, or a time that no database takes. `time` is in
    Unix seconds. Numbers are floats, nested values have their names joined by dots, lists and null are left out.
    """
    fields = ",".join(f"{name}={value}" for name, value in _fields(values, "", 0))
    if not fields or not 0 <= time < _LAST:
        return None
    at = round(time * 1000) * _TELLS_APART + number % _TELLS_APART
    return f"{MEASUREMENT},device={_key(device)} {fields} {at}"


def _fields(values: Any, before: str, depth: int) -> Iterator[tuple[str, str]]:
    if not isinstance(values, Mapping) or depth == _DEEP:
        return
    for name, value in values.items():
        key = _key(before + name)
        if isinstance(value, Mapping):
            yield from _fields(value, f"{before}{name}.", depth + 1)
        elif key and (text := _value(value)) is not None:
            yield key if key != "time" else "time_", text


def _value(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            return None
        return repr(number) if math.isfinite(number) else None
    if isinstance(value, str):
        text = _printed(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    return None


def _key(name: str) -> str:
    """A name as a key: a backslash has no meaning of its own there that every reader shares, so there is none."""
    plain = _printed(name).replace("\\", "_")
    return "".join(f"\\{c}" if c in ",= " else c for c in plain)


def _printed(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text)
