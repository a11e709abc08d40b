"""A release: what one slot of a board holds, as a manifest and the files that it names, and how it is cut into chunks.

What is built depends on the files alone, so that the same program twice is the same release. Nothing here knows of a
ledger, a broker or a board; the device's side is device/dormouse/update.py, the bytes are in docs/formats.md.
"""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from dormouse import protocol
from dormouse_host.errors import HostError

CHUNK = 1024  # bytes of a file in one publish, at most
BLOCK = 4096  # bytes of flash that one erase frees
MANIFEST = 0  # the manifest's number; its files are counted from 1
MOST_FILES = 250
MOST_MANIFEST = 16384  # bytes; a device takes no longer one
MOST_BYTES = 4 << 20  # of all files: no board has room for more
AGENT = ("lib/dormouse/", "lib/umqtt/")  # what is the agent's in a slot
_ID = 16  # hex digits of the manifest's SHA-256 that name a release

Place = tuple[int, int]  # a file's number, and a place in it


@dataclass(frozen=True)
class Release:
    """`files`: path in the slot -> bytes. `keep`: paths that begin so are those of the slot that runs. `agent`: version
    of the agent in it, None where it has none; `port`: the `sys.platform` that it is for, None: any; `mpy`: version and
    architecture of its bytecode, None where it has none.
    """

    files: Mapping[str, bytes]
    keep: tuple[str, ...] = ()
    agent: str | None = None
    port: str | None = None
    mpy: tuple[int, int] | None = None

    @cached_property
    def manifest(self) -> bytes:
        """As it is sent: a header in JSON, then a line for each file."""
        head = {"agent": self.agent, "formats": protocol.FORMATS, "keep": list(self.keep), "port": self.port}
        lines = [json.dumps(head, separators=(",", ":"))]
        lines += [f"{len(data)} {sha256(data)} {name}" for name, data in self.files.items()]
        return "".join(f"{line}\n" for line in lines).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest in hex: what a device is asked for."""
        return sha256(self.manifest)

    @property
    def id(self) -> str:
        """The release's name."""
        return self.digest[:_ID]

    def terms(self) -> dict[str, Any]:
        """What a device must agree to before the first byte: the argument `of` of `update` `begin`."""
        return {
            "manifest": len(self.manifest),
            "bytes": sum(whole(len(data)) for data in (*self.files.values(), self.manifest, self.manifest)),
            "formats": protocol.FORMATS,
            "keep": list(self.keep),
            "mpy": list(self.mpy) if self.mpy else None,
            "port": self.port,
        }

    def contents(self) -> list[bytes]:
        """The manifest and the files, by their numbers."""
        return [self.manifest, *self.files.values()]


def check(release: Release) -> Release:
    """The release, or HostError with what is wrong with its files."""
    if len(release.files) > MOST_FILES:
        raise HostError(f"{len(release.files)} files: a release has {MOST_FILES} at most", 2)
    if len(release.manifest) > MOST_MANIFEST:
        raise HostError(
            f"a manifest of {len(release.manifest)} bytes: {MOST_MANIFEST} at most; pack some files together", 2
        )
    if sum(map(len, release.files.values())) > MOST_BYTES:
        raise HostError(f"a release has {MOST_BYTES >> 20} MB at most", 2)
    for name in release.files:
        path = PurePosixPath(name)
        plain = name.isprintable() and str(path) == name and len(name.encode()) <= 120
        its_own = name in ("release", "new") or name.endswith("~")  # the device's: what a cut left half written
        if not plain or path.is_absolute() or ".." in path.parts or its_own:
            raise HostError(f"{name!r}: no path of a release's file", 2)
    return release


def sha256(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()


def whole(size: int) -> int:
    """Bytes of flash that a file of this size takes: whole blocks."""
    return (size + BLOCK - 1) // BLOCK * BLOCK


def missing(manifest: bytes, have: str) -> list[int]:
    """Numbers of the files of a manifest that a device does not have already. `have`: the first 8 hex digits of the
    SHA-256 of each file in the slot that runs, one after the other.
    """
    known = {have[at : at + 8] for at in range(0, len(have), 8)}
    lines = manifest.decode().splitlines()[1:]
    return [number for number, line in enumerate(lines, 1) if line.split(" ")[1][:8] not in known]


def spans(size: int, start: int, limit: int) -> Iterator[tuple[int, int]]:
    """Cut a file of `size` bytes from `start` on: (begin, end) of each chunk, at most `limit` bytes long.

    A chunk ends where a block of littlefs ends: a block that is full is written once, and one that is not is erased and
    written again for the next chunk. (Block n > 0 begins with as many pointers as 2 divides n, and one more.)
    """
    ends, at, number = [], 0, 0
    while at < size:
        at += BLOCK - (4 * (number & -number).bit_length() if number else 0)
        ends.append(min(at, size))
        number += 1
    for end in ends:
        while start < end:
            step = min(start + limit, end)
            yield start, step
            start = step


def chunks(
    release_id: str, contents: Sequence[bytes], wanted: Sequence[int], at: Place, limit: int, most: int
) -> tuple[list[bytes], Place | None]:
    """The next `most` payloads from the place `at` on, and where they end; None: that is the end of the release.

    `wanted`: the numbers of the files that are sent, the manifest's too, in order.
    """
    found: list[bytes] = []
    for number in wanted:
        if number < at[0]:
            continue
        data = contents[number]
        for begin, end in spans(len(data), at[1] if number == at[0] else 0, limit):
            if len(found) == most:
                return found, (number, begin)
            found.append(bytes.fromhex(release_id) + struct.pack(">BI", number, begin) + data[begin:end])
    return found, None
