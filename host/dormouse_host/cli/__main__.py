"""Where `dormouse` begins; `python -m dormouse_host.cli` is the same. The version needs none of the commands."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

from dormouse import protocol


def main() -> NoReturn:
    """The program `dormouse`."""
    _reopen()
    if sys.argv[1:] == ["--version"]:
        with suppress(OSError):
            sys.stdout.write(f"dormouse {protocol.VERSION}\n")
            sys.stdout.flush()
            sys.exit(0)
    from dormouse_host.cli import app

    app.main()  # the version, too, where stdout did not take it: this says why


def _reopen() -> None:
    """What was closed of stdin, stdout and stderr is /dev/null, so that no other file gets its number: here, or in a
    program that is started.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free, and so its own
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w"))


if __name__ == "__main__":
    main()
