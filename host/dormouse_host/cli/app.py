"""The program `dormouse`: its command groups, and the one place where an error becomes a line and an exit code.

A command imports what it needs when it runs. An error is one line on stderr, never a traceback.
"""

import gc
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from dormouse import protocol
from dormouse_host.cli import (
    alerts,
    boards,
    broker,
    commands,
    completion,
    credentials,
    desk,
    fleet,
    lab,
    ledger,
    metrics,
    rollouts,
    service,
    updates,
)
from dormouse_host.errors import HostError

_EXIT_CODES = "Exit codes: 0 done, 1 not done, 2 usage error, 130 after Ctrl-C. An error is one line on stderr."
_AREAS = (fleet, alerts, desk, metrics, ledger, commands, updates, rollouts, boards, broker, credentials, service, lab)


class _Grouped(TyperGroup):
    """`dormouse --help` lists the commands of each area under the area's name."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A section for each area, with one column of names over all of them."""
        shown = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        width = max(len(name) for name, _ in shown)
        for panel in dict.fromkeys(area.PANEL for area in _AREAS):
            with formatter.section(panel):
                formatter.write_dl(
                    [
                        (name.ljust(width), command.get_short_help_str(formatter.width - 6 - width))
                        for name, command in shown
                        if getattr(command, "rich_help_panel", None) == panel
                    ]
                )


app = typer.Typer(cls=_Grouped, rich_markup_mode=None, pretty_exceptions_enable=False)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dormouse {protocol.VERSION}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=_EXIT_CODES)
def _dormouse(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Commands for MicroPython devices that sleep."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


for area in _AREAS:
    area.register(app)


def _terminated(number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM and SIGHUP end the program as Ctrl-C does, so that what was started is stopped."""
    raise SystemExit(128 + number)


def main() -> NoReturn:
    """The program `dormouse`."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no ✓ shows ? and goes on
    for name in ("write", "writelines", "flush"):
        setattr(sys.stdout, name, _named(getattr(sys.stdout, name)))
    code = _run()
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter does not try it again
        code = code or _cannot(error)
    gc.freeze()  # the interpreter's last collection need not walk through all that ends now
    sys.exit(code)


def _named(work: Callable[..., Any]) -> Callable[..., Any]:
    """A method of stdout whose errors say that they are stdout's: those of a full disk name no file."""

    def told(*given: Any) -> Any:
        try:
            return work(*given)
        except OSError as error:
            error.filename = "standard output"
            raise

    return told


def _run() -> int | str | None:
    """The exit code of the command."""
    if "_DORMOUSE_COMPLETE" in os.environ or any("-completion" in word for word in sys.argv):
        completion.without_space()
    try:
        code: int | None = app(standalone_mode=False)
    except SystemExit as end:
        return end.code
    except HostError as error:
        return _fail(str(error), error.code)
    except typer.TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except (OSError, subprocess.SubprocessError) as error:  # what no command handles itself, above all a full disk
        return _cannot(error)
    return code


def _cannot(error: Exception) -> int:
    """An error of the operating system, in one line; none where the reader of our output has closed it."""
    if isinstance(error, BrokenPipeError):
        return 1
    why = getattr(error, "strerror", None) or str(error)
    where = getattr(error, "filename", None)
    return _fail(f"{where}: {why}" if where else why, 1)


def _fail(message: str, code: int) -> int:
    """Print one line; where a group was given no command, its help instead."""
    from dormouse_host.terminal import safe

    sys.stderr.write(f"{message}\n" if message.startswith("Usage: ") else f"dormouse: {safe(message)}\n")
    return code
