"""Some thousand made-up examples, on both interpreters; and all that was ever found, every time.

Must stay true: how many there are does not depend on the machine's speed; `make fuzz` makes them up by the clock.
"""

import pytest

from proofs.fuzz import run, targets
from support.needs import need_micropython
from support.sampling import number

ROUNDS = 1  # of each target


@pytest.mark.timeout(600)
def test_made_up_bytes_do_nothing_that_is_not_written_down():
    need_micropython()
    print(f"seed {number()}")
    run.run(0, number(), print, ROUNDS)


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
