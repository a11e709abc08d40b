"""Fixtures that more than one test file uses: the two interpreters, and a real broker.

Must stay true: every broker and every device of a test is a real one, ends with the test, and keeps nothing.
"""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling

from dormouse_host.agent import toolchain
from dormouse_host.broker.local import Mosquitto
from dormouse_host.errors import HostError
from support import sampling
from support.device_folder import DeviceInterpreter
from support.ledgers import backup, postgresql_server, postgresql_url, sqlite_file, where  # noqa: F401  (fixtures of all tests)
from support.needs import need_micropython, need_mosquitto
from support.on_device import pytest_pycollect_makemodule  # noqa: F401  (a hook, registered by being here)

# What takes longest begins first, so that no worker is left with it at the end.
LONG = (
    *("rotate_certificate", "hostile", "attack", "broker_check", "endtoend", "rotate", "bench", "powercut"),
    *("ports_on_boards", "flash", "demo_boards", "hostile_boards"),
)


# Whose tests share what takes long to make: each file runs in one worker. (xdist's own `xdist_group` has no effect with
# pytest 9.2: a test's id can't be changed any more.) A file of device tests runs in one worker for each interpreter.
TOGETHER = ("hostile", "attack", "bench", "report", "rotate", "rotate_certificate", "web")


class Together(LoadGroupScheduling):
    """What belongs together goes to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, rest = nodeid.partition("::")
        if file.startswith("tests/unit/device/"):
            return f"{file} {rest.rpartition('[')[2]}"
        return file if Path(file).stem.removeprefix("test_") in TOGETHER else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """xdist's hook, with its `--dist loadgroup`."""
    return Together(config, log)


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
