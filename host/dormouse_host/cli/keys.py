"""Keys of a terminal, one at a time, without Enter and without an echo. The terminal is as before when this ends."""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

UP, DOWN, PAGE_UP, PAGE_DOWN, HOME, END, QUIT = "up", "down", "page up", "page down", "home", "end", "quit"
_KEYS = {
    b"\x1b[A": UP,
    b"\x1bOA": UP,
    b"k": UP,
    b"\x1b[B": DOWN,
    b"\x1bOB": DOWN,
    b"j": DOWN,
    b"\x1b[5~": PAGE_UP,
    b"b": PAGE_UP,
    b"\x1b[6~": PAGE_DOWN,
    b" ": PAGE_DOWN,
    b"\x1b[H": HOME,
    b"\x1b[1~": HOME,
    b"g": HOME,
    b"\x1b[F": END,
    b"\x1b[4~": END,
    b"G": END,
    b"q": QUIT,
}  # as xterm sends them, and as less(1) takes them
_LONGEST = 64  # bytes that are read at once


@contextmanager
def pressed() -> Iterator[Callable[[float], str | None]]:
    """A function that waits for a key, for so many seconds at most: which it was, or None. Ctrl-C raises as always;
    where stdin is no terminal it only waits.
    """
    if not sys.stdin.isatty():
        yield _wait
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)  # signals still come from Ctrl-C and Ctrl-Z
    try:
        yield lambda seconds: _read(terminal, seconds)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _wait(seconds: float) -> None:
    time.sleep(seconds)


def _read(terminal: int, seconds: float) -> str | None:
    if not select.select([terminal], [], [], seconds)[0]:
        return None
    data = os.read(terminal, _LONGEST)
    return _KEYS.get(data) if data else QUIT  # the terminal is gone
