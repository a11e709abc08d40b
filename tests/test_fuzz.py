"""A minute of made-up bytes in CI, on both interpreters; and all that was ever found, every time.

Must stay true: the seed is printed, so that a failure can be had again with `make fuzz ARGS="--seed N"`.
"""

import time

import pytest

from fuzz import run, targets
from needs import need_micropython

SECONDS = 30  # and as long again for what is shown to MicroPython


@pytest.mark.timeout(600)
def test_made_up_bytes_do_nothing_that_is_not_written_down():
    need_micropython()
    seed = int(time.time())
    print(f"seed {seed}")
    run.run(SECONDS, seed, print)


def test_what_was_found_stays_fixed():
    need_micropython()
    found: dict = {}
    for path in sorted(run.FOUND.glob("*.bin")):
        target, data = path.name.split("-")[0], path.read_bytes()
        found.setdefault(target, {})[data] = run.check(target, data)
    found.pop("said", None)
    run.replay(found)


def test_a_finding_is_one(monkeypatch):
    """A target that raises what it may not is found, by its bytes."""

    def broken(data):
        return "x"[len(data)]

    monkeypatch.setitem(run.FUNCTIONS, "texts", broken)
    with pytest.raises(run.Finding, match="texts: IndexError"):
        run.fuzz("texts", 1, 1)


def test_a_verdict_that_differs_is_a_finding():
    need_micropython()
    with pytest.raises(run.Finding, match="CPython: ok 00000000; MicroPython: ok "):
        run.replay({"texts": {b"abc": "ok 00000000"}})


def test_every_target_has_a_shape():
    assert set(run.SHAPES) == set(run.FUNCTIONS) == {f.__name__ for f in targets.TARGETS} | {"said"}
