"""What the tests of the virtual boards share: their kinds, and how a program gets onto one, runs there and joins."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dormouse_host.virtual.board import VirtualBoard

KINDS = [
    *("ESP32_GENERIC", "ESP32_GENERIC_C3", "ESP32_GENERIC_C5", "ESP32_GENERIC_C6", "ESP32_GENERIC_S3"),
    *("OLIMEX_ESP32_POE", "RPI_PICO2_W", "RPI_PICO_W"),
]
TWO = pytest.mark.parametrize("kind", ["ESP32_GENERIC", "RPI_PICO_W"])
Maker = Callable[..., VirtualBoard]


def put(board: VirtualBoard, tmp_path: Path, program: str, name: str = "main.py") -> int:
    """Copy a program to the board with mpremote and reset it. Returns the number of the reset's event, before which
    mpremote's own soft reset has made a boot of its own.
    """
    source = tmp_path / "program.py"
    source.write_text(program)
    before = len(board.events)
    board.mpremote("cp", str(source), f":{name}", "+", "reset")
    return board.wait_event("reset", 60, after=before).number


def run(board: VirtualBoard, code: str) -> str:
    """What the code prints on the board, without a soft reset before it."""
    return board.mpremote("resume", "exec", code).strip()


def join(board: VirtualBoard, password: str = "virtual-password", more: str = "") -> str:
    """Join on the board; the last status."""
    return run(
        board,
        "import network, sys, time\nw = network.WLAN(network.STA_IF); w.active(True)\n"
        "if sys.platform == 'esp32': w.config(reconnects=0)\n"
        f"w.connect('virtual', {password!r}{more})\n"
        "for _ in range(300):\n"
        " time.sleep_ms(10)\n"
        " if w.status() not in (0, 1, 2, 1000, 1001): break\n"
        "print(w.status(), w.isconnected())",
    )
