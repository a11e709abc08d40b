"""The slots of a board, as a flash sees and fills them: the one that does not run gets the release, and is marked.

Until the mark is renamed into its place the board runs what it ran. A board of an older layout, with its program in
the root, keeps that until then, too. Files that the board has somewhere already are copied there and not sent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dormouse_host.flash import owned
from dormouse_host.flash.board import ASIDE, DIGEST, hashes
from dormouse_host.flash.files import digest
from dormouse_host.flash.wire import Wire
from dormouse_host.release import Release

MARK = "state/slot"
MANIFEST = "release"
_COPY_SECONDS = 120.0  # without a byte: a board copies some 100 KB a second

_LOOK = """
import json
def _read(name, n):
    try:
        f = open("/" + name)
    except OSError:
        return ""
    text = f.read(n)
    f.close()
    return text
print(json.dumps([_read({mark!r}, 3), _read("a/release", 64), _read("b/release", 64)]))
"""

# Nothing of the slot counts any more once its manifest is gone.
_CLEAR = (
    DIGEST
    + """
import os
def _clear(path, wanted):
    for entry in list(os.ilistdir(path)):
        name = path + "/" + entry[0]
        if entry[1] & 0x4000:
            _clear(name, wanted)
            try:
                os.rmdir(name)
            except OSError:
                pass
        elif wanted.get(name.replace({aside!r}, "")) != _hash(name):
            os.remove(name)
try:
    os.remove("/{slot}/release")
except OSError:
    pass
try:
    _clear("/{slot}", {wanted!r})
except OSError:
    pass
"""
)

_COPY = """
import os
def _folders(name):
    at = name.find("/", 1)
    while at > 0:
        try:
            os.mkdir(name[:at])
        except OSError:
            pass
        at = name.find("/", at + 1)
for source, target in {pairs!r}:
    _folders(target)
    a = open(source, "rb")
    b = open(target, "wb")
    while True:
        data = a.read(1024)
        if not data:
            break
        b.write(data)
    b.close()
    a.close()
"""


@dataclass(frozen=True)
class Slots:
    """`running`: "a" or "b", "" on a board of an older layout; `releases`: slot -> digest of its release."""

    running: str
    releases: Mapping[str, str]

    @property
    def idle(self) -> str:
        """The slot that a flash fills."""
        return "b" if self.running == "a" else "a"


def look(wire: Wire) -> Slots:
    """What dormouse/guard.py would start."""
    mark, *there = wire.ask(_LOOK.format(mark=MARK))
    releases = dict(zip("ab", there, strict=True))
    marked = mark[0] if mark[:1] in ("a", "b") else "a"
    other = "b" if marked == "a" else "a"
    return Slots(next((slot for slot in (marked, other) if releases[slot]), ""), releases)


def contents(release: Release) -> dict[str, bytes]:
    """Path in a slot -> bytes, the manifest as it lies there last."""
    lines = release.manifest.partition(b"\n")[2]
    return {**release.files, MANIFEST: release.digest.encode() + b"\n" + lines}


def edited(wire: Wire, slot: str) -> list[str]:
    """The files of a slot that are not as its manifest has them: somebody has changed them on the board."""
    if not slot:
        return []
    text = owned.read(wire, f"{slot}/{MANIFEST}") or ""
    listed = {f"{slot}/{name}": digest for _, digest, name in (line.split(" ", 2) for line in text.splitlines()[1:])}
    there = hashes(wire, listed)
    return [name for name, wanted in listed.items() if there[name] not in (None, wanted)]


def is_whole(wire: Wire, slot: str, files: Mapping[str, bytes]) -> bool:
    """Does the slot hold exactly these files?"""
    there = hashes(wire, [f"{slot}/{name}" for name in files])
    return all(there[f"{slot}/{name}"] == digest(data) for name, data in files.items())


def prepare(wire: Wire, slot: str, running: str, files: Mapping[str, bytes]) -> set[str]:
    """Clear the slot of what does not belong to the release, and copy what the board has: beside its place, as if it
    had been sent. Returns the paths of those, and of what was there.
    """
    wanted = {f"/{slot}/{name}": digest(data) for name, data in files.items() if name != MANIFEST}
    wire.run(_CLEAR.format(slot=slot, wanted=wanted, aside=ASIDE), _COPY_SECONDS)
    prefix = f"{running}/" if running else ""
    sources = hashes(wire, [prefix + name for name in files])
    there = hashes(wire, [f"{slot}/{name}{end}" for name in files for end in ("", ASIDE)])
    pairs, done = [], set()
    for name, data in files.items():
        target = f"{slot}/{name}"
        if digest(data) == there[target]:
            done.add(target)
        elif digest(data) not in (there[target + ASIDE], sources[prefix + name]):
            continue
        elif digest(data) != there[target + ASIDE]:
            pairs.append((f"/{prefix}{name}", f"/{target}{ASIDE}"))
            done.add(target)
    if pairs:
        wire.run(_COPY.format(pairs=pairs), _COPY_SECONDS)
    return done


def mark(slot: str) -> bytes:
    """The mark of a slot that is kept."""
    return f"{slot}00".encode()


def remove(wire: Wire, names: Iterable[str]) -> None:
    """Remove files that nothing uses any more, and folders that this leaves empty."""
    listed = sorted(names, reverse=True)
    folders = sorted({name.rpartition("/")[0] for name in listed if "/" in name}, reverse=True)
    folders += sorted({folder.rpartition("/")[0] for folder in folders if "/" in folder}, reverse=True)
    wire.run(
        "import os\n"
        f"for name in {[*listed, *folders]!r}:\n"
        "    try:\n"
        "        os.remove('/' + name)\n"
        "    except OSError:\n"
        "        try:\n"
        "            os.rmdir('/' + name)\n"
        "        except OSError:\n"
        "            pass\n"
    )
