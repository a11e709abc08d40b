"""What people are shown of commands and wake reports, wherever these are read."""

import json
from typing import Any

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
