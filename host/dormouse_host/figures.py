"""Figures that cannot be: each in one line that says why, and what to check.

A board's fault or a setting's shows first in a figure that nobody believes; it is told beside the figure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_FLAT = 0.5  # volts below which nothing runs
_HIGHEST = 60.0  # volts; the largest battery_floor
_AGES = 10 * 365  # days after which a battery is empty by itself


def battery(volts: object) -> str | None:
    """Why a battery cannot have these volts, or None."""
    known = _number(volts)
    if known is None or _FLAT <= known <= _HIGHEST:
        return None
    return f"a battery of {known:g} V cannot be: check battery_pin and battery_divider"


def reported(report: Mapping[str, Any]) -> list[str]:
    """What cannot be in a wake report."""
    found = [battery(report.get("battery"))]
    rssi, ahead = _number(report.get("rssi")), _number(report.get("next"))
    if rssi is not None and not -120 <= rssi < 0:
        found.append(f"a signal of {rssi:g} dBm cannot be: the radio does not tell")
    if ahead is not None and not 0 < ahead <= 4 * 604800 * 1.1:
        found.append(f"a next wake in {ahead:g} s cannot be: check connect_every")
    return [line for line in found if line]


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def settings(full: Mapping[str, Any]) -> list[str]:
    """What cannot have an effect, or cannot be kept, in a device's full configuration."""
    found = []
    if full["battery_floor"] > 0 and full["battery_pin"] < 0:
        found.append(f"battery_floor {full['battery_floor']:g} has no effect: no battery_pin is set")
    if full["connect_every"] < full["budget"]:
        found.append(
            f"connect_every {full['connect_every']:g} s is shorter than a wake may be (budget {full['budget']:g} s)"
        )
    if full["sample_every"] > full["connect_every"]:
        found.append(
            f"sample_every {full['sample_every']:g} s is never reached: each wake that connects samples too,"
            f" every {full['connect_every']:g} s"
        )
    return found


def energy(*, seconds: float, every: float, days: float, asleep: float) -> list[str]:
    """What cannot be in an estimate: seconds of a wake, seconds between two, days from the battery, mA asleep."""
    found = []
    if seconds >= every:
        found.append(f"a wake of {seconds:.1f} s does not fit into an interval of {every:g} s")
    if asleep <= 0:
        found.append("no board takes 0 mA asleep: measure it, and pass --ma asleep=…")
    if days > _AGES:
        found.append(f"{days:.0f} days cannot be: a battery is empty by itself within ten years")
    return found


def same_board(firmwares: Iterable[object], builds: Sequence[str]) -> str | None:
    """Why the phases that a device reported are not those of a board of these builds, or None."""
    for firmware in firmwares:
        if isinstance(firmware, str) and not firmware.startswith(tuple(builds)):
            return f"it reports {firmware}, which is not {builds[0]}: its phases say nothing of this board"
    return None
