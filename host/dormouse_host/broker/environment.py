"""Files of `NAME=value` lines, which a shell sources, systemd reads as EnvironmentFile, and we read.

Must stay true: whatever a value holds, all three get that value and run nothing.
"""

import shlex
from collections.abc import Mapping

from dormouse_host.errors import HostError


def text(values: Mapping[str, str]) -> str:
    """The file's text. HostError for a value that does not fit into a line."""
    for name, value in values.items():
        if not value.isprintable():
            raise HostError(f"{name} can't be {value!a}: it holds a control character", 2)
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def read(said: str) -> dict[str, str]:
    """What such a text says. HostError where it is none."""
    try:
        words = [word.partition("=") for line in said.splitlines() for word in shlex.split(line)]
    except ValueError:
        raise HostError("not lines of NAME=value", 2) from None
    return {name: value for name, _, value in words}
