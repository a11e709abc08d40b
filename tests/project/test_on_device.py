"""The device tests' own machinery: a failure, a crash and a hang are each seen as what they are."""

import ast

import pytest

from support import on_device
from support.needs import need_micropython

GOOD_AND_BAD = """
import sys
from runner import folder

def test_good():
    assert folder() != folder()
    print("seen", sys.implementation.name)

def test_bad():
    assert 1 == 2

def test_dead():
    sys.exit(3)

def test_never():
    pass
"""


@pytest.fixture(params=["cpython", "micropython"])
def run(request, tmp_path):
    """Which interpreter, and a function that runs device tests given as text with it."""
    if request.param == "micropython":
        need_micropython()

    def run_text(source, names, heap="128k"):
        path = tmp_path / "test_given.py"
        path.write_text(source)
        return path, on_device.run_file(path, names, request.param, heap)

    return request.param, run_text


def test_pass_failure_and_early_end_are_told_apart(run):
    """Else a crashed interpreter would look like a green or an empty file."""
    kind, run_text = run
    path, outcomes = run_text(GOOD_AND_BAD, ["test_good", "test_bad", "test_dead", "test_never"])
    assert outcomes["test_good"] == (None, f"seen {kind}\n")
    assert "AssertionError" in on_device.with_source(outcomes["test_bad"].failure, path)
    assert "assert 1 == 2" in on_device.with_source(outcomes["test_bad"].failure, path)
    assert outcomes["test_dead"].failure == "the interpreter ended with exit code 3 in test_dead"
    assert outcomes["test_never"].failure == "the interpreter ended with exit code 3 in test_dead"


def test_only_the_selected_functions_run(run):
    """`-k` and node ids reach into the interpreter."""
    assert list(run[1](GOOD_AND_BAD, ["test_good"])[1]) == ["test_good"]


def test_hang_is_ended_and_named(run, monkeypatch):
    """A loop on the device must not hold up the suite."""
    monkeypatch.setattr(on_device, "SILENCE", 1)
    _, outcomes = run[1]("def test_loop():\n    while True: pass\n", ["test_loop"])
    assert outcomes["test_loop"].failure == "the interpreter hung: nothing for 1 s in test_loop"


def test_file_that_does_not_import_fails_all_its_functions(run):
    """An import error is a failure of what was asked for, with its reason."""
    _, outcomes = run[1]("import nowhere\ndef test_a(): pass\ndef test_b(): pass\n", ["test_a", "test_b"])
    assert all("nowhere" in outcome.failure for outcome in outcomes.values())


def test_heap_is_the_boards_and_not_the_machines(tmp_path):
    """What a board cannot allocate fails here too; HEAP changes the bound."""
    need_micropython()
    path = tmp_path / "test_heap.py"
    path.write_text('HEAP = "1M"\ndef test_big():\n    bytearray(300000)\n')
    assert on_device.heap_of(ast.parse(path.read_text())) == "1M"
    for heap, fits in ((on_device.DEFAULT_HEAP, False), ("1M", True)):
        outcome = on_device.run_file(path, ["test_big"], "micropython", heap)["test_big"]
        assert (outcome.failure is None) is fits
        assert fits or "MemoryError" in str(outcome.failure)
