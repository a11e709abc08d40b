"""A device's life in figures: wakes, delivery delays, outcomes, energy, and the day on which its battery is empty.

Every figure follows from the life and the board's currents alone; what is estimated says so in `notes`.
"""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from dormouse_host.errors import HostError
from dormouse_host.flash import kinds
from dormouse_host.lab import energy
from dormouse_host.ledger.lives import Life, Wake, reached

DAY = 86400
EMPTY = 3.3  # volts at which a battery counts as empty, unless said otherwise
_FAR = 10 * 365 * DAY  # a battery is empty by itself within ten years
_FEWEST, _SHORTEST = 5, 0.5 * DAY  # readings, and seconds between the first and the last, for a forecast


@dataclass(frozen=True)
class Delays:
    """Seconds from a command's entry until the device had it: `p50`, `p95`, and the `worst`, with that command."""

    count: int
    p50: float
    p95: float
    worst: float
    command: str


@dataclass(frozen=True)
class Fault:
    """Something that went wrong: its `kind`, `text`, how often, and the first and last time (Unix seconds)."""

    kind: str
    text: str
    count: int
    first: float
    last: float


@dataclass(frozen=True)
class Summary:
    """The figures. Seconds, mAh, volts; None where nothing is known. `empty`: when the battery will be empty."""

    life: Life
    wakes: int
    outcomes: dict[str, int]
    delays: Delays | None
    silent: float
    awake: float | None
    mah: float | None
    board: str | None
    battery: tuple[float, float] | None
    empty: float | None
    faults: list[Fault]
    missing: int
    notes: list[str] = field(default_factory=list)


