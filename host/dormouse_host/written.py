"""Files that people write: dormouse.toml, programs, JSON. What is wrong in one is told with file, line and key.

JSON is judged by the device's own rules, so that host and device never differ over a file. No error repeats a value.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from dormouse import codec
from dormouse.errors import ConfigError
from dormouse_host.errors import HostError

_MARKS = ((b"\xef\xbb\xbf", "UTF-8 with a byte order mark"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
_TABLE = re.compile(r"\s*\[{1,2}([^\[\]]+)\]")
_KEY = re.compile(r"\s*([\w.\-\"']+)\s*=")


def text(path: Path, data: bytes | None = None) -> str:
    """The text of a file, which is UTF-8; `data` where it has been read already. HostError naming the line."""
    data = path.read_bytes() if data is None else data
    for mark, what in _MARKS:
        if data.startswith(mark):
            raise HostError(f"{path.name}, line 1: the file is {what}: save it as plain UTF-8", 2)
    try:
        said = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise HostError(f"{path.name}, line {line}: not UTF-8: save the file as UTF-8", 2) from None
    if "\0" in said:
        line = said.count("\n", 0, said.index("\0")) + 1
        raise HostError(f"{path.name}, line {line}: a NUL byte: save the file as UTF-8", 2)
    return said


def json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; nothing where there is no file."""
    try:
        values: dict[str, Any] = codec.load(path.read_bytes(), str(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}", 2) from None
    except ConfigError as error:
        raise HostError(error.reason, 2) from None
    return values


def toml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The values of a TOML file, and the line of each key by its dotted name; nothing where there is no file."""
    try:
        said = text(path)
        return tomllib.loads(said), lines(said)
    except FileNotFoundError:
        return {}, {}
    except OSError as error:
        raise HostError(f"{path.name}: {error.strerror}", 2) from None
    except tomllib.TOMLDecodeError as error:
        why = str(error).splitlines()[0].replace("at end of document", f"at line {len(said.splitlines())}, the last")
        raise HostError(f"{path.name}: {why}", 2) from None


def lines(said: str) -> dict[str, int]:
    """Dotted name of each key and table of a TOML text -> its line."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(said.splitlines(), 1):
        if head := _TABLE.match(line):
            table = _plain(head[1])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault(f"{table}.{_plain(key[1])}".removeprefix("."), number)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\"'\s]", "", name)
