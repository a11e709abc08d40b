"""Fixtures that more than one test file uses: the two interpreters, and a real broker.

Must stay true: every broker and every device of a test is a real one, ends with the test, and keeps nothing.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import sampling
from dormouse_host import device_process, toolchain
from dormouse_host.broker import Mosquitto
from dormouse_host.errors import HostError
from ledgers import backup, postgresql_server, postgresql_url, sqlite_file, where  # noqa: F401  (fixtures of all tests)
from needs import need_micropython, need_mosquitto
from on_device import pytest_pycollect_makemodule  # noqa: F401  (a hook, registered by being here)

# What takes longest begins first, so that no worker is left with it at the end.
LONG = ("hostile", "powercut", "endtoend", "ports_on_boards", "bench", "flash", "demo_boards", "broker_check", "attack")


def pytest_configure() -> None:
    """Ctrl-C does here and in every child what it does in a terminal, also where whoever started us ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by how long their files take."""
    order = {f"test_{name}": at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_report_header() -> list[str]:
    """What this run is about, at its start; there too a wrong MICROPYTHON= or UMQTT= ends it."""
    try:
        umqtt = toolchain.umqtt_folder()
        found = str(toolchain.require_micropython())
    except toolchain.NoMicropython as error:
        found = str(error)
    except HostError as error:
        raise pytest.UsageError(str(error)) from error
    return [
        f"device: {found}, umqtt.simple in {umqtt}",
        f"broker: {toolchain.mosquitto()}",
        f"samples: DORMOUSE_SEED={sampling.seed()}",
    ]


class DeviceInterpreter:
    """One of the two interpreters, to run a device's wakes with."""

    def __init__(self, kind: device_process.Kind) -> None:
        self.kind = kind

    def command(
        self, device_dir: str | Path, heap: str = device_process.BOARD_HEAP, *, rom: bool = False
    ) -> tuple[list[str], dict[str, str]]:
        """argv and environment of one wake of the device in that folder; `rom`: from a ROMFS image."""
        return device_process.command(self.kind, device_dir, heap, rom=rom)


@pytest.fixture(params=["cpython", "micropython"])
def interpreter(request: pytest.FixtureRequest) -> DeviceInterpreter:
    """The test runs twice: once per interpreter."""
    if request.param == "micropython":
        need_micropython()
    return DeviceInterpreter(request.param)


@pytest.fixture
def mosquitto() -> Iterator[Mosquitto]:
    """A running mosquitto with persistence on a port of its own; `.address` says where."""
    with Mosquitto(need_mosquitto()) as broker:
        yield broker
