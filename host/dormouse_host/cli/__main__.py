"""Where `dormouse` begins; `python -m dormouse_host.cli` is the same. The version needs none of the commands."""

import sys
from typing import NoReturn

from dormouse import protocol


def main() -> NoReturn:
    """The program `dormouse`."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"dormouse {protocol.VERSION}\n")
        sys.exit(0)
    from dormouse_host.cli import app

    app.main()


if __name__ == "__main__":
    main()
