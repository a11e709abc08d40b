"""Which part of a large proof this run takes.

Must stay true: the same commit has the same sample on every machine and every day; what a sample leaves out is run by
`make proof`, and `make rotation` takes another sample each day. DORMOUSE_SEED chooses one by hand.
"""

import functools
import os
import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
BOARDS = ["ESP32_GENERIC", "RPI_PICO_W"]


@functools.cache
def seed() -> str:
    """DORMOUSE_SEED, else the hash of the commit; the same word in a source archive, which has none."""
    if chosen := os.environ.get("DORMOUSE_SEED"):
        return chosen
    argv = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "no commit"


def number() -> int:
    """The seed as a number below 2^31."""
    return random.Random(seed()).getrandbits(31)


def choose(cases: Sequence[T], count: int, name: str) -> list[T]:
    """`count` of the cases, in their order; `name` keeps one sample from following another."""
    places = random.Random(f"{seed()} {name}").sample(range(len(cases)), min(count, len(cases)))
    return [cases[place] for place in sorted(places)]


def some(cases: Sequence[Any], count: int, name: str) -> list[Any]:
    """All cases as parameters of a test: `count` for every run, the others for `make proof`."""
    chosen = choose(range(len(cases)), count, name)
    return [
        pytest.param(*(case if type(case) is tuple else (case,)), marks=() if n in chosen else pytest.mark.proof)
        for n, case in enumerate(cases)
    ]


def each_board(test: Callable[..., Any]) -> Any:
    """The test runs on both boards that stand for all: on one of them in every run, on the other in `make proof`."""
    return pytest.mark.parametrize("kind", some(BOARDS, 1, test.__name__))(test)
