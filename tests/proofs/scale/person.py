"""What a person waits for with 20,000 devices: `python -m proofs.scale --person`, on SQLite and on PostgreSQL.

Must stay true: each command is the program itself in a process of its own, from its start to its end, the best of
three; memory is the most that any of them had. What misses its aim is marked and makes the exit code 1.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from proofs.scale.asked import Broken, asked
from proofs.scale.desk import DEVICE, RECORDS, fill
from proofs.scale.plant import peak
from support.postgresql import PostgreSQL, need_postgresql

DEVICES, EACH = 20_000, 25  # EACH: commands
RUNS = 3
_ROWS = 100_000  # a second, of an export
_SOON, _REFRESH, _START, _MEMORY = 0.5, 1.0, 0.15, 80.0  # seconds, seconds, seconds, MB
_HEARD = 30.0  # seconds
_NAME = "c42x3"  # of a command, as `fill` calls them
COMMANDS = (
    (("--version",), _START),
    (("status",), _SOON),
    (("status", "--group", "house-07"), _SOON),
    (("status", "--overdue"), _SOON),
    (("status", DEVICE), _SOON),
    (("log", DEVICE), _SOON),
    (("result", _NAME), _SOON),
    (("send", DEVICE, "water", "s=1"), _SOON),
    (("send", "--group", "house-07", "water", "s=1"), _SOON),
)
Say = Callable[[str], object]


@contextmanager
def ledger(kind: str) -> Iterator[str]:
    """An empty ledger's URL or path."""
    with ExitStack() as stack:
        if kind == "postgresql":
            server = stack.enter_context(PostgreSQL(need_postgresql(), durable=True))
            yield stack.enter_context(server.fresh())
        else:
            yield str(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dormouse-person-"))) / "ledger.db")


def measure(kind: str, say: Say, devices: int = DEVICES, records: int = RECORDS) -> int:
    """Say what each command takes. How many aims were missed."""
    missed = 0
    with ledger(kind) as url:
        fill(url, devices, records, EACH)
        say(f"{kind}: {devices} devices, {devices * EACH} commands, {records} records")
        for words, aim in COMMANDS:
            runs = [asked(url if len(words) > 1 or words == ("status",) else None, words) for _ in range(RUNS)]
            missed += _told(say, " ".join(words), min(run[0] for run in runs), aim, max(run[1] for run in runs))
        missed += _told(say, "watch, from a command to its line", _refresh(url), _REFRESH, 0.0)
        missed += _export(url, records, say)
    return missed


def _told(say: Say, what: str, seconds: float, aim: float, memory: float) -> int:
    wrong = [f"aim {aim:g} s"] * (seconds > aim) + [f"aim {_MEMORY:.0f} MB"] * (memory > _MEMORY)
    held = f", {memory:.0f} MB" if memory else ""
    say(f"  {what}: {seconds:.2f} s{held}" + (f"  missed: {', '.join(wrong)}" if wrong else ""))
    return bool(wrong)


def _refresh(url: str) -> float:
    """Seconds from the end of a `send` to the line of `dormouse watch` that shows it."""
    argv = [sys.executable, "-m", "dormouse_host.cli", "watch", "--json", "--db", url]
    lines: Queue[str] = Queue()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout
            Thread(target=_read, args=(child.stdout, lines), daemon=True).start()
            until = time.monotonic() + _HEARD
            while _next(lines) and time.monotonic() < until:
                pass  # what there is at the beginning; some are always just overdue
            asked(url, ("send", DEVICE, "water", "s=2"))
            began = time.monotonic()
            while True:
                line = _next(lines, _HEARD)
                if line is None or time.monotonic() - began > _HEARD:
                    raise Broken("watch shows nothing of a command that was sent")
                if DEVICE in json.dumps(json.loads(line)):
                    return time.monotonic() - began
        finally:
            child.kill()


def _read(out: Iterable[str], lines: "Queue[str]") -> None:
    for line in out:
        lines.put(line)


def _next(lines: "Queue[str]", seconds: float = 5.0) -> str | None:
    try:
        return lines.get(timeout=seconds)
    except Empty:
        return None


def _export(url: str, records: int, say: Say) -> int:
    """Rows a second and memory of an export of everything."""
    began = time.monotonic()
    argv = [sys.executable, "-m", "dormouse_host.cli", "export", "telemetry", "--db", url]
    count, most = 0, 0.0
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout
        while piece := child.stdout.read(1 << 16):
            count += piece.count(b"\n")
            with contextlib.suppress(ValueError):  # it is just ending
                most = max(most, peak(child.pid))
    rate = (count - 1) / (time.monotonic() - began)
    if child.returncode or count < records:
        raise Broken(f"export: code {child.returncode}, {count} lines")
    missed = rate < _ROWS or most > _MEMORY
    say(f"  export telemetry: {rate:.0f} rows a second, {most:.0f} MB" + ("  missed" if missed else ""))
    return missed
