"""Device tests: each function of tests/unit/device/test_*.py is one test on CPython and one on MicroPython.

Must stay true: both run the file in a process of its own; MicroPython sees what a board sees, the agent and
umqtt.simple compiled to .mpy and a heap of a board's size; a function that the interpreter did not come to, or did
not come back from, has failed. A test file is plain functions with `assert`, in the language both share:

    HEAP = "64k"                 # optional, instead of 128k; on a 64-bit interpreter doubled
    from runner import folder    # folder() is a new empty folder, as a string
    def test_something(): ...
"""

import ast
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dormouse_host.agent import mpy
from dormouse_host.agent.process import Kind, interpreter
from dormouse_host.agent.toolchain import agent_folder
from support.needs import need_micropython

FOLDER = Path(__file__).parents[1] / "unit" / "device"
DEFAULT_HEAP = "128k"  # leaves a board's agent about as much as an ESP32 with Wi-Fi up
SILENCE = 60  # seconds for one function; then the interpreter hangs
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # fsync costs nothing there; no test cuts our own power


class DeviceFailure(Exception):
    """What the interpreter reported, as text."""


class Outcome(NamedTuple):
    """What one function came to: its failure if any, and what it printed."""

    failure: str | None
    output: str


class DeviceItem(pytest.Item):
    """One function under one interpreter."""

    def __init__(self, *, function: str, line: int, kind: Kind, **rest) -> None:
        super().__init__(**rest)
        self.function_name = function  # `function` is a name that pytest looks into for -k
        self.line = line
        self.kind = kind
        self.add_marker(pytest.mark.timeout(0))  # SILENCE bounds each function; the first item waits for all of them

    def setup(self) -> None:
        if self.kind == "micropython":
            need_micropython()

    def runtest(self) -> None:
        assert isinstance(self.parent, DeviceFile)
        outcome = self.parent.outcomes(self.kind)[self.function_name]
        if outcome.output:
            self.add_report_section("call", "output", outcome.output)
        if outcome.failure is not None:
            raise DeviceFailure(outcome.failure)

    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, DeviceFailure):
            return with_source(str(excinfo.value), self.path)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self.line - 1, self.name


class DeviceFile(pytest.File):
    """A file of device tests: read, never imported, by pytest."""

    def collect(self) -> Iterator[DeviceItem]:
        self.ran: dict[str, dict[str, Outcome]] = {}
        tree = ast.parse(self.path.read_bytes(), str(self.path))
        self.heap = heap_of(tree)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for kind in ("cpython", "micropython"):
                    name = f"{node.name}[{kind}]"
                    yield DeviceItem.from_parent(self, name=name, function=node.name, line=node.lineno, kind=kind)

    def outcomes(self, kind: Kind) -> dict[str, Outcome]:
        """By function; the file is run at the first question, with the functions that this session selected."""
        if kind not in self.ran:
            items = [item for item in self.session.items if isinstance(item, DeviceItem) and item.parent is self]
            names = [item.function_name for item in items if item.kind == kind]
            self.ran[kind] = run_file(self.path, names, kind, self.heap)
        return self.ran[kind]


def heap_of(tree: ast.Module) -> str:
    """What the file's `HEAP = "…"` says, else the default."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["HEAP"]:
            return str(ast.literal_eval(node.value))
    return DEFAULT_HEAP


def run_file(path: Path, names: list[str], kind: Kind, heap: str) -> dict[str, Outcome]:
    """Run the functions `names` of the file in one process of the interpreter."""
    with tempfile.TemporaryDirectory(prefix="dormouse-test-", dir=MEMORY) as work_name:
        work = Path(work_name)
        (work / "scratch").mkdir()
        report = work / "report"
        code = f"import runner; runner.run({path.stem!r}, {names!r}, {str(work / 'scratch')!r}, {str(report)!r})"
        if kind == "micropython":
            for source in [path, *(file for file in FOLDER.glob("*.py") if not file.name.startswith("test_"))]:
                mpy.compile_file(source, work / "lib" / f"{source.stem}.mpy")
            folders = [work / "lib", mpy.library(agent_folder())]
        else:
            folders = [path.parent, FOLDER, agent_folder()]
        argv, environment = interpreter(kind, ["-c", code], folders, heap)
        with (work / "output").open("wb") as output:
            environment["PYTHONUNBUFFERED"] = "1"
            ending = _run_until_silent(argv, environment, output.fileno(), report)
        told = [json.loads(line) for line in report.read_text().splitlines()] if report.is_file() else []
        return _outcomes(names, told, ending, (work / "output").read_text(errors="replace"))


def _run_until_silent(argv: list[str], environment: dict[str, str], output: int, report: Path) -> str:
    """How the process ended: by itself, or stopped because its report has not grown for SILENCE seconds."""
    with subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process:
        size, deadline = -1, 0.0
        try:
            while process.poll() is None:
                grown = report.stat().st_size if report.exists() else 0
                if grown != size:
                    size, deadline = grown, time.monotonic() + SILENCE
                elif time.monotonic() > deadline:
                    return f"hung: nothing for {SILENCE} s"
                try:
                    process.wait(0.2)
                except subprocess.TimeoutExpired:
                    continue
            return f"ended with exit code {process.returncode}"
        finally:
            process.kill()


def _outcomes(names: list[str], told: list[dict[str, str | None]], ending: str, output: str) -> dict[str, Outcome]:
    """Each function's outcome out of the report; what is not in it has failed, by the process's end."""
    reported = {entry["name"]: entry["failure"] for entry in told if "failure" in entry}
    begun = told[-1]["name"] if told else "the import of the test file"
    parts = dict(part.partition("\n")[::2] for part in output.split("\x1e")[1:])
    outcomes = {}
    for name in names:
        lost = f"the interpreter {ending} in {begun}"
        outcomes[name] = Outcome(reported.get(name, lost), parts.get(name, "" if reported else output))
    return outcomes


def with_source(trace: str, path: Path) -> str:
    """The traceback with the test's own source lines in it, which MicroPython does not print."""
    lines = path.read_text().splitlines()

    def add(match: re.Match[str]) -> str:
        number = int(match[1])
        return f"{match[0]}\n    {lines[number - 1].strip()}" if 0 < number <= len(lines) else match[0]

    return re.sub(rf'^ *File "{re.escape(path.name)}", line (\d+).*$', add, trace, flags=re.MULTILINE)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> DeviceFile | None:
    """pytest's hook: a file of tests/device is ours to collect; all others are Python's."""
    return DeviceFile.from_parent(parent, path=module_path) if module_path.parent == FOLDER else None
