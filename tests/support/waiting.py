"""Waiting for something that another process does, with a deadline."""

import time
from collections.abc import Callable

WITHIN = 40  # seconds for what takes one on an idle machine


def comes(true: Callable[..., object], seconds: float = WITHIN, pause: float = 0.02) -> bool:
    """Whether `true()` holds before the deadline."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def until(true: Callable[..., object], seconds: float = WITHIN, what: str = "it did not come to that") -> None:
    """Wait until something is so; AssertionError where it does not come to that."""
    assert comes(true, seconds), what
