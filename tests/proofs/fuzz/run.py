"""Make bytes up for so many seconds, then show the same ones to MicroPython.

Must stay true: a target gets its share of the time; MicroPython is shown what CPython has seen, and a verdict that
is another one there is a finding.

    python -m proofs.fuzz [--seconds 60] [--seed 1]        the loop of `make fuzz`
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from dormouse_host.agent import mpy, process, toolchain
from dormouse_host.ledger import messages
from proofs.fuzz import targets
from proofs.fuzz.shapes import SHAPES

HERE = Path(__file__).parent
FOUND = HERE / "found"
KEPT = 150  # examples of each target that MicroPython gets to see
SLOW = 5.0  # seconds for one example: none takes a tenth
HEAP = "512k"  # the flash is in it, too; what takes too much is far above that
_ROUND = 200  # examples between two looks at the clock
_REPLAY = 300  # seconds for MicroPython


class Finding(Exception):
    """Bytes that a target does not take as it should."""

    def __init__(self, target: str, data: bytes, why: str) -> None:
        super().__init__(f"{target}: {why}\n  {data!r}")
        self.target, self.data = target, data

    def keep(self) -> Path:
        """Write the bytes where they stay a test."""
        FOUND.mkdir(exist_ok=True)
        path = FOUND / f"{self.target}-{hashlib.sha256(self.data).hexdigest()[:12]}.bin"
        path.write_bytes(self.data)
        return path


def said(data: bytes) -> str:
    """What a device says, as the host reads it: ValueError and nothing else."""
    told = []
    for parse in (messages.results, messages.report, messages.end_of, messages.telemetry):
        try:
            told.append(repr(parse(data)))
        except ValueError:
            told.append("")
    return " ".join(told)


FUNCTIONS: dict[str, Callable[[bytes], str]] = {f.__name__: f for f in targets.TARGETS} | {"said": said}


def check(target: str, data: bytes) -> str:
    """The verdict. Finding where the target raises what it may not, or takes too long."""
    began = time.monotonic()
    verdict: str = targets.verdict(FUNCTIONS[target], data)
    if not verdict.startswith("ok "):
        raise Finding(target, data, verdict)
    if time.monotonic() - began > SLOW:
        raise Finding(target, data, f"took {time.monotonic() - began:.1f} s")
    return verdict


def fuzz(target: str, seconds: float, seed: int, rounds: int | None = None) -> tuple[int, dict[bytes, str]]:
    """Make up bytes for `seconds`, or for so many rounds. Returns how many, and a sample with its verdicts."""
    until = time.monotonic() + seconds
    kept: dict[bytes, str] = {}
    chance = random.Random(seed)
    made = 0

    def one(data: bytes) -> None:
        nonlocal made
        made += 1
        verdict = check(target, data)
        if len(kept) < KEPT:
            kept[data] = verdict
        elif chance.random() < KEPT / made:
            kept.pop(next(iter(kept)))
            kept[data] = verdict

    done = 0
    while time.monotonic() < until if rounds is None else done < rounds:
        done += 1
        run = settings(
            max_examples=_ROUND,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )(given(SHAPES[target])(one))
        seeded(chance.randrange(1 << 30))(run)()
    return made, kept


def replay(examples: dict[str, dict[bytes, str]]) -> int:
    """Show these to MicroPython, compiled as on a board and with a board's heap. Finding where its verdict differs."""
    with tempfile.TemporaryDirectory(prefix="dormouse-fuzz-") as name:
        work = Path(name)
        (work / "corpus").mkdir()
        expected = {}
        for target, cases in examples.items():
            for data, verdict in cases.items():
                file = f"{target}-{hashlib.sha256(data).hexdigest()[:16]}.bin"
                (work / "corpus" / file).write_bytes(data)
                expected[file] = (target, data, verdict)
        mpy.compile_file(HERE / "targets.py", work / "lib" / "targets.mpy")
        library = mpy.library(toolchain.agent_folder())
        code = f"import targets; targets.replay({str(work / 'corpus')!r}, {str(work / 'report')!r})"
        argv, environment = process.interpreter("micropython", ["-c", code], [work / "lib", library], HEAP)
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_REPLAY, check=False)
        lines = (work / "report").read_text().split("\n")
        for line in filter(None, lines):
            file, _, verdict = line.partition(" ")
            target, data, before = expected.pop(file)
            if verdict != before and not (before == "ok any" and verdict.startswith("ok ")):
                raise Finding(target, data, f"CPython: {before}; MicroPython: {verdict or done.stderr.strip()[-200:]}")
        if expected:
            raise RuntimeError(f"MicroPython did not come to its end: {done.stderr.strip()[-300:]}")
        return sum(map(len, examples.values()))


def run(seconds: float, seed: int, say: Callable[[str], object], rounds: int | None = None) -> None:
    """Every target for its share of the seconds, or for so many rounds; then the replay."""
    examples = {}
    for target in FUNCTIONS:
        made, kept = fuzz(target, seconds / len(FUNCTIONS), seed, rounds)
        say(f"{target:9} {made:7} made up")
        if target != "said":
            examples[target] = kept
    say(f"{replay(examples)} of them shown to MicroPython: the same verdicts")


def main() -> None:
    """Fuzz, and write down what was found."""
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    try:
        run(options.seconds, options.seed, lambda line: print(line, flush=True))
    except Finding as finding:
        print(f"{finding}\nkept as {finding.keep()}")
        sys.exit(1)
