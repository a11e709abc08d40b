"""All programs, and the ports that each is tried on."""

from proofs.unruly import hanging, patching, raising, spoiling
from proofs.unruly.program import Program

KINDS: dict[str, list[Program]] = {
    "hanging": hanging.PROGRAMS,
    "raising": raising.PROGRAMS,
    "spoiling": spoiling.PROGRAMS,
    "patching": patching.PROGRAMS,
}
ROWS = [(program, port) for programs in KINDS.values() for program in programs for port in program.ports]


def chosen(words: list[str]) -> list[tuple[Program, str]]:
    """The rows with one of these words in the program's name, or whose port or kind it is; all where there is none."""
    if not words:
        return ROWS
    of_kind = [program for word in words for program in KINDS.get(word, [])]
    return [
        (program, port)
        for program, port in ROWS
        if program in of_kind or any(word in program.name or word == port for word in words)
    ]
