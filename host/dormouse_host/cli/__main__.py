"""Where `dormouse` begins; `python -m dormouse_host.cli` is the same. The version needs none of the commands."""

import sys
from contextlib import suppress
from typing import NoReturn

from dormouse import protocol


def main() -> NoReturn:
    """The program `dormouse`."""
    if sys.argv[1:] == ["--version"]:
        with suppress(OSError):
            sys.stdout.write(f"dormouse {protocol.VERSION}\n")
            sys.stdout.flush()
            sys.exit(0)
    from dormouse_host.cli import app

    app.main()  # the version, too, where stdout did not take it: this says why


if __name__ == "__main__":
    main()
