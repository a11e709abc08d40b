"""Process 1 of the fresh machine: mounts its root, runs the steps in it, and takes all of it along when it ends.

Must stay true: it runs in mount, process and IPC namespaces of its own, so that nothing mounted or started here can
outlive it, however it ends; as process 1 of any machine does, it reaps what has lost its parent.

`python -m proofs.fresh.inside PLAN.json`: `fresh.__main__` writes the plan; exit code: that of the first failing step.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from proofs.fresh import machine

USER, USER_ID = "sleeper", 1000
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def mount(*words: str) -> None:
    """mount(8), or the error that it had."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise machine.Unusable(f"mount {' '.join(words)}: {done.stderr.strip()}")


def mount_root(base: Path, work: Path) -> Path:
    """A root to write in: an overlay over the base, else a copy of it."""
    root, upper, scratch = (work / name for name in ("root", "upper", "scratch"))
    for folder in (root, upper, scratch):
        folder.mkdir()
    try:
        mount("-t", "overlay", "overlay", "-o", f"lowerdir={base},upperdir={upper},workdir={scratch}", str(root))
    except machine.Unusable:
        print("no overlay here: the base is copied", flush=True)
        subprocess.run(["cp", "-a", "--reflink=auto", f"{base}/.", str(root)], check=True)
    return root


def furnish(root: Path) -> None:
    """/proc, /sys, /dev and what the machine lends, read-only."""
    mount("-t", "proc", "proc", str(root / "proc"))
    mount("--rbind", "-o", "ro", "/sys", str(root / "sys"))
    dev = root / "dev"
    mount("-t", "tmpfs", "-o", "mode=755", "dev", str(dev))
    for name in _DEVICES:
        (dev / name).touch()
        mount("--bind", f"/dev/{name}", str(dev / name))
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", str(dev / "pts"))
    mount("-t", "tmpfs", "-o", "mode=1777", "shm", str(dev / "shm"))
    (dev / "ptmx").symlink_to("pts/ptmx")
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (dev / name).symlink_to(target)
    for path in machine.local_paths():
        place = root / str(path).lstrip("/")
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        mount("--bind", str(path), str(place))
        mount("-o", "remount,bind,ro", str(place))


def run(root: Path, step: dict[str, Any]) -> int:
    """One step's exit code: a shell's command in the root, as root or as the user."""
    home = "/root" if step["as"] == "root" else f"/home/{USER}"
    environment = {**machine.environment(), "PATH": PATH, "HOME": home, "USER": step["as"], "TERM": "dumb"}
    argv = ["chroot", str(root), "/bin/sh", "-c", f"cd {home} && {step['run']}"]
    if step["as"] != "root":
        argv[1:1] = [f"--userspec={USER_ID}:{USER_ID}", "--groups="]
    child = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + step["seconds"]

    def late(*_: object) -> None:
        print(f"fresh: {step['name']}: no end in {step['seconds']} s", flush=True)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)

    signal.signal(signal.SIGALRM, late)
    signal.alarm(max(1, int(deadline - time.monotonic())))
    try:
        return _reap_until(child.pid)
    finally:
        signal.alarm(0)


def _reap_until(wanted: int) -> int:
    """Reap every process until the wanted one has ended; its exit code."""
    while True:
        pid, status = os.wait()
        if pid == wanted:
            return os.waitstatus_to_exitcode(status)


def main(plan_file: Path) -> int:
    """Run the plan's steps; one line of JSON for each into the plan's report."""
    plan = json.loads(plan_file.read_text())
    mount("--make-rprivate", "/")
    root = mount_root(Path(plan["base"]), plan_file.parent)
    furnish(root)
    shutil.copyfile(plan["bundle"], root / "srv/dormouse.bundle")
    home = root / f"home/{USER}"
    home.mkdir(parents=True)
    with (root / "etc/passwd").open("a") as passwd, (root / "etc/group").open("a") as group:
        passwd.write(f"{USER}:x:{USER_ID}:{USER_ID}::/home/{USER}:/bin/sh\n")
        group.write(f"{USER}:x:{USER_ID}:\n")
    machine.copy_into(root, plan["suite"], ["/root", f"/home/{USER}"])
    for path in [home, *home.rglob("*")]:
        shutil.chown(path, USER_ID, USER_ID)
    subprocess.run(["hostname", "fresh"], check=True)
    with Path(plan["report"]).open("a") as report:
        for step in plan["steps"]:
            print(f"fresh: {step['name']}", flush=True)
            began = time.monotonic()
            code = run(root, step)
            report.write(json.dumps({"name": step["name"], "seconds": time.monotonic() - began, "code": code}) + "\n")
            report.flush()
            if code != step["expected"]:
                return code or 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except machine.Unusable as error:
        print(f"fresh: {error}", file=sys.stderr)
        sys.exit(2)
