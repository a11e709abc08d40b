"""Where `dormouse` begins; `python -m dormouse_host.cli` is the same. The version needs none of the commands."""

import gc
import io
import os
import sys
from typing import Any, NoReturn

from dormouse import protocol

_GARBAGE = 50_000  # objects between two collections: with ten thousand devices in hand each takes a quarter of a second


class _Stderr(io.FileIO):
    """What can't be written to it is lost: there is nobody else to tell, and the exit code says what has come of it."""

    def write(self, data: Any, /) -> int:
        """Write it, or pretend to."""
        try:
            return super().write(data)
        except OSError:  # a full disk, or a reader that has gone
            return memoryview(data).nbytes


def main() -> NoReturn:
    """The program `dormouse`."""
    _reopen()
    raw = _Stderr(sys.stderr.fileno(), "w", closefd=False)
    encoding, errors = sys.stderr.encoding, sys.stderr.errors
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)
    if sys.argv[1:] == ["--version"]:
        sys.exit(_version())
    gc.set_threshold(_GARBAGE)
    from dormouse_host.cli import app

    app.main()


def _version() -> int:
    """Print it. Returns the exit code."""
    try:
        sys.stdout.write(f"dormouse {protocol.VERSION}\n")
        sys.stdout.flush()
        return 0
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter does not try it again
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"dormouse: standard output: {error.strerror}\n")
        return 1


def _reopen() -> None:
    """What was closed of stdin, stdout and stderr is /dev/null, so that no other file gets its number: here, or in a
    program that is started.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free, and so its own
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", closefd=False))


if __name__ == "__main__":
    main()
