"""pytest fixtures for MicroPython's own firmware: a board with it, and a whole device, beside the virtual ones.

def test_the_firmware_itself_shuts_the_valve(emulated_device):
    device = emulated_device("RPI_PICO_W", "app.py", firmware="RPI_PICO_W.uf2")
    assert device.run("water", s=1).status == "succeeded"
    assert device.board.driven[-1] == (4, 0)
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dormouse_host.virtual.pytest_plugin import beside, show_board, show_device

if TYPE_CHECKING:  # as in virtual/pytest_plugin.py
    from dormouse_host.emulated.board import EmulatedBoard
    from dormouse_host.emulated.device import EmulatedDevice


@pytest.fixture
def emulated_board(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., "EmulatedBoard"]]:
    """`emulated_board(firmware="RPI_PICO_W.uf2", speed=…, wifi=…)`: a blank Pico W at MicroPython's prompt."""
    from dormouse_host.emulated.board import EmulatedBoard

    with ExitStack() as ends:

        def make(kind: str = "RPI_PICO_W", **options: Any) -> "EmulatedBoard":
            folder = tmp_path / f"emulated{len(list(tmp_path.glob('emulated*')))}"
            board = EmulatedBoard(kind, folder, **options)
            show_board(request, board)
            ends.enter_context(board)
            board.wait_boot()
            return board

        yield make


@pytest.fixture
def emulated_device(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., "EmulatedDevice"]]:
    """`emulated_device("RPI_PICO_W", "app.py", firmware=…)`: as `virtual_device`, on such a board."""
    from dormouse_host.emulated.device import EmulatedDevice

    with ExitStack() as ends:

        def make(kind: str, app: str | Path, **options: Any) -> "EmulatedDevice":
            folder = tmp_path / f"emulated{len(list(tmp_path.glob('emulated*')))}"
            device = EmulatedDevice(kind, folder, beside(request, app), **options)
            show_device(request, device)
            return ends.enter_context(device)

        yield make
