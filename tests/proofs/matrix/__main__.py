"""`make matrix`: one pytest run for each interpreter and each umqtt.simple, one line each, and what was skipped.

python -m proofs.matrix [own|forky|preview …] [1.3.4|1.8.0 …] [FILE …]
exit 0 when all passed, 1 when a test failed, 2 for a word that is none, 77 when an interpreter could not be had
"""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from dormouse_host.agent import toolchain
from dormouse_host.errors import HostError
from proofs.__main__ import NOT_RUN
from proofs.matrix import interpreters
from support import newer_umqtt

ROOT = Path(__file__).resolve().parents[3]
LOGS = ROOT / "build" / "matrix"
UMQTT = ("1.3.4", "1.8.0")  # the second is a stand-in: tests/support/newer_umqtt.py
SUITE = (
    *("tests/unit/device", "tests/device", "tests/boards", "tests/proofs/test_powercut.py"),
    *("tests/proofs/test_journal_cuts.py", "tests/proofs/test_bounds.py", "tests/proofs/test_hostile.py"),
    *("tests/proofs/test_hostile_boards.py", "tests/proofs/test_fuzz.py", "tests/proofs/test_board_wakes.py"),
)


def environment(interpreter: Path, umqtt: str) -> dict[str, str]:
    """What makes the tests take both."""
    chosen = {**os.environ, "MICROPYTHON": str(interpreter)}
    if umqtt == UMQTT[1]:
        folder = LOGS / f"umqtt-{umqtt}"
        if not folder.is_dir():
            newer_umqtt.make(folder)
        chosen["UMQTT"] = str(folder)
    return chosen


def cell(name: str, umqtt: str, files: list[str]) -> tuple[Counter[str], Counter[str]]:
    """The tests of one cell: how many passed, failed and were skipped; and why so many were skipped."""
    report = LOGS / f"{name}-{umqtt}.xml"
    argv = [sys.executable, "-m", "pytest", "-q", "-n", "4", "--dist", "loadgroup", f"--junitxml={report}"]
    if (name, umqtt) != ("own", UMQTT[0]):
        argv += ["-k", "not cpython"] if umqtt == UMQTT[0] else []
    report.unlink(missing_ok=True)
    with report.with_suffix(".log").open("wb") as log:
        chosen = environment(interpreters.ALL[name](), umqtt)
        done = subprocess.run([*argv, *files], cwd=ROOT, env=chosen, stdout=log, stderr=subprocess.STDOUT, check=False)
    if not report.is_file():
        return Counter(failed=max(1, done.returncode)), Counter()
    counts: Counter[str] = Counter()
    why: Counter[str] = Counter()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        skipped = case.find("skipped")
        failed = case.find("failure") is not None or case.find("error") is not None
        counts["failed" if failed else "passed" if skipped is None else "skipped"] += 1
        if skipped is not None:
            why[skipped.get("message", "")] += 1
    if done.returncode and not counts["failed"]:
        counts["failed"] = 1
    return counts, why


def main(words: list[str]) -> int:
    """The exit code."""
    chosen = [word for word in words if word in interpreters.ALL] or list(interpreters.ALL)
    clients = [word for word in words if word in UMQTT] or list(UMQTT)
    files = [word for word in words if (ROOT / word).exists()]
    if unknown := set(words) - set(chosen) - set(clients) - set(files):
        print(f"make matrix: no {sorted(unknown)[0]!r}: {', '.join((*interpreters.ALL, *UMQTT))}, or test files")
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    worst = 0
    reasons: Counter[str] = Counter()
    print(f"{'interpreter':32} {'umqtt.simple':13} {'passed':>6} {'skipped':>7} {'failed':>6} {'s':>5}", flush=True)
    for name in chosen:
        try:
            found = toolchain.probe(interpreters.ALL[name](), name)
        except HostError as error:
            print(f"{name:32} not run: {error}", flush=True)
            worst = worst or NOT_RUN
            continue
        for umqtt in clients:
            began = time.monotonic()
            counts, why = cell(name, umqtt, files or list(SUITE))
            title = f"{'.'.join(map(str, found.version))}, {found.bits} bit ({name})" if found else name
            line = f"{title:32} {umqtt:13} {counts['passed']:6} {counts['skipped']:7} {counts['failed']:6}"
            print(f"{line} {time.monotonic() - began:5.0f}", flush=True)
            worst = 1 if counts["failed"] else worst
            reasons += Counter({f"{name}, {umqtt}: {reason}": n for reason, n in why.items()})
    for reason, n in sorted(reasons.items()):
        print(f"skipped {n:3}  {reason}")
    print(f"what each printed: {LOGS.relative_to(ROOT)}")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
