"""pytest fixtures for an app: it runs on a virtual board, with a real broker and a real ledger.

A board ends with its test. The installation of dormouse-mqtt registers the fixtures with pytest. The example of
docs/testing.md is run by tests/boards/test_virtual_device.py.

    def test_valve_is_shut_afterwards(virtual_device):
        device = virtual_device("RPI_PICO_W", "app.py")
        done = device.run("water", s=1)
        assert done.status == "succeeded" and done.value == {"ran": 1}
        assert device.board.driven[-1] == (4, 0)
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # pytest loads this file in every run where dormouse-mqtt is installed, so it must be cheap
    from dormouse_host.virtual.board import VirtualBoard
    from dormouse_host.virtual.device import VirtualDevice


@pytest.fixture
def virtual_board(tmp_path: Path) -> Iterator[Callable[..., "VirtualBoard"]]:
    """`virtual_board("ESP32_GENERIC", speed=…, wifi=…)`: a blank board at MicroPython's prompt."""
    from dormouse_host.virtual.board import VirtualBoard

    with ExitStack() as ends:

        def make(kind: str, **options: Any) -> "VirtualBoard":
            folder = tmp_path / f"board{len(list(tmp_path.glob('board*')))}"
            board = ends.enter_context(VirtualBoard(kind, folder, **options))
            board.wait_boot()
            return board

        yield make


@pytest.fixture
def virtual_device(tmp_path: Path) -> Iterator[Callable[..., "VirtualDevice"]]:
    """`virtual_device("RPI_PICO_W", "app.py", wifi=…, settings={…})`: a board flashed with your app, asleep after its
    first wake, with `.send`, `.wake`, `.run`, `.settle`, `.telemetry`, `.board`, `.broker` and `.fleet`.
    """
    from dormouse_host.virtual.device import VirtualDevice

    with ExitStack() as ends:

        def make(kind: str, app: str | Path, **options: Any) -> "VirtualDevice":
            folder = tmp_path / f"device{len(list(tmp_path.glob('device*')))}"
            return ends.enter_context(VirtualDevice(kind, folder, Path(app), **options))

        yield make
