"""Many devices' ids at once: out of a list or a CSV file, or numbered.

A file is a list with an id on each line, or a table whose first row names the columns: `device` (or `id`) is taken.
What is no id is told with file and line, before anything is done with the others.
"""

import csv
import io
from pathlib import Path

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host.errors import HostError

MOST = 100_000  # ids in one call
_HEADS = ("device", "id")
_DELIMITERS = ",;\t"


def listed(path: Path) -> list[str]:
    """The ids in a file, each once, in their order. HostError where there is none, or a line has something else."""
    try:
        said = path.read_bytes().decode("utf-8-sig")  # as spreadsheets write it
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}", 2) from None
    except UnicodeDecodeError:
        raise HostError(f"{path}: not UTF-8: save the file as UTF-8", 2) from None
    head = said.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count) if any(mark in head for mark in _DELIMITERS) else ","
    reader = csv.reader(io.StringIO(said), delimiter=delimiter)
    found: dict[str, None] = {}
    column = None
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells) or cells[0].startswith("#"):
                continue
            if column is None:
                column = _column(cells)
                if column is not None:
                    continue
                if len(cells) > 1:
                    raise HostError(f"{path}, line {reader.line_num}: several columns, and none is called `device`", 2)
                column = 0
            found[_checked(cells[column] if column < len(cells) else "", f"{path}, line {reader.line_num}")] = None
            if len(found) > MOST:
                raise HostError(f"{path}: more than {MOST} devices", 2)
    except csv.Error as error:
        raise HostError(f"{path}, line {reader.line_num}: {error}", 2) from None
    if not found:
        raise HostError(f"{path}: no devices in it: write an id on each line, or a column `device`", 2)
    return list(found)


def _column(cells: list[str]) -> int | None:
    """Where the ids are, if this row names columns."""
    words = [cell.lower() for cell in cells]
    return next((words.index(head) for head in _HEADS if head in words), None)


def _checked(name: str, where: str) -> str:
    try:
        checked: str = protocol.check_device_id(name)
    except ConfigError as error:
        raise HostError(f"{where}: {error.reason}", 2) from None
    return checked


def numbered(prefix: str, count: int, first: int = 1) -> list[str]:
    """`field-01` to `field-50`, all of one length."""
    digits = max(2, len(str(first + count - 1)))
    dash = "" if prefix.endswith(("-", "_", ".")) else "-"
    return [f"{prefix}{dash}{number:0{digits}}" for number in range(first, first + count)]
