"""A device's battery consumption: the phases of a wake, the board's currents, and the assumptions.

Every figure is measured (by the bench in the same run, or by the device), is in board.toml with its source, or is named
as an assumption. The days without a network follow the agent's own schedule.
"""

import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dormouse import state
from dormouse_host.errors import HostError
from dormouse_host.flash.kinds import Board
from dormouse_host.flash.times import Times, check

DAY = 86400
_HOUR = 3600
_AIR = 1_000_000 / 8  # bytes per second at 1 Mbps, the slowest rate: the longest a byte can take
_BOOT = 1.0  # s, assumed where nobody measured
_TIMES = ("boot", "before", "radio", "handshake", "session")  # those of a board that an estimate uses


@dataclass(frozen=True)
class Phase:
    """A part of a wake: seconds and milliamperes."""

    name: str
    seconds: float
    ma: float


@dataclass(frozen=True)
class Budget:
    """The consumption of one kind of wake. `mas`: milliampere-seconds of one wake."""

    phases: tuple[Phase, ...]
    asleep: float  # mA

    @property
    def seconds(self) -> float:
        """Seconds awake."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def mas(self) -> float:
        return sum(phase.seconds * phase.ma for phase in self.phases)

    def mah_per_day(self, every: float) -> float:
        """mAh per day with one such wake every `every` seconds."""
        wakes = DAY / every
        return (wakes * self.mas + max(0.0, DAY - wakes * self.seconds) * self.asleep) / _HOUR


def currents(board: Board, given: Sequence[str]) -> dict[str, tuple[float, str]]:
    """State -> (milliamperes, source), those of board.toml under those given as STATE=MA."""
    found = {current.state: (current.ma, current.source) for current in board.current}
    for text in given:
        state, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            raise HostError(f"--ma {text}: expected STATE=MILLIAMPERES, as sending=180", 2) from None
        if state not in ("asleep", "working", "receiving", "sending") or not 0 <= value < 10000:
            raise HostError(f"--ma {text}: expected one of asleep, working, receiving, sending, and 0 to 9999", 2)
        found[state] = (value, "given")
    missing = [state for state in ("asleep", "working", "receiving", "sending") if state not in found]
    if missing:
        raise HostError(f"{board.name} has no current for {', '.join(missing)}: pass --ma {missing[0]}=…", 2)
    return found


@dataclass(frozen=True)
class Computing:
    """Seconds in which the board computes: up to the radio, starting that, online, and in a TLS handshake."""

    boot: float
    radio: float = 0
    session: float = 0
    handshake: float = 0


def computing(
    times: Times, given: Mapping[str, float], *, boot: float | None = None, tls: bool = False
) -> tuple[Computing, list[str]]:
    """What a wake computes, and where each figure is from: `given` in milliseconds, measured on the board, or assumed.
    `boot`: seconds up to the radio, if given. HostError for a time that is none.
    """
    check(given, _TIMES)
    ms = {name: given.get(name, getattr(times, name)) for name in _TIMES}
    known = ms["boot"] + ms["before"]
    found = Computing(
        boot=boot if boot is not None else known / 1000 if known else _BOOT,
        radio=ms["radio"] / 1000,
        session=ms["session"] / 1000,
        handshake=ms["handshake"] / 1000 if tls else 0.0,
    )
    measured = [name for name in _TIMES if getattr(times, name) and name not in given]
    if boot is not None:
        measured = [name for name in measured if name not in ("boot", "before")]
    told = []
    if measured:
        values = ", ".join(f"{name} {ms[name]:g} ms" for name in measured if tls or name != "handshake")
        told.append(f"measured: {values} ({times.source})")
    if given or boot is not None:
        words = [f"{name} {value:g} ms" for name, value in given.items()]
        words += [] if boot is None else [f"boot {boot:g} s"]
        told.append(f"given: {', '.join(words)}")
    if boot is None and not known:
        told.append(f"assumed: {_BOOT:g} s to boot")
    missing = [name for name in _TIMES[2:] if not ms[name] and name not in given and (tls or name != "handshake")]
    if missing:
        told.append(f"not measured on this board, and left out: {', '.join(missing)}; pass --time {missing[0]}=MS")
    return found, told


def of_wake(ma: dict[str, float], spent: Computing, *, join: float, online: float, flash: float, sent: float) -> Budget:
    """The phases of a wake; `sent` bytes are on the air at the slowest rate, on top of receiving."""
    air = sent / _AIR
    return Budget(
        (
            Phase("boot", spent.boot, ma["working"]),
            Phase("radio", spent.radio, ma["receiving"]),
            Phase("join", join, ma["receiving"]),
            Phase("handshake", spent.handshake, ma["receiving"]),
            Phase("session", spent.session, ma["receiving"]),
            Phase("online", max(0.0, online - air), ma["receiving"]),
            Phase("sending", air, ma["sending"]),
            Phase("flash", flash, ma["receiving"]),  # with the radio on
        ),
        ma["asleep"],
    )


def reported(wakes: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Medians over a device's own reports of its wakes that went online: seconds, and bytes sent."""
    last = [r["last"] for r in wakes if isinstance(r.get("last"), dict) and r["last"].get("ended") == "finished"]
    if not last:
        raise HostError("the ledger has no report of a finished wake of this device", 1)

    def median(value: Any) -> float:
        return float(statistics.median(value(wake) for wake in last))

    return {
        "boot": median(lambda w: w["phases"]["boot"]) / 1000,
        "join": median(lambda w: w["phases"]["join"]) / 1000,
        "online": median(lambda w: sum(w["phases"][p] for p in ("connect", "drain", "confirm"))) / 1000,
        "sent": median(lambda w: w["up"]),
        "wakes": len(last),
    }


@dataclass(frozen=True)
class Outage:
    """Days without an access point: our consumption, and that of a client that keeps trying, in mAh."""

    days: int
    wakes: int
    ours: float
    plain: float
    longest: int  # s of sleep between two attempts


def without_network(
    ma: dict[str, float], config: dict[str, Any], *, boot: float, timeout: float, days: int, seed: int = 0
) -> Outage:
    """Each wake boots, tries for `timeout` seconds, and sleeps as the agent's own schedule says."""
    chance = random.Random(seed)
    attempt = boot * ma["working"] + timeout * ma["receiving"]
    now = taken = 0.0
    wakes = longest = 0
    while now < days * DAY:
        wakes += 1
        pause = state.connect_in(config, wakes, None, chance.randrange(256))
        longest = max(longest, pause)
        taken += attempt + pause * ma["asleep"]
        now += boot + timeout + pause
    return Outage(days, wakes, taken / _HOUR, days * DAY * ma["receiving"] / _HOUR, longest)
