"""Queries and changes of a board over its prompt: who it is, its files, and replacing files so that no cut hurts.

A file is sent beside its place and compared there by SHA-256; only then are all files renamed, the last to take effect
last. Any interruption leaves a board that runs its old program or has a prompt. No file is removed but a source that
would hide what was flashed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dormouse_host.errors import HostError
from dormouse_host.flash.files import digest
from dormouse_host.flash.kinds import Board
from dormouse_host.flash.wire import LostBoard, Wire

ASIDE = "~"  # appended to a path while its file is being sent
_AGENT = "lib/dormouse/"
_HIDES = [f"{folder}/dormouse{end}" for folder in ("", "/lib") for end in ("", ".py", ".mpy")]  # found before ROM
_ROM = "rom/"  # where MicroPython mounts a ROM partition; rom/lib is searched after lib
_SLACK = 16384  # bytes that stay free: a file takes up to a block more than its length
_HASH_SECONDS = 60.0  # seconds without a byte: a board hashes some 200 KB a second

_WHO = """
import sys, json
i = sys.implementation
r = {"name": i.name, "version": list(i.version[:3]), "build": getattr(i, "_build", ""),
     "machine": getattr(i, "_machine", ""), "platform": sys.platform, "mpy": getattr(i, "_mpy", 0) & 255}
print(json.dumps(r))
"""

_WHAT = """
import os, json, vfs
s = os.statvfs("/")
r = {"free": s[0] * s[3], "fs": "", "umqtt": True}
for f, at in vfs.mount():
    if at == "/":
        r["fs"] = type(f).__name__
try:
    __import__("umqtt.simple")
except ImportError:
    r["umqtt"] = False
print(json.dumps(r))
"""

DIGEST = """
import hashlib
def _hash(name):
    try:
        f = open(name, "rb")
    except OSError:
        return None
    h = hashlib.sha256()
    while True:
        b = f.read(1024)
        if not b:
            break
        h.update(b)
    f.close()
    return "".join("%02x" % b for b in h.digest())
"""

_HASHES = f"""{DIGEST}
import json
def _hashes(names):
    for name in names:
        print(json.dumps([name, _hash("/" + name)]))
"""

_ANY = """
import os, json
def _there(name):
    try:
        os.stat(name)
        return True
    except OSError:
        return False
print(json.dumps(any([_there(name) for name in {names!r}])))
"""

_FOLDERS = """
import os
for name in {names!r}:
    try:
        os.mkdir("/" + name)
    except OSError as e:
        if e.errno != 17:
            raise
"""

_TAKE_EFFECT = """
import os
for name in os.listdir("/state") if {wipe!r} else ():
    if not name.endswith({aside!r}):
        os.remove("/state/" + name)
for name in ("skips", "update", "why", "left.piece"):  # a new program gets its try at once, and is on no trial
    try:
        os.remove("/state/" + name)
    except OSError:
        pass
for name, copy in {kept!r}:
    os.rename("/" + name, "/" + copy)
for name in {hiding!r}:
    os.remove("/" + name)
for name in {names!r}:
    os.rename("/" + name + {aside!r}, "/" + name)
"""

# dormouse/ports/boot.py: the prompt was used, so that the next boot counts as a person's and does not wait
_HAND_BACK = """
import machine, os
try:
    os.mkdir("/state")
except OSError:
    pass
with open("/state/prompt", "wb") as f:
    f.write(b"1")
machine.reset()
"""


@dataclass(frozen=True)
class Who:
    """The board that answered at the prompt."""

    build: str
    machine: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.machine or 'unknown machine'}, MicroPython {'.'.join(map(str, self.version))}"


def identify(wire: Wire, board: Board) -> Who:
    """Identify the board. HostError where it is another kind, or its MicroPython too old."""
    said: dict[str, Any] = wire.ask(_WHO)
    who = Who(said["build"], said["machine"], tuple(said["version"]))
    if said["name"] != "micropython":
        raise HostError(f"the board runs {said['name']}, not MicroPython: install it with dormouse firmware", 3)
    if who.version < board.oldest:
        raise HostError(
            f"the board has MicroPython {'.'.join(map(str, who.version))}, expected {board.micropython} or newer:"
            f" dormouse firmware --board {board.name}",
            3,
        )
    if not any(who.build == build or who.build.startswith(f"{build}-") for build in board.builds):
        raise HostError(f"wrong board: expected {board.name}, found {who.build or '(nothing)'}, {who.machine}", 3)
    if board.machine not in who.machine:
        raise HostError(f"wrong board: expected {board.title}, found {who.machine}", 3)
    return who


@dataclass(frozen=True)
class Found:
    """A board's files: bytes free, whether umqtt.simple can be imported, and SHA-256 by path, None: missing."""

    free: int
    umqtt: bool
    hashes: dict[str, str | None]


