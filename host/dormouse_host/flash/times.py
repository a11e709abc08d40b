"""The times of a board: what it takes for the parts of a wake, in milliseconds, and the times that a person gives.

A time that nobody measured is 0 and has no source.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dormouse_host.errors import HostError

LONGEST = 600_000  # ms


@dataclass(frozen=True)
class Times:
    """Milliseconds, 0 where not measured. `source`: on what they were measured."""

    boot: float = 0  # from a reset to main.py
    load: float = 0  # to import 1 KiB of .mpy from the file system
    before: float = 0  # from waking to the radio: the agent's imports, its state, the app and its readings
    radio: float = 0  # to start the Wi-Fi chip
    handshake: float = 0  # computing in a TLS handshake
    session: float = 0  # other computing between join and sleep
    source: str = ""


def parse(texts: Iterable[str]) -> dict[str, float]:
    """Times given as NAME=MS. HostError, code 2, for a text that is none."""
    found = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise HostError(f"--time {text}: expected NAME=MILLISECONDS, as handshake=1500", 2) from None
    return found


def check(given: Mapping[str, float], names: Iterable[str]) -> None:
    """HostError, code 2, for a name that is none of `names` and for a time that is out of range."""
    for name, ms in given.items():
        if name not in names:
            raise HostError(f"time {name}: expected one of {', '.join(names)}", 2)
        if not 0 <= ms <= LONGEST:
            raise HostError(f"time {name}={ms:g}: expected 0 to {LONGEST} milliseconds", 2)
