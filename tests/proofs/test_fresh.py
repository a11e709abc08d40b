"""`make fresh`: what it takes from this machine, and that nothing of a run is left, however it ends.

The whole of it is `.ci/run`; here a root of a few files stands for a distribution's.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proofs.fresh import inside, machine
from proofs.fresh.__main__ import steps
from support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "host")])
RUN = """
import sys
from pathlib import Path
from proofs.fresh import __main__ as fresh
fresh.CACHE = Path(sys.argv[1])
fresh.base.check_tools = lambda: None
root = Path(sys.argv[2])
fresh.base.make = lambda cache, suite: root
step = {"name": "waits", "as": "root", "run": sys.argv[3], "seconds": 60, "expected": 0}
fresh.steps = lambda *given: [step]
sys.argv[1:] = [fresh.machine.newer_release.os_release()["VERSION_CODENAME"]]
sys.exit(fresh.main())
"""


@pytest.fixture(scope="module")
def little_root(tmp_path_factory):
    """A root with a shell and what a step of these tests calls."""
    if os.geteuid() != 0:
        pytest.skip("needs root: the root file system of a fresh machine is mounted")
    root = tmp_path_factory.mktemp("root")
    for name in ("proc", "sys", "dev", "etc", "root", "home", "srv", "bin", "tmp"):
        (root / name).mkdir()
    for name in ("sh", "sleep", "mkdir"):
        program = Path(shutil.which(name) or name).resolve()
        shutil.copy(program, root / "bin" / name)
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"(/\S+)", linked):
            target = root / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(library).resolve(), target)
    return root


def start(cache, root, step):
    environment = {**os.environ, "PYTHONPATH": PATHS}
    argv = [sys.executable, "-c", RUN, str(cache), str(root), step]
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def processes_of(marker):
    """The command lines on this machine that hold the marker; a namespace's processes are seen from outside."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes()
        except OSError:
            continue
        if marker.encode() in line and b"-c\0" + RUN.encode()[:20] not in line:
            found.append(line)
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_no_process_no_mount_and_no_folder(tmp_path, little_root, how):
    marker = f"3{os.getpid() % 1000}.{time.monotonic_ns() % 10**9:09}"  # seconds that only this step sleeps
    run = start(tmp_path, little_root, f"sleep {marker} & sleep {marker}")
    try:
        until(lambda: len(processes_of(f"sleep\0{marker}")) == 2, what="the step runs")
        run.send_signal(how)
        run.wait(30)
    finally:
        run.kill()
    until(lambda: not processes_of(f"sleep\0{marker}"), what="its processes end with it")
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    if how == signal.SIGKILL:  # nobody was there to remove it: the next run does
        assert [file.name[:4] for file in tmp_path.iterdir()] == ["run-"]
        assert start(tmp_path, little_root, "true").wait(60) == 0
    assert list(tmp_path.iterdir()) == []
    assert sorted(file.name for file in (little_root / "root").iterdir()) == []


def test_a_step_has_a_root_of_its_own_and_its_exit_code_is_the_runs(tmp_path, little_root):
    run = start(tmp_path, little_root, "mkdir made && exit 9")
    output = run.communicate(timeout=60)[0]
    assert run.returncode == 9, output
    assert re.search(r"waits +0 s  exit code 9", output)
    assert not (little_root / "root/made").exists()


def test_process_1_reaps_what_has_lost_its_parent(tmp_path, little_root):
    """Else a test that waits for the end of another's child waits for ever."""
    ends = "(sleep 0.1 & echo $! > pid); sleep 1; read pid < pid; [ ! -e /proc/$pid ]"
    run = start(tmp_path, little_root, ends)
    output = run.communicate(timeout=60)[0]
    assert run.returncode == 0, output


@pytest.mark.parametrize("lacks, said", [("root", "sudo make fresh"), ("debootstrap", "apt-get install debootstrap")])
def test_what_is_missing_is_one_line_and_exit_code_2(monkeypatch, capsys, lacks, said):
    from proofs.fresh import __main__ as command

    monkeypatch.setattr(os, "geteuid", lambda: 1000 if lacks == "root" else 0)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **more: None if name == lacks else which(name, **more))
    monkeypatch.setattr(sys, "argv", ["fresh", "bookworm"])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        assert command.main() == 2
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    lines = [line for line in capsys.readouterr().err.splitlines() if "not committed" not in line]
    assert len(lines) == 1
    assert said in lines[0]


def test_the_address_of_the_mirror_comes_out_of_both_kinds_of_apt_source():
    lines = "deb [signed-by=/k.gpg] http://mirror.example/debian trixie main\n"
    stanza = "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n"
    assert machine.mirror({"a": lines}) == machine.mirror({"b": stanza}) == "http://mirror.example/debian"
    with pytest.raises(machine.Unusable, match="names no address"):
        machine.mirror({})


def test_only_what_package_clients_read_goes_along(monkeypatch):
    for name in ("PIP_CERT", "https_proxy", "SSL_CERT_FILE", "SECRET_TOKEN", "PYTHONPATH", "MICROPYTHON"):
        monkeypatch.setenv(name, "/x")
    names = set(machine.environment())
    assert {"PIP_CERT", "https_proxy", "SSL_CERT_FILE"} <= names
    assert names.isdisjoint({"SECRET_TOKEN", "PYTHONPATH", "MICROPYTHON"})


def test_folders_that_pips_configuration_names_are_lent(monkeypatch, tmp_path):
    index, wheels = tmp_path / "index" / "simple", tmp_path / "wheels"
    index.mkdir(parents=True)
    wheels.mkdir()
    (tmp_path / "pip.conf").write_text(f"[global]\nfind-links = {wheels}\nextra-index-url =\n    file://{index}\n")
    monkeypatch.setattr(machine, "PIP_FILES", (str(tmp_path / "pip.conf"),))
    monkeypatch.setattr(machine, "environment", lambda: {"PIP_INDEX_URL": "https://index.example/simple"})
    assert machine.local_paths() == [index.parent, wheels]


def test_the_user_gets_no_more_rights_than_a_person_without_sudo():
    assert {step["as"] for step in steps("all", "")} == {"root", inside.USER}
    assert [step["name"] for step in steps("test", "")] == ["root, make test"]
