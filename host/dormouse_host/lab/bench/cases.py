"""What is measured, and what comes out.

A figure that a subject does not have is None, never 0.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Style = Literal["ours", "plain", "tuned", "ours, TLS"]
OURS: tuple[Style, ...] = ("ours", "ours, TLS")
CASES = ((0, 1), (3, 1), (10, 10), (100, 10), (1000, 10))  # commands queued, telemetry records stored
TARGETS = {(0, 1): 2.1, (3, 1): 3.1, (10, 10): 3.1, (100, 10): 4.2}  # round trips until the last useful packet
SEGMENTS = 4  # TCP segments up that (10, 10) may take
BYTES = 1.3  # times the bytes of the bare protocol that (10, 10) may take
HEAP = 64  # KiB of heap that any case may take
GROWTH = 2  # KiB that (1000, 10) may take above (10, 10)
DELAY = 0.1  # seconds, one way
STYLES: tuple[Style, ...] = ("ours", "plain", "tuned")
# where ours is measured once more, the broker proving who it is
OF: dict[tuple[int, int], tuple[Style, ...]] = dict.fromkeys(((0, 1), (10, 10)), (*STYLES, "ours, TLS"))


@dataclass
class Row:
    """One wake. Round trips include TCP's handshake; `useful` ends with the last packet that the device got, `asleep`
    with its closing the connection. `flight`: chunks as (seconds, upward, bytes), for the picture.
    """

    style: Style
    commands: int
    records: int
    useful: float
    asleep: float
    causal: int | None  # by what was sent after what was received; None on real TCP, which has no need of it
    up: int
    down: int
    segments: int
    writes: int
    eager: float | None = None  # round trips where the broker sets TCP_NODELAY
    erases: int | None = None
    flash_ms: float | None = None
    smallest: int | None = None  # KiB of heap, the code copied into it as from littlefs
    in_place: int | None = None  # KiB of heap, the code run where it lies, in ROMFS
    peak: int | None = None  # bytes in use
    flights: list[tuple[float, bool, int]] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
