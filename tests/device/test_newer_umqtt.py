"""The agent, the demo and the bench on umqtt.simple 1.8.0, as boards carry it: on its stand-in."""

import json
import os
import subprocess
import sys

import pytest

from support import newer_umqtt
from support.needs import need_micropython, need_mosquitto

PROGRAM = [sys.executable, "-m", "dormouse_host.cli"]


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    """The environment of a program that is to use it."""
    need_mosquitto()
    return {**os.environ, "UMQTT": str(newer_umqtt.make(tmp_path_factory.mktemp("umqtt") / "1.8.0"))}


def test_a_difference_that_has_no_place_in_1_3_4_is_an_error(monkeypatch, tmp_path):
    """Else the stand-in would become 1.3.4 again without a word."""
    monkeypatch.setattr(newer_umqtt, "DIFFERENCES", (("no such line", ""),))
    with pytest.raises(LookupError, match="no such line"):
        newer_umqtt.make(tmp_path)


@pytest.mark.parametrize("device", ["cpython", "micropython"])
def test_three_phases(newer, device):
    need_micropython()
    argv = [*PROGRAM, "demo", "--device", device, "--json"]
    done = subprocess.run(argv, env=newer, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["arrived"] == [1, 2, 3]


def test_bench_runs_with_it_as_with_1_3_4(newer):
    """The scripts that people write call connect() themselves: it sets a timeout."""
    need_micropython()
    argv = [*PROGRAM, "bench", "--proxy", "--case", "3,1", "--runs", "1", "--no-heap", "--json"]
    done = subprocess.run(argv, env=newer, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert {row["style"]: row["causal"] > 0 for row in map(json.loads, done.stdout.splitlines())} == dict.fromkeys(
        ("ours", "plain", "tuned"), True
    )
