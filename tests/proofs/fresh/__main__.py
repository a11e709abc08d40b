"""`make fresh`: make demo and make test in a root that has nothing but git, make and Python 3.

Must stay true: what runs is a clone of the last commit; each run has a root of its own, which is unmounted and removed
when the run ends, also after Ctrl-C; what a killed run left is removed by the next one.
"""

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proofs.fresh import base, inside, machine

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".cache" / "fresh"
_CLONE = (
    "rm -rf dormouse && git -c init.defaultBranch=main init --quiet dormouse && cd dormouse"
    " && git fetch --quiet /srv/dormouse.bundle HEAD && git checkout --quiet FETCH_HEAD"
)
# What a person without root meets on such a machine: one line that names what to install, and exit code 2 of make.
_TOLD = "{ make demo 2>told; code=$?; cat told >&2; [ $code = 2 ] && grep -q 'apt-get install' told && exit 77; }"
# As the README says: installed by pip from the clone, a project, and its test on a virtual board.
_INSTALL = (
    "{ export DEBIAN_FRONTEND=noninteractive && apt-get -qq update && apt-get -qq -y install python3-venv mosquitto; }"
    " >/dev/null 2>&1 && python3 --version && python3 -m venv env && . env/bin/activate"
    " && pip install --quiet --no-cache-dir . pytest"
    " && cd .. && dormouse init greenhouse && cd greenhouse && pytest"
)


def steps(which: str, pytest_args: str) -> list[dict[str, Any]]:
    """The steps of a run; `expected`: its exit code."""
    test = f"make test ARGS='{pytest_args}'" if pytest_args else "make test"
    every = [
        ("user, before", inside.USER, f"{_CLONE} && {_TOLD}", 300, 77, "demo"),
        ("root, make demo", "root", f"{_CLONE} && make demo", 900, 0, "demo"),
        ("user, make demo", inside.USER, f"{_CLONE} && make demo", 600, 0, "demo"),
        ("root, pip install", "root", f"{_CLONE} && {_INSTALL}", 900, 0, "install"),
        ("root, make test", "root", f"{_CLONE} && {test}", 5400, 0, "test"),
    ]
    names = ("name", "as", "run", "seconds", "expected")
    return [dict(zip(names, step, strict=False)) for step in every if which in ("all", step[-1])]


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for one run, removed at its end; and those whose runs were killed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob("run-*"):
        with (old / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(old, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))
    lock = (work / "lock").open("w")  # held until the process has ended, however it does
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.close()


def run(suite: str, planned: list[dict[str, Any]]) -> int:
    """Make the root, run the steps in it, print their table; the exit code."""
    base.check_tools()
    root = base.make(CACHE, suite)
    with workspace() as work:
        plan, report = work / "plan", work / "report"
        bundle = work / "bundle"
        subprocess.run(["git", "-C", str(ROOT), "bundle", "create", "--quiet", str(bundle), "HEAD"], check=True)
        told = {"base": str(root), "suite": suite, "bundle": str(bundle), "report": str(report), "steps": planned}
        plan.write_text(json.dumps(told))
        argv = ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--ipc", "--uts", "--fork"]
        argv += ["--kill-child", sys.executable, "-m", "proofs.fresh.inside", str(plan)]
        path = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "host")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        child = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            code = child.wait()
        finally:
            child.kill()  # and the kernel everything below it
            child.wait()
        rows = [json.loads(line) for line in report.read_text().splitlines()] if report.is_file() else []
    for row in rows:
        print(f"fresh {suite}: {row['name']:18} {row['seconds']:6.0f} s  exit code {row['code']}")
    return code


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="make fresh", description=__doc__.splitlines()[0])
    parser.add_argument("suite", help="a release of this distribution: bookworm, trixie, …")
    parser.add_argument("--only", choices=("all", "demo", "install", "test"), default="all")
    parser.add_argument("--pytest", default="", help="arguments for pytest, with --only test")
    given = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored
    dirty = subprocess.run(
        ["git", "-C", str(ROOT), "status", "--porcelain"], capture_output=True, text=True, check=False
    )
    if dirty.stdout.strip():
        print("fresh: what is not committed is not tried", file=sys.stderr)
    try:
        return run(given.suite, steps(given.only, given.pytest))
    except machine.Unusable as error:
        print(f"fresh: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fresh: stopped; its root is removed", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
