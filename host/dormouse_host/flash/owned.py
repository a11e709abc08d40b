"""Whose the files on a board are: `dormouse flash` replaces its own, and a person's only when told to, keeping a copy.

The record on the board names every file that was flashed, with the beginning of its SHA-256. A file that has become
another since, or that no flash has put there, is a person's.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from dormouse_host.errors import HostError
from dormouse_host.flash.board import hashes
from dormouse_host.flash.wire import Wire

RECORD = "lib/dormouse.flashed"
_AGENTS = ("lib/dormouse/", "lib/umqtt/")  # an agent that mip has installed is replaced by ours
_DIGITS = 16  # of a SHA-256

Agree = Callable[[Sequence[str]], bool]  # asked with the paths of a person's files: may they be replaced?

_READ = """
import json
try:
    with open({name!r}) as f:
        print(json.dumps(f.read(20000)))
except (OSError, UnicodeError):
    print("null")
"""

_FREE_FOLDER = """
import os
n = 1
while True:
    try:
        os.stat("/kept-%d" % n)
    except OSError:
        break
    n += 1
print(n)
"""


def read(wire: Wire, name: str) -> str | None:
    """The beginning of a text file on the board, None where there is none."""
    text: str | None = wire.ask(_READ.format(name="/" + name))
    return text


def record(digests: Mapping[str, str]) -> bytes:
    """The record of these files, path -> SHA-256 in hex."""
    return json.dumps({name: value[:_DIGITS] for name, value in sorted(digests.items())}).encode()


def persons(wire: Wire, there: Mapping[str, str | None], *, flashed_before: bool) -> list[str]:
    """Those of the files `there` (path -> SHA-256 in hex) that a person has put on the board."""
    text = read(wire, RECORD)
    if text is None and flashed_before:
        return []  # by a version without a record
    try:
        known = dict(json.loads(text or "{}"))
    except (ValueError, TypeError):
        known = {}
    names = [name for name, value in there.items() if value is not None and not name.startswith(_AGENTS)]
    return [name for name in names if known.get(name) != (there[name] or "")[:_DIGITS]]


def left(wire: Wire, files: Iterable[str]) -> list[str]:
    """The files of an earlier flash that are where `files` are not, as they were flashed: nothing uses them now."""
    try:
        known = dict(json.loads(read(wire, RECORD) or "{}"))
    except (ValueError, TypeError):
        return []
    gone = [name for name in known if name not in set(files)]
    there = hashes(wire, gone)
    return [name for name in gone if (there[name] or "")[:_DIGITS] == known[name]]


def keep(wire: Wire, names: Iterable[str], agree: Agree) -> dict[str, str]:
    """The path of the copy of each of a person's files, which are to be replaced. HostError if that is refused."""
    names = list(names)
    if not names:
        return {}
    if not agree(names):
        raise HostError(
            f"the board has files that dormouse did not put there: {', '.join(names)}; nothing was written:"
            " --yes replaces them and keeps copies on the board",
            2,
        )
    folder = f"kept-{wire.ask(_FREE_FOLDER)}"
    return {name: f"{folder}/{name}" for name in names}
