"""What a person reads on stdout: headlines, steps, messages and a table.

Must stay true: every line leaves at once, so that a step is seen as it happens; texts are printed as they are,
whatever brackets or colons they hold, but for what a terminal would act upon; colour only where the terminal has it.
"""

from collections.abc import Sequence

from rich.console import Console as RichConsole
from rich.text import Text

from dormouse_host.terminal import safe


class Console:
    """Writes to stdout. A quiet one writes nothing: for what is run but not told."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._rich = RichConsole(highlight=False, markup=False, emoji=False, soft_wrap=True, quiet=quiet)

    def line(self, text: str = "") -> None:
        """A plain line."""
        self._rich.print(text)

    def headline(self, text: str) -> None:
        """What comes next."""
        self._rich.print()
        self._rich.print(Text(text, style="bold"))

    def step(self, text: str, *, done: bool = True) -> None:
        """Something that was done, or could not be."""
        self._rich.print(Text("  ✓ ", style="green") if done else Text("  ✗ ", style="red"), Text(safe(text)), sep="")

    def message(self, text: str) -> None:
        """Something that was received."""
        self._rich.print(f"  📨 {safe(text)}")

    def note(self, text: str) -> None:
        """Something that is not as it should be, or needs saying."""
        self._rich.print(Text("  ! ", style="yellow"), Text(safe(text)), sep="")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows side by side, each column as wide as its widest cell: nothing is cut off in a narrow terminal."""
        lines = [head, *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["─" * width for width in widths])
        for line in lines:
            self._rich.print(
                "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            )
