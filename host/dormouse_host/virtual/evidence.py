"""What a failed test shows of its devices: each command with status and reason, the console, the events of the board.

Reading changes nothing, and a device that is broken shows what can still be read of it.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dormouse_host import terminal
from dormouse_host.errors import HostError
from dormouse_host.flash.explain import Explainer

if TYPE_CHECKING:
    from dormouse_host.ledger.queries import CommandView
    from dormouse_host.virtual.device import DeviceOn
    from dormouse_host.virtual.running import RunningBoard

_LINES = 200  # of a console or of events: the last ones


def of_device(device: "DeviceOn[Any]") -> Iterator[tuple[str, str]]:
    """Title and text of each section about a device."""
    try:
        commands = [_command(device.fleet.result(name)) for name in device.sent]
    except HostError as error:
        commands = [str(error)]
    if device.app.name != "app.py":
        commands.append(f"(app.py is {device.app.name})")
    yield f"commands to {device.id}", _tail(commands)
    yield from of_board(device.board, device.id)


def of_board(board: "RunningBoard", name: str = "") -> Iterator[tuple[str, str]]:
    """Title and text of each section about a board."""
    who = f"{name} ({board.kind.name})" if name else board.kind.name
    explain = Explainer()
    yield f"console of {who}", _tail([explain(line) for line in board.console.replace("\r", "").splitlines()])
    yield f"events of {who}", _tail([str(event) for event in board.events])


def _command(view: "CommandView") -> str:
    args = f" {json.dumps(view.args, ensure_ascii=False)}" if view.args else ""
    value = "" if view.value is None else f", value {json.dumps(view.value, ensure_ascii=False)}"
    return f"{view.do}{args}: {view.status}{f': {view.why}' if view.why else ''}{value}"


def _tail(lines: list[str]) -> str:
    left = len(lines) - _LINES
    return "\n".join([*([f"({left} lines before)"] if left > 0 else []), *map(terminal.safe, lines[-_LINES:])])
