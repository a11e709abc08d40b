"""What `make pico` says where it cannot run, and that its table shows what is wrong; its rows need a firmware."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proofs.__main__ import NOT_RUN
from proofs.pico.__main__ import STACK, judged, row, table

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "FIRMWARE"}
    environment["PYTHONPATH"] = str(ROOT / "tests")
    argv = [sys.executable, "-m", "proofs.pico", *arguments]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.skipif(importlib.util.find_spec("mpflash") is not None, reason="mpflash may find one")
def test_without_a_firmware_one_line_says_so_and_it_is_no_success():
    done = run()
    assert (done.returncode, done.stdout.count("\n")) == (NOT_RUN, 1)
    assert done.stdout.startswith("not run: no firmware; make pico FIRMWARE=RPI_PICO_W.uf2")


def test_an_unknown_row_is_refused():
    done = run("stacks")
    assert done.returncode == 2
    assert "no row 'stacks'" in done.stderr


def test_a_row_that_breaks_is_wrong_and_says_why(tmp_path):
    broken = tmp_path / "broken.uf2"
    broken.write_bytes(b"UF2\n")
    [result] = row("flash", broken, tmp_path)
    assert result["wrong"]
    assert "broken.uf2: the UF2 block at byte 0 is broken or cut off" in result["note"]
    assert "FAIL" in table([result])


def test_a_row_that_comes_too_near_to_the_end_of_the_stack_is_wrong():
    good = {"name": "wake", "note": "drained", "wrong": False, "figures": {"stack": STACK, "seconds": 1}}
    deep = {**good, "figures": {"stack": STACK + 4, "seconds": 1}}
    assert judged(good, STACK) == good
    assert judged(deep, STACK)["wrong"]
    assert judged(deep, STACK)["note"] == f"{STACK + 4} bytes of C stack, more than {STACK}; drained"
