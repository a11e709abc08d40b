"""`dormouse bench`: what a wake costs.

Must stay true: it measures and prints; it exits with 1 where a target is missed only when it is asked to judge.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dormouse_host.cli.options import Json
from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from dormouse_host.lab.bench import cases

_DRAWN = (10, 10)  # the case whose timeline is drawn


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(bench)


def bench(
    runs: Annotated[int, typer.Option(min=1, max=50, help="Runs of each wake of ours; the fastest counts.")] = 3,
    case: Annotated[
        list[str] | None, typer.Option(metavar="COMMANDS,RECORDS", help="Only this case; may be given again.")
    ] = None,
    heap: Annotated[bool, typer.Option(help="Look for the smallest heap, too: minutes.")] = True,
    svg: Annotated[Path | None, typer.Option(help="Write the timeline of the case 10,10 here.")] = None,
    as_json: Json = False,
) -> None:
    """What a wake costs, beside umqtt.simple.

    Plain and tuned, at 200 ms a round trip.
    """
    from rich.console import Console

    from dormouse_host import files
    from dormouse_host.agent import toolchain
    from dormouse_host.lab.bench import cases, measure, picture

    wanted = [_case(text) for text in case] if case else list(cases.CASES)
    if svg:
        _check_drawing(svg, wanted)
    program = toolchain.mosquitto()
    if program is None:
        raise HostError("the bench needs mosquitto: apt-get install mosquitto")
    say = Console(stderr=True, highlight=False)
    rows: list[cases.Row] = []
    with measure.Bench(program) as ground:
        for each in wanted:
            for style in cases.OF.get(each, cases.STYLES):
                say.print(f"{each[0]} commands, {each[1]} records: {style}")
                row = measure.fastest(ground, style, each, runs if style in cases.OURS else 1)
                if style == "ours":
                    row.erases, row.flash_ms, row.peak = measure.flash_and_memory(ground, each)
                if heap and style in cases.STYLES:  # this interpreter keeps TLS outside of its heap, a board does not
                    row.smallest = measure.smallest_heap(ground, style, each)
                if heap and style == "ours":
                    row.in_place = measure.smallest_heap(ground, style, each, rom=True)
                rows.append(row)
    if as_json:
        sys.stdout.write(json.dumps([row.plain() for row in rows], indent=1) + "\n")
    else:
        _tell(rows)
    if svg:
        shown = [row for row in rows if (row.commands, row.records) == _DRAWN and row.style in cases.STYLES]
        files.write(svg, picture.picture(shown), files.PUBLIC)


def _tell(rows: "list[cases.Row]") -> None:
    from rich.console import Console

    from dormouse_host.lab.bench import table

    out = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    out.print(table.table(rows))
    for line in table.ratios(rows):
        out.print(line)
    for line, met in table.judged(rows):
        out.print(f"{'met   ' if met else 'missed'} {line}")


def _check_drawing(svg: Path, wanted: list[tuple[int, int]]) -> None:
    """HostError before the minutes of the bench, and not after them."""
    if _DRAWN not in wanted:
        raise HostError("--svg is the timeline of the case 10,10: add --case 10,10", 2)
    if svg.is_dir() or not os.access(svg.parent, os.W_OK | os.X_OK):
        raise HostError(f"--svg {svg}: no file can be written there", 2)


def _case(text: str) -> tuple[int, int]:
    left, _, right = text.partition(",")
    if not (text.isascii() and left.isdigit() and right.isdigit() and int(right) > 0):
        raise HostError(f"case {text}: two numbers such as 10,10, the second above 0", 2)
    return int(left), int(right)
