"""pytest fixtures for an app: it runs on a virtual board, with a real broker and a real ledger.

A board ends with its test. A test that fails shows its commands with their reasons, the console and the events of its
boards. The installation of dormouse-mqtt registers the fixtures with pytest. The example of docs/testing.md is run by
tests/boards/test_virtual_device.py.

    def test_valve_is_shut_afterwards(virtual_device):
        device = virtual_device("RPI_PICO_W", "app.py")
        done = device.run("water", s=1)
        assert done.status == "succeeded" and done.value == {"ran": 1}
        assert device.board.driven[-1] == (4, 0)
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # pytest loads this file in every run where dormouse-mqtt is installed, so it must be cheap
    from dormouse_host.virtual.board import VirtualBoard
    from dormouse_host.virtual.device import DeviceOn, VirtualDevice
    from dormouse_host.virtual.images import Images
    from dormouse_host.virtual.running import RunningBoard

_FIXTURES = frozenset(("virtual_board", "virtual_device", "emulated_board", "emulated_device"))
_SHOWN = pytest.StashKey[list[Callable[[], Iterator[tuple[str, str]]]]]()  # what shows the boards of a test


@pytest.hookimpl(hookwrapper=True)  # the new `wrapper` would break every run of pytest 7 here
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """A failure is reported with what its boards and devices have to say, at the test's own line."""
    shows = item.stash.get(_SHOWN, ())
    if call.excinfo and _FIXTURES.intersection(getattr(item, "fixturenames", ())):
        _leave_out_ours(call.excinfo)
    outcome = yield
    report = outcome.get_result()
    if report.failed and call.when == "call":
        for shown in shows:
            report.sections += [(f"Captured {title}", text) for title, text in shown()]


def _leave_out_ours(failure: pytest.ExceptionInfo[BaseException]) -> None:
    """An error of ours is one line, and says nothing by where in our code it was raised."""
    from dormouse_host.errors import HostError

    ours = Path(__file__).parents[1]
    entry = failure.tb if isinstance(failure.value, HostError) else None
    while entry and entry.tb_next:
        if ours in Path(entry.tb_next.tb_frame.f_code.co_filename).parents:
            entry.tb_next = None
        entry = entry.tb_next


def show_device(request: pytest.FixtureRequest, device: "DeviceOn[Any]") -> None:
    """If this test fails, it shows this device."""
    from dormouse_host.virtual import evidence

    request.node.stash.setdefault(_SHOWN, []).append(lambda: evidence.of_device(device))


def show_board(request: pytest.FixtureRequest, board: "RunningBoard") -> None:
    """If this test fails, it shows this board."""
    from dormouse_host.virtual import evidence

    request.node.stash.setdefault(_SHOWN, []).append(lambda: evidence.of_board(board))


def beside(request: pytest.FixtureRequest, app: str | Path) -> Path:
    """The app's file: a relative path is one from the folder of the test's file. The test fails where there is none."""
    path: Path = request.path.parent / app
    if not path.is_file():
        pytest.fail(f"no {path}: the path of an app is relative to the test's file", pytrace=False)
    return path.resolve()


@pytest.fixture
def virtual_board(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., "VirtualBoard"]]:
    """`virtual_board("ESP32_GENERIC", speed=…, wifi=…)`: a blank board at MicroPython's prompt."""
    from dormouse_host.virtual.board import VirtualBoard

    with ExitStack() as ends:

        def make(kind: str, **options: Any) -> "VirtualBoard":
            folder = tmp_path / f"board{len(list(tmp_path.glob('board*')))}"
            board = VirtualBoard(kind, folder, **options)
            show_board(request, board)
            ends.enter_context(board)
            board.wait_boot()
            return board

        yield make


@pytest.fixture(scope="session")
def _flashed_images(tmp_path_factory: pytest.TempPathFactory) -> "Images":
    """The boards that the tests of this run have flashed."""
    from dormouse_host.virtual.images import Images

    return Images(tmp_path_factory.mktemp("flashed"))


@pytest.fixture
def virtual_device(
    tmp_path: Path, request: pytest.FixtureRequest, _flashed_images: "Images"
) -> Iterator[Callable[..., "VirtualDevice"]]:
    """`virtual_device("RPI_PICO_W", "app.py", wifi=…, settings={…}, connect=…)`: a board flashed with your app, asleep
    after its first wake, with `.send`, `.wake`, `.run`, `.settle`, `.telemetry`, `.board`, `.broker` and `.fleet`.

    The app's path is relative to the test's file; `connect` is called with the board before its first wake. Tests with
    the same program and settings share one flash of it.
    """
    from dormouse_host.virtual.device import VirtualDevice

    with ExitStack() as ends:

        def make(kind: str, app: str | Path, **options: Any) -> "VirtualDevice":
            folder = tmp_path / f"device{len(list(tmp_path.glob('device*')))}"
            device = VirtualDevice(kind, folder, beside(request, app), images=_flashed_images, **options)
            show_device(request, device)
            return ends.enter_context(device)

        yield make
