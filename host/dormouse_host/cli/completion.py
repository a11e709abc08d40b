"""What a shell completes at Tab: names of devices, groups, boards and commands, and the arguments of a command.

Completion changes nothing, waits for no server, and is silent where it cannot help. No space follows `key=`.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dormouse_host.errors import HostError
from dormouse_host.settings import read

if TYPE_CHECKING:
    from dormouse_host.fleet import Fleet


def _ask(question: Callable[["Fleet"], Iterable[str]]) -> list[str]:
    """Ask a ledger that is a file; nothing where there is none, because a Tab must not wait for a server."""
    from dormouse_host.fleet import Fleet

    try:
        said = read(None, None, os.environ, Path.cwd())
        if said.db and "://" in said.db and not said.db.startswith("sqlite:"):
            return []
        with Fleet(said.db, said.root, make=False) as fleet:
            return list(question(fleet))
    except HostError:
        return []


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def complete_device(incomplete: str) -> list[str]:
    """Complete a device's id."""
    return _beginning(incomplete, _ask(lambda fleet: fleet.members()))


def complete_group(incomplete: str) -> list[str]:
    """Complete a group's name."""
    return _beginning(incomplete, _ask(lambda fleet: fleet.groups()))


def complete_export(incomplete: str) -> list[str]:
    """Complete what can be exported."""
    return _beginning(incomplete, ("telemetry", "results", "wakes", "commands"))


def complete_command(incomplete: str) -> list[str]:
    """Complete the id of a command that was sent lately."""
    return _beginning(incomplete, _ask(lambda fleet: fleet.recent()))


def complete_board(incomplete: str) -> list[str]:
    """Complete a board's name."""
    from dormouse_host.flash import kinds

    return _beginning(incomplete, kinds.names())


def complete_order(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a device, one of its commands, and its arguments; with --all or --group there is no device."""
    words = list(context.params.get("words") or ())
    several = context.params.get("every") or context.params.get("group")
    if not words and not several:
        return complete_device(incomplete)
    understood = _ask_understood(None if several else words.pop(0))
    if not words:
        return _beginning(incomplete, understood)
    given = {word.partition("=")[0] for word in words[1:]}
    return _beginning(incomplete, [f"{arg}=" for arg in understood.get(words[0], ()) if arg not in given])


def _ask_understood(device: str | None) -> dict[str, dict[str, Any]]:
    """The commands of a device, or of all devices."""
    understood: dict[str, dict[str, Any]] = {}

    def look(fleet: "Fleet") -> list[str]:
        for each in fleet.members() if device is None else [device]:
            understood.update(fleet.understood(each))
        return []

    _ask(look)
    return understood


# ---- what the shells are told


def without_space() -> None:
    """Let bash and zsh put no space behind `key=`; fish does not by itself. Where typer's own scripts are no longer as
    they were, completion works as it does there.
    """
    with suppress(ImportError, AttributeError, KeyError):
        from typer import _completion_classes as classes
        from typer import _completion_shared as shared

        end, asked = "    return 0\n", "    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace\n    return 0\n"
        script = shared._completion_scripts["bash"].replace(end, asked)
        shared._completion_scripts["bash"] = classes.BashComplete.source_template = script
        plain = classes.ZshComplete.complete

        def complete(self: Any) -> str:
            values = [item.value for item in self.get_completions(*self.get_completion_args())]
            if values and all(value.endswith("=") and value[:-1].isidentifier() for value in values):
                return f"compadd -S '' -- {' '.join(values)}"
            return plain(self)

        classes.ZshComplete.complete = complete  # type: ignore[method-assign]
