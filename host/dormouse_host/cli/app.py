"""The command line: one function per command, one place where an error becomes a line and an exit code.

Must stay true: a command imports what it needs when it runs; an error is one line on stderr, never a traceback; the
exit code is 0 when what was asked for was done, 1 when it was not, 2 when it was asked for wrongly, 130 after Ctrl-C.
"""

import io
import os
import signal
import subprocess
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from dormouse import protocol
from dormouse_host.cli import boards, broker, commands, fleet, lab, ledger
from dormouse_host.errors import HostError

_EXIT_CODES = "Exit codes: 0 done, 1 not done, 2 asked for wrongly, 130 after Ctrl-C. An error is one line on stderr."
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dormouse {protocol.VERSION}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=_EXIT_CODES)
def _dormouse(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Commands for devices that sleep."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


for area in (fleet, ledger, commands, boards, broker, lab):  # as --help has them
    area.register(app)


def _terminated(number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM and SIGHUP end us as Ctrl-C does: what was started is stopped on the way out."""
    raise SystemExit(128 + number)


def main() -> NoReturn:
    """The program `dormouse`."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no ✓ shows ? and goes on
    code = _run()
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter does not try it again
        code = code or _cannot(error)
    sys.exit(code)


def _run() -> int | str | None:
    """The exit code of the command."""
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
    except (OSError, subprocess.SubprocessError) as error:  # what no command has foreseen, a full disk above all
        return _cannot(error)
    return code


def _cannot(error: Exception) -> int:
    """What the machine refuses, in one line; nothing where whoever read our output has seen enough."""
    if isinstance(error, BrokenPipeError):
        return 1
    why = getattr(error, "strerror", None) or str(error)
    where = getattr(error, "filename", None)
    return _fail(f"{where}: {why}" if where else why, 1)


def _fail(message: str, code: int) -> int:
    """One line; where a group of commands was given no command, its help instead."""
    from dormouse_host.terminal import safe

    sys.stderr.write(f"{message}\n" if message.startswith("Usage: ") else f"dormouse: {safe(message)}\n")
    return code
