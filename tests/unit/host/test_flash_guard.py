"""A board that never stops printing: every call to it has an end, in time and in bytes."""

import contextlib
import os
import pty
import threading
import time
import tty

import pytest

from dormouse_host.flash import wire as flash_link
from dormouse_host.flash.first_wake import watch
from dormouse_host.flash.ports import Place
from dormouse_host.flash.wire import Guard, LostBoard, TooMuch, Wire


class Chatter:
    """A port at which something prints without end, `pause` seconds apart. A context manager."""

    def __init__(self, text: bytes, pause: float = 0.0) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.device = os.ttyname(self._slave)
        self._text, self._pause, self._over = text, pause, False
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._print, self._swallow)]

    def _print(self) -> None:
        with contextlib.suppress(OSError):
            while not self._over:
                os.write(self._master, self._text)
                time.sleep(self._pause)

    def _swallow(self) -> None:
        with contextlib.suppress(OSError):
            while not self._over:
                os.read(self._master, 4096)

    def __enter__(self) -> "Chatter":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        os.close(self._slave)
        for thread in self._threads:
            thread.join(1)
        os.close(self._master)


@pytest.mark.parametrize("text", [b"x" * 200, b">" * 200, b"raw REPL; CTRL-B to exit\r\n>OK"])
@pytest.mark.parametrize("pause", [0.0, 0.02])
@pytest.mark.parametrize(
    "call",
    [
        lambda wire: wire.run("print(1)", 0.5),
        lambda wire: wire.take_over(afresh=True),
        lambda wire: wire.take_over(afresh=False),
        lambda wire: wire.write_file("/x", b"y" * 100),
        lambda wire: wire.start("1"),
    ],
    ids=["run", "afresh", "take over", "write", "start"],
)
def test_no_call_goes_on_without_end(monkeypatch, text, pause, call):
    for name in ("_ENTER", "_WRITE"):
        monkeypatch.setattr(flash_link, name, 5.0)
    began = time.monotonic()
    with Chatter(text, pause) as board, Wire(board.device) as wire, contextlib.suppress(LostBoard):
        call(wire)  # some of it looks like an answer
    assert time.monotonic() - began < 20


def test_a_board_that_prints_without_end_is_lost_and_says_so():
    with Chatter(b"x>" * 100) as board, Wire(board.device) as wire, pytest.raises(LostBoard, match="bytes|end in"):
        wire.run("print(1)", 3)


def test_a_port_is_read_for_so_long_and_so_much():
    class Port:
        in_waiting = 1

        def read(self, size: int) -> bytes:
            return b"x" * size

    guard = Guard(Port())
    with guard.allow(60, 100), pytest.raises(TooMuch, match="more than 100 bytes"):
        list(iter(lambda: guard.read(9), b""))
    with guard.allow(0.05, 1000), pytest.raises(TooMuch, match="did not finish"):
        list(iter(guard.inWaiting, 0))
    assert guard.read(1000) == b"x" * 1000


def test_a_first_wake_with_a_log_without_end_has_one():
    with Chatter(b"dormouse 1 hello\r\n" * 20) as board:
        seen = watch(Place(board.device), Wire(board.device), 60, lambda line: None)
    assert seen.stage == "unfinished"
    assert len(seen.events) == 5000


def test_a_port_that_may_be_slow_is_waited_for(monkeypatch):
    """An emulated board takes ten times as long for a byte."""
    monkeypatch.setattr(flash_link, "_BYTE", 0.3)
    waited = []
    for patience in (1, 10):
        with Chatter(b"") as board, Wire(board.device, patience) as wire:
            began = time.monotonic()
            assert wire.read(60) == b""
            waited.append(time.monotonic() - began)
    assert waited[0] < 2.9 < waited[1]
