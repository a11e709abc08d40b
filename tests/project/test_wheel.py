"""What people install: the wheel, made as `pip install` makes it from the repository, and a Python that is too old."""

import email.message
import email.parser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Made of what git tracks, in a folder of its own: a build writes beside its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*argv, "--wheel-dir", str(folder), str(folder / "source")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return zipfile.ZipFile(made)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.parser.Parser().parsestr(wheel.read(name).decode())


def test_a_wheel_has_bounds_from_below_only(metadata):
    """With `==` it could not be installed beside anything that wants another version."""
    wanted = [line.partition(";")[0].strip() for line in metadata.get_all("Requires-Dist", [])]
    assert len(wanted) > 20
    assert [line for line in wanted if not line.partition(">=")[2] or "==" in line or "<" in line] == []


def test_a_wheel_says_what_it_is_and_for_which_python(metadata):
    assert metadata["Requires-Python"] == ">=3.11"
    assert "devices that sleep" in metadata["Summary"]
    assert metadata.get_payload().startswith("# Dormouse")
    kinds = metadata.get_all("Classifier")
    assert [
        f"3.{minor}" for minor in range(11, 15) if f"Programming Language :: Python :: 3.{minor}" not in kinds
    ] == []


def test_a_wheel_holds_agent_host_boards_and_what_virtual_boards_run(wheel):
    """The programs of a board, which nothing imports here, and the tables beside them."""
    names = set(wheel.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "device/dormouse", "host", "boards"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    places = {"device/dormouse/": "dormouse/", "host/": "", "boards/": "dormouse_boards/"}
    wanted = {
        f"{place}{name.removeprefix(folder)}"
        for name in tracked
        for folder, place in places.items()
        if name.startswith(folder)
    }
    assert len(wanted) > 150
    assert wanted - names == set()


def test_a_wheel_s_types_are_those_of_who_uses_it(wheel):
    """Without the mark a type checker takes all of the library for Any, and says so at each import."""
    assert "dormouse_host/py.typed" in wheel.namelist()


def test_a_python_that_is_too_old_is_told_so_in_one_line(tmp_path):
    """Also one that PYTHON= names; pip itself refuses it by the wheel's Requires-Python."""
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 1\necho no python of ours >&2\nexit 70\n')
    old.chmod(0o755)
    copy = tmp_path / "clone"
    copy.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, copy / name)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(
        ["make", "setup", f"PYTHON={old}"], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    first, *rest = done.stderr.splitlines()
    assert first.startswith(f"Dormouse needs Python 3.11 or newer, and {old} is not: install it, or say where it is")
    assert all(line.startswith("make: ***") for line in rest)