def quantile(ordered: Sequence[float], part: float) -> float:
    """The value up to which `part` of the sorted values lie, and always one of them."""
    return ordered[max(0, -int(-part * len(ordered) // 1) - 1)]


def delays(lives: Sequence[Life]) -> Delays | None:
    """Over the commands that were entered in that time; None where none of them has reached its device."""
    found = []
    for life in lives:
        for command in life.commands:
            at = reached(command)
            if command.entered >= life.since and at is not None:
                found.append((max(0.0, at - command.entered), command.name))
    if not found:
        return None
    found.sort()
    seconds = [each for each, _ in found]
    return Delays(len(found), quantile(seconds, 0.5), quantile(seconds, 0.95), seconds[-1], found[-1][1])


def outcomes(lives: Sequence[Life]) -> dict[str, int]:
    """How many of the commands that were entered in that time stand at each status, the most first."""
    counted = Counter(command.status for life in lives for command in life.commands if command.entered >= life.since)
    return dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))


def summarize(life: Life, empty_at: float) -> Summary:
    """The figures of a device; its battery is empty at `empty_at` volts."""
    notes: list[str] = []
    awake = _awake(life, notes)
    board, mah = _energy(life, awake, notes)
    volts = life.of_wakes("battery")
    return Summary(
        life,
        len(life.wakes),
        outcomes([life]),
        delays([life]),
        sum(end - start for start, end in life.silences),
        awake,
        mah,
        board,
        (volts[0][1], volts[-1][1]) if volts else None,
        forecast(volts, empty_at),
        faults(life),
        sum(count for _, _, count in life.gaps),
        notes,
    )


def _awake(life: Life, notes: list[str]) -> float | None:
    """Seconds awake in all wakes; where a device has not told of one, the median of the others."""
    mean = life.mean_awake()
    if mean is None:
        return None
    known = [wake.awake for wake in life.wakes if wake.awake is not None]
    if unknown := len(life.wakes) - len(known):
        notes.append(f"{unknown} of {len(life.wakes)} wakes have not told how long they were: the median is taken")
    return sum(known) + mean * unknown


def _energy(life: Life, awake: float | None, notes: list[str]) -> tuple[str | None, float | None]:
    """The board, and the mAh from the phases of its wakes and the currents of its board.toml."""
    if not life.wakes:
        return None, None
    firmware = life.wakes[-1].report.get("fw")
    board = board_of(firmware) if isinstance(firmware, str) else None
    if board is None:
        notes.append("energy: the board is not known by the firmware that it reports")
        return None, None
    try:
        ma = {state: value for state, (value, _) in energy.currents(board, []).items()}
    except HostError as error:
        notes.append(f"energy: {error}")
        return board.title, None
    spent = [_of_wake(ma, wake) for wake in life.wakes]
    known = [mas for mas in spent if mas is not None]
    if not known or awake is None:
        notes.append("energy: no wake has told its phases")
        return board.title, None
    asleep = max(0.0, life.until - max(life.since, life.wakes[0].began) - awake)
    total = sum(known) + statistics.median(known) * (len(spent) - len(known)) + asleep * ma["asleep"]
    notes.append(f"energy: the phases of its wakes by the currents of {board.name}'s board.toml")
    return board.title, total / 3600


def _of_wake(ma: dict[str, float], wake: Wake) -> float | None:
    """Milliampere-seconds of a wake."""
    if wake.awake is None:
        return None
    boot, join, online = wake.phase("boot"), wake.phase("join"), wake.awake
    if boot is None or join is None:
        return None
    spent = energy.Computing(boot=boot)
    sent = wake.last.get("up")
    online = max(0.0, online - boot - join)
    sent = float(sent) if isinstance(sent, int) and sent >= 0 else 0.0
    return energy.of_wake(ma, spent, join=join, online=online, flash=0.0, sent=sent).mas


@cache
def board_of(firmware: str) -> kinds.Board | None:
    """The board that reports such firmware, the one with the longest matching name; None where none does."""
    found = [(len(build), name) for name, builds in _builds() for build in builds if firmware.startswith(build)]
    return kinds.load(max(found)[1]) if found else None


@cache
def _builds() -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((name, kinds.load(name).builds) for name in kinds.names())


def forecast(volts: Sequence[tuple[float, float]], empty_at: float) -> float | None:
    """When a battery reaches `empty_at` volts by the median slope through its readings (Theil and Sen), which one wrong
    reading does not turn; None where it does not fall, there are too few, or that is more than ten years away.
    """
    if len(volts) < _FEWEST or volts[-1][0] - volts[0][0] < _SHORTEST:
        return None
    step = max(1, len(volts) // 200)
    some = [statistics.median(value for _, value in volts[at : at + step]) for at in range(0, len(volts), step)]
    times = [statistics.mean(time for time, _ in volts[at : at + step]) for at in range(0, len(volts), step)]
    slopes = [
        (some[j] - some[i]) / (times[j] - times[i])
        for i in range(len(some))
        for j in range(i + 1, len(some))
        if times[j] - times[i] >= (times[-1] - times[0]) / 4
    ]
    slope = statistics.median(slopes) if slopes else 0.0
    if slope >= 0:
        return None
    now = volts[-1][0]
    level = statistics.median(value + slope * (now - at) for at, value in zip(times, some, strict=True))
    left = (level - empty_at) / -slope
    return now + max(0.0, left) if left < _FAR else None


def faults(life: Life) -> list[Fault]:
    """What went wrong, the same thing together, in the order in which it began."""
    seen: dict[tuple[str, str], list[float]] = {}
    for wake in life.wakes:
        if wake.failed:
            seen.setdefault(("wake failed", wake.failed), []).append(wake.at)
        for kind, name, why in wake.faults:
            seen.setdefault((kind, f"{name}: {why}"), []).append(wake.at)
        for key, text in (("refused", "payloads without a right signature"), ("undone", "settings undone")):
            if value := wake.report.get(key):
                seen.setdefault((key, f"{text}: {value}"), []).append(wake.at)
        if wake.report.get("cause") == "watchdog":
            seen.setdefault(("watchdog", "the watchdog reset the board"), []).append(wake.at)
    for command in life.commands:
        at = command.settled
        if at is not None and life.since <= at < life.until and command.status not in ("succeeded", "cancelled"):
            why = f": {command.why}" if command.why else ""
            seen.setdefault(("command", f"{command.do} {command.status}{why}"), []).append(at)
    for update in life.updates:
        if update.settled is not None and update.status == "failed" and life.since <= update.settled < life.until:
            seen.setdefault(("update", f"{update.release}: {update.why or 'failed'}"), []).append(update.settled)
    found = [Fault(kind, text, len(times), min(times), max(times)) for (kind, text), times in seen.items()]
    return sorted(found, key=lambda fault: (fault.first, fault.kind, fault.text))
