"""Where the flash loses power: the number of an operation, and in which way (boards/virtual/norflash.py)."""

from dormouse_host.errors import HostError

MODES = ("before", "half", "torn", "after")


def parse_cut(text: str) -> tuple[int, str]:
    """Number and mode of a cut. HostError, code 2, for what is none."""
    number, _, mode = text.partition(":")
    if not (number.isascii() and number.isdigit() and int(number) > 0 and mode in MODES):
        raise HostError(f"cut {text!r}: expected NUMBER:MODE, the mode one of {', '.join(MODES)}", 2)
    return int(number), mode