def look(wire: Wire, names: Iterable[str]) -> Found:
    """Look at the board's files, at those of `names` too. HostError on a file system that a power cut can corrupt."""
    said: dict[str, Any] = wire.ask(_WHAT)
    if said["fs"] not in ("VfsLfs2", "VfsPosix"):
        raise HostError(
            f"the board's file system is {said['fs'] or 'missing'}, expected littlefs 2 (vfs.VfsLfs2.mkfs)", 3
        )
    return Found(said["free"], said["umqtt"], hashes(wire, names))


def lying_in_rom(wire: Wire, files: Mapping[str, bytes]) -> set[str]:
    """The agent's files, if the board's ROMFS has all of them as in `files` and nothing, such as an empty folder, hides
    them.
    """
    agent = {name: digest(data) for name, data in files.items() if name.startswith(_AGENT)}
    if wire.ask(_ANY.format(names=_HIDES)):
        return set()
    there = hashes(wire, [_ROM + name for name in agent])
    return set(agent) if all(there[_ROM + name] == wanted for name, wanted in agent.items()) else set()


def hashes(wire: Wire, names: Iterable[str]) -> dict[str, str | None]:
    """SHA-256 in hex of each file, None for a missing one."""
    wire.run(_HASHES)
    text = wire.run(f"_hashes({list(names)!r})", _HASH_SECONDS)
    try:
        return dict(json.loads(line) for line in text.splitlines())
    except ValueError:
        raise LostBoard(f"the board answered {text[:40]!r}") from None


def put(
    wire: Wire, files: Mapping[str, bytes], free: int, kept: Mapping[str, str] | None = None, *, wipe: bool = False
) -> None:
    """Send `files` and let them take effect in their order. HostError when they do not fit.

    `kept`: path of a file to be kept -> that of its copy; `wipe`: the state of what the board was goes first.

    What an interrupted call has sent is found beside its place and not sent again.
    """
    if not files:
        return
    there = hashes(wire, [name + ASIDE for name in files])
    waiting = [name for name in files if there[name + ASIDE] != digest(files[name])]
    needed = sum(len(files[name]) for name in waiting) + _SLACK
    if needed > free:
        raise HostError(f"not enough room: {needed} bytes needed, {free} free on the board", 1)
    kept = kept or {}
    wire.run(_FOLDERS.format(names=_folders([*files, *kept.values()])))
    for name in waiting:
        wire.write_file("/" + name + ASIDE, files[name])
    there = hashes(wire, [name + ASIDE for name in files])
    wrong = [name for name, data in files.items() if there[name + ASIDE] != digest(data)]
    if wrong:
        raise LostBoard(f"{wrong[0]} was damaged on the way")
    found = hashes(wire, hidden_by(files))
    hiding = [name for name, there in found.items() if there is not None and name not in kept]
    wire.run(_TAKE_EFFECT.format(names=list(files), kept=list(kept.items()), hiding=hiding, aside=ASIDE, wipe=wipe))


def hidden_by(names: Iterable[str]) -> list[str]:
    """The sources that would be imported instead of these files: MicroPython prefers the .py beside a .mpy."""
    return [name.removesuffix(".mpy") + ".py" for name in names if name.endswith(".mpy")]


def hand_back(wire: Wire) -> None:
    """Restart the board as after a person's reset: it connects at once, whatever the last wake came to."""
    wire.start(_HAND_BACK)


def _folders(names: Iterable[str]) -> Sequence[str]:
    """Every folder that `names` need, parents first."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split("/")[:-1]
        for end in range(1, len(parts) + 1):
            found["/".join(parts[:end])] = None
    return list(found)
