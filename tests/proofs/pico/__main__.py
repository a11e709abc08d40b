"""The agent on MicroPython's own firmware for a Pico W, emulated: `make pico FIRMWARE=RPI_PICO_W.uf2`.

Must stay true: each row runs in a process of its own on a copy of the same flash; a row is green only when its oracle
is; without a firmware nothing runs, and that is said and is no success.

python -m proofs.pico [--jobs 2] [--firmware FILE] [ROW …]      exit 0 all green, 1 not, 2 usage, 77 no firmware
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from proofs.__main__ import NOT_RUN
from proofs.pico.bench import KIND, PHASES
from proofs.pico.rows import ROWS, Context
from support import stack

_DOWNLOAD = 120  # seconds
_ROW = 5400  # seconds
TESTS = Path(__file__).resolve().parents[2]
LOGS = TESTS.parent / "build" / "pico"  # what a row that broke has printed: console and events
STACK = stack.LIMIT  # bytes of C stack that a row may use of 8192: below it ends the heap, unchecked
_COLUMNS = ("heap", "stack", "erases", "programs", "wakes")


def published(folder: Path) -> Path | None:
    """MicroPython's own release, where mpflash is installed and reaches it."""
    if importlib.util.find_spec("mpflash") is None:
        return None
    argv = [sys.executable, "-m", "mpflash", "-q", "download", "--board", KIND, "--version", "stable"]
    environment = {**os.environ, "MPFLASH_FIRMWARE": str(folder)}
    try:
        subprocess.run(argv, env=environment, timeout=_DOWNLOAD, capture_output=True, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next(iter(sorted(folder.rglob("*.uf2"), reverse=True)), None)


def row(name: str, firmware: Path, folder: Path) -> list[dict[str, Any]]:
    """Run one row in a process of its own. Its results, or one that says what was wrong."""
    began = time.monotonic()
    argv = [sys.executable, "-m", "proofs.pico", "--one", name, "--firmware", str(firmware), "--folder", str(folder)]
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        try:
            environment = {**os.environ, "PYTHONPATH": path}
            done = subprocess.run(argv, stdout=output, stderr=output, timeout=_ROW, check=False, env=environment)
            code = done.returncode
        except subprocess.TimeoutExpired:
            code = -1
    told = folder / f"{name}.json"
    if code == 0 and told.is_file():
        found: list[dict[str, Any]] = json.loads(told.read_text())
        return found
    LOGS.mkdir(parents=True, exist_ok=True)
    shutil.copy(log, LOGS)
    last = (log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
    return [{"name": name, "note": last, "wrong": True, "figures": {"seconds": time.monotonic() - began}}]


def one(name: str, firmware: Path, folder: Path) -> None:
    """A row, in this process."""
    place = folder / ("flashed" if name == "flash" else name)
    place.mkdir()
    results = ROWS[name](Context(firmware, place, folder / "flashed"))
    told = [{"name": r.name, "note": r.note, "wrong": False, "figures": asdict(r.figures)} for r in results]
    (folder / f"{name}.json").write_text(json.dumps(told))


def table(results: Sequence[dict[str, Any]]) -> str:
    """The table: bytes, counts, milliseconds of the board, seconds of this machine."""
    head = f"{'':24}{'':6}{'heap':>8}{'stack':>7}{'erases':>8}{'programs':>10}{'wakes':>7}"
    lines = [head + "".join(f"{phase:>9}" for phase in PHASES) + f"{'seconds':>9}  shown"]
    for result in results:
        figures = result["figures"]
        line = f"{result['name']:24}{'FAIL' if result['wrong'] else 'ok':6}"
        for column, width in zip(_COLUMNS, (8, 7, 8, 10, 7), strict=True):
            line += f"{figures.get(column) or '-':>{width}}"
        for phase in PHASES:
            ms = figures.get("phases", {}).get(phase)
            line += f"{'-' if ms is None else format(ms, '.0f'):>9}"
        lines.append(f"{line}{figures['seconds']:9.0f}  {result['note']}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="make pico")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--stack", type=int, default=STACK, help="the deepest that a row may use")
    parser.add_argument("--firmware", type=Path, default=os.environ.get("FIRMWARE") or None)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.rows if name not in ROWS]:
        parser.error(f"no row {unknown[0]!r}; the rows are {', '.join(ROWS)}")
    if asked.one:
        one(asked.one, asked.firmware, asked.folder)
        return 0
    with tempfile.TemporaryDirectory(prefix="dormouse-pico-") as temporary:
        folder = Path(temporary)
        firmware = asked.firmware or published(folder)
        if firmware is None:
            print(f"not run: no firmware; make pico FIRMWARE={KIND}.uf2, from micropython.org/download/{KIND}")
            return NOT_RUN
        return run(firmware.resolve(), asked.rows or list(ROWS), asked.jobs, folder, asked.stack)


def judged(result: dict[str, Any], stack: int) -> dict[str, Any]:
    """The result, wrong also where the C stack was used deeper than `stack` bytes."""
    used = result["figures"].get("stack", 0)
    if used <= stack or result["wrong"]:
        return result
    return {**result, "wrong": True, "note": f"{used} bytes of C stack, more than {stack}; {result['note']}"}


def run(firmware: Path, names: Sequence[str], jobs: int, folder: Path, stack: int) -> int:
    """All rows of these names, the flash first, and the table."""
    print(f"{KIND} with {firmware.name}, emulated; bytes, counts, milliseconds of the board")
    found = {"flash": row("flash", firmware, folder)}
    if not found["flash"][0]["wrong"]:
        others = sorted(
            (name for name in names if name != "flash"), key=lambda name: name != "cuts"
        )  # the longest first
        with ThreadPoolExecutor(jobs) as pool:
            tasks = {name: pool.submit(row, name, firmware, folder) for name in others}
            for name, task in tasks.items():
                found[name] = task.result()
                print(f"{name}: {found[name][0]['note']}", file=sys.stderr, flush=True)
    results = [judged(result, stack) for name in ROWS for result in found.get(name, [])]
    wrong = sum(result["wrong"] for result in results)
    print(table(results))
    print(f"{len(results)} rows, {wrong} of them wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
