"""What a person or a program reads on stdout and stderr: lines, JSON, steps and tables.

Control characters in texts that came from a device are escaped; every line is flushed at once.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any


def safe(text: object) -> str:
    """`text` with control characters written as `\\x1b`."""
    said = str(text)
    if said.isprintable():
        return said
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in said)


def line(text: str) -> None:
    """Print a line on stdout."""
    sys.stdout.write(f"{safe(text)}\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print a warning on stderr."""
    sys.stderr.write(f"dormouse: {safe(text)}\n")


def json_line(value: Mapping[str, Any]) -> None:
    """Print a JSON object as one line of stdout."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def told(fields: Mapping[str, Any], text: str, *, json: bool) -> None:
    """Print what was done, as JSON or as a line of text."""
    if json:
        json_line(fields)
    else:
        line(text)


def when(at: float | None) -> str:
    """A time in this machine's time zone."""
    return "never" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def span(seconds: float) -> str:
    """A duration in its largest fitting unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout, each column as wide as its widest cell: nothing is cut off in a narrow terminal."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["─" * width for width in widths])
    form = "  ".join(f"{{:<{width}}}" for width in widths)
    sys.stdout.writelines(f"  {form.format(*line).rstrip()}\n" for line in lines)
    sys.stdout.flush()


class Console:
    """Writes to stdout, in colour where the terminal has it. A quiet one writes nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        from rich.console import Console as RichConsole
        from rich.text import Text

        self._text = Text
        self._rich = RichConsole(highlight=False, markup=False, emoji=False, soft_wrap=True, quiet=quiet)

    def line(self, text: str = "") -> None:
        """A plain line."""
        self._rich.print(text)

    def headline(self, text: str) -> None:
        """The title of a part."""
        self._rich.print()
        self._rich.print(self._text(text, style="bold"))

    def step(self, text: str, *, done: bool = True) -> None:
        """A step that was done or failed."""
        self._rich.print(
            self._text("  ✓ ", style="green") if done else self._text("  ✗ ", style="red"),
            self._text(safe(text)),
            sep="",
        )

    def message(self, text: str) -> None:
        """A message that was received."""
        self._rich.print(f"  📨 {safe(text)}")

    def note(self, text: str) -> None:
        """A remark or a warning."""
        self._rich.print(self._text("  ! ", style="yellow"), self._text(safe(text)), sep="")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table, each column as wide as its widest cell."""
        if not self._rich.quiet:
            table(head, rows)
