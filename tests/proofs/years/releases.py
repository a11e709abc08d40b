"""Releases for the boards of a world: what is in them, and how their program behaves."""

import random
from functools import cache
from typing import NamedTuple

from dormouse_host.release import AGENT, Release
from proofs.years.flash import Flash

GOOD = ""
BAD = ("import raises", "import hangs", "safe_state hangs", "reading hangs")  # each of them ends its trial
_AGENT = {"lib/dormouse/agent.mpy": bytes(700)}  # of which a release for the program keeps what runs
_SAME = {"table.txt": b"in every release\n" * 20}


class Made(NamedTuple):
    """A release: `manner` of its program, `size` in bytes of what it brings besides."""

    number: int
    manner: str = GOOD
    size: int = 0

    @property
    def files(self) -> dict[str, bytes]:
        """All that lies in its slot, but for the manifest."""
        return _AGENT | _brought(self)

    def install(self, flash: Flash) -> None:
        """As `make flash` does, into slot a."""
        whole = Release(self.files)
        flash.put("/a/release", whole.digest.encode() + b"\n" + whole.manifest.partition(b"\n")[2])
        for name, data in self.files.items():
            flash.put(f"/a/{name}", data)


BASE = Made(0)


@cache
def _brought(made: Made) -> dict[str, bytes]:
    app = f"{made.number} {made.manner}\n".encode()
    more = random.Random(f"release {made.number}").randbytes(made.size)
    return {"app.py": app, **_SAME, **({"more.bin": more} if more else {})}


@cache
def built(made: Made) -> Release:
    """The release that is sent: the agent is kept."""
    return Release(_brought(made), keep=AGENT)
