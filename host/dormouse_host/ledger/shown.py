"""What people are shown of commands and wake reports, wherever these are read."""

import json
import re
from typing import Any

_DECLARATION = re.compile(r"(command|telemetry) |.*: its copy is used$")  # what leaves the rest of the program
FINISHED = "finished"  # how a wake ends that did all that it had to
CREDENTIALS = ("set_password", "set_certificate")  # the commands whose arguments nobody is shown


def shown(do: str, text: str | None) -> dict[str, Any]:
    """A command's arguments as people and exports see them."""
    args: dict[str, Any] = json.loads(text) if text else {}
    return dict.fromkeys(args, "(hidden)") if do in CREDENTIALS else args


def faults(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What the program of a device did wrong by its wake report: (`app` or `reading`, its name, why)."""
    found = [("app", "app.py", str(report["app"]))] if report.get("app") else []
    lost = report.get("readings")
    return found + [("reading", name, str(why)) for name, why in (lost.items() if isinstance(lost, dict) else ())]


def failed_wake(report: dict[str, Any]) -> tuple[str, str | None] | None:
    """How the wake before this report's own failed, and why as far as the device has told; None where it did not."""
    last = report.get("last")
    if not isinstance(last, dict) or not isinstance(ended := last.get("ended"), str) or ended == FINISHED:
        return None
    why = last.get("why")
    return ended, why if isinstance(why, str) and why else None


def left_out(report: dict[str, Any]) -> str:
    """Why a device runs without its program, or without what follows the line that failed; empty where it has all of it
    but single declarations.
    """
    said = str(report.get("app") or "")
    return "" if all(_DECLARATION.match(part) for part in said.split("; ")) else said
