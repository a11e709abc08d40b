"""The device's log as it prints it: one event a line, `dormouse <ms since boot> <name>[ <json object>]`."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """One line of the device's log: `dormouse <ms since boot> <name>[ <json object>]`."""

    name: str
    fields: dict[str, Any]


def parse(line: str) -> Event | None:
    """The event in a line; None where the line is the app's or the interpreter's."""
    words = line.split(" ", 3)
    if len(words) < 3 or words[0] != "dormouse" or not words[1].isdigit():
        return None
    try:
        fields = json.loads(words[3]) if len(words) == 4 else {}
    except ValueError:
        return None
    return Event(words[2], fields) if isinstance(fields, dict) else None


class Lines:
    """Joins pieces to lines; a line of more than 4 KiB without an end is dropped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest if len(rest) <= 4096 else b""
        return [line.decode(errors="replace").rstrip("\r") for line in whole]
