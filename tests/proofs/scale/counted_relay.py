"""The process of `dormouse relay`, counting: `python -m proofs.scale.counted_relay COUNTS [NAME=VALUE …] -- relay …`.

Must stay true: what runs is the command line's own `main`; COUNTS is a file of two 64-bit numbers, the statements
sent to the database and the transactions committed so far. NAME=VALUE sets a constant first (`module:CONSTANT`, of a
module of dormouse_host): how a setting's part in the figures is measured. `samples=FILE`: see sampler.py.
"""

import ast
import importlib
import mmap
import os
import struct
import sys
from pathlib import Path

from sqlalchemy import Engine, event

from dormouse_host.cli import app
from proofs.scale import sampler

_COUNTS = struct.Struct("=QQ")


def read(path: Path) -> tuple[int, int]:
    """Statements and transactions up to now."""
    return _COUNTS.unpack(path.read_bytes()) if path.exists() else (0, 0)


def count_into(path: Path) -> None:
    """Count what every engine of this process does from now on."""
    path.write_bytes(bytes(_COUNTS.size))
    with path.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), _COUNTS.size)
    counts = [0, 0]

    def add(which: int) -> None:
        counts[which] += 1
        _COUNTS.pack_into(shared, 0, *counts)

    event.listen(Engine, "before_cursor_execute", lambda *_: add(0))
    event.listen(Engine, "commit", lambda *_: add(1))


def put(setting: str) -> None:
    """Set one constant."""
    name, _, value = setting.partition("=")
    module, _, constant = name.partition(":")
    found = importlib.import_module(f"dormouse_host.{module}")
    if not hasattr(found, constant):
        raise SystemExit(f"{name}: there is no such constant")
    setattr(found, constant, ast.literal_eval(value))


def main(arguments: list[str]) -> None:
    """Never returns: the command line ends the process."""
    end = arguments.index("--")
    for setting in arguments[1:end]:
        if setting.startswith("samples="):
            sampler.sample_into(Path(setting.partition("=")[2]))
        else:
            put(setting)
    count_into(Path(arguments[0]))
    sys.argv = ["dormouse", *arguments[end + 1 :]]
    os.chdir(Path(arguments[0]).parent)  # where its dormouse.toml is
    os.environ.pop("PYTHONPATH", None)
    app.main()


if __name__ == "__main__":
    main(sys.argv[1:])
