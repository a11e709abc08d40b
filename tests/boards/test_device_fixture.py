"""What the fixtures show of a test that fails (CASES F5), and what the tests of one run share."""

import gc
import os
import re
from pathlib import Path
from typing import assert_type

import pytest

from boards.test_virtual_device import run
from dormouse_host.emulated import pytest_plugin as emulated
from dormouse_host.emulated.board import EmulatedBoard
from dormouse_host.emulated.device import EmulatedDevice
from dormouse_host.errors import HostError
from dormouse_host.virtual import pytest_plugin
from dormouse_host.virtual.board import VirtualBoard
from dormouse_host.virtual.device import VirtualDevice

pytestmark = pytest.mark.timeout(400)

APP = """
from dormouse import command, telemetry

@command("divide", by=int)
def divide(wake, by):
    wake.log("dividing")
    return 1 // by

@telemetry(every=60)
def level(wake):
    return {"level": 7}
"""
TESTS = """
import pytest
from pathlib import Path

@pytest.fixture
def device(virtual_device):
    return virtual_device("RPI_PICO_W", "../app.py")

def test_fails(device):
    device.board.battery = 3.3
    done = device.run("divide", by=0)
    assert done.status == "succeeded"

def test_is_rejected(device):
    device.run("multiply", by=1)

def test_wants_the_rejected_command(device):
    done = device.attempt("multiply", by=1)
    assert (done.status, done.why) == ("rejected", "unknown command multiply")

@pytest.mark.parametrize("name, text", [("import.py", "import nowhere"), ("syntax.py", "x = 1\\n\\ndef f(:")])
def test_breaks(virtual_device, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    virtual_device("RPI_PICO_W", tmp_path / name)

def test_finds_no_app(virtual_device):
    virtual_device("RPI_PICO_W", "app.py")

def test_finds_no_such_board(virtual_device):
    virtual_device("RPI_PICOW", "../app.py")

def test_starts_with_the_first_wake(device, tmp_path_factory):
    assert [wake["wake"] for wake in device.fleet.export("wakes")] == [1]
    assert [record["values"] for record in device.telemetry()] == [{"level": 7}]
    assert "boot" not in device.board.console.partition("boot {")[2], "the flash was another board's"
    folders = [found.name for found in tmp_path_factory.getbasetemp().glob("flashed0/*")]
    assert len(folders) == 2, "of four tests with this app one has flashed it; another one is of import.py"
    assert device.run("divide", by=1).value == 1
    assert "resend" not in device.board.console, "no record of the first wake was lost"

def test_has_two_devices_at_one_access_point(virtual_device):
    first = virtual_device("RPI_PICO_W", "../app.py", id="first")
    second = virtual_device("RPI_PICO_W", "../app.py", id="second", wifi=first.board.wifi)
    assert [each.run("divide", by=1).value for each in (second, first)] == [1, 1]
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> str:
    """The output of one run of pytest over these tests, from the folder above theirs."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_device.py").write_text(TESTS)
    return run(folder, "", app=APP).stdout


def failure(told: str, test: str) -> str:
    """What is told of a test that failed."""
    found = re.search(rf"^_+ {re.escape(test)} _+$(.*?)^(?:_+ test|=+ )", told, re.MULTILINE | re.DOTALL)
    assert found, told
    return found[1]


def test_tests_that_do_as_they_should_pass_and_the_others_fail(told):
    assert "6 failed, 3 passed" in told, told


def test_a_failed_command_is_shown_with_its_reason_the_console_and_the_events(told):
    """It used to be `assert 'failed' == 'succeeded'` and nothing else."""
    text = failure(told, "test_fails")
    assert 'divide {"by": 0}: failed: ZeroDivisionError: divide by zero at app.py:7 in divide' in text
    _, console, events = re.split(r"^-+ Captured (?:console|events) of virtual \(RPI_PICO_W\) -+$", text, flags=re.M)
    assert "dividing" in console
    assert "asleep ms=" in events


def test_a_rejected_command_raises_with_its_reason_at_the_test_s_own_line(told):
    text = failure(told, "test_is_rejected")
    assert "multiply is rejected: unknown command multiply" in text
    assert "device.py:" not in text.partition("Captured")[0].replace("test_device.py:", "")


def test_an_error_of_the_app_has_its_file_and_line(told):
    text = failure(told, "test_breaks[import.py-import nowhere]")
    assert "the program failed (ImportError: no module named 'nowhere' at app.py:1 in <module>)" in text
    assert "(app.py is import.py)" in text
    assert "syntax.py does not compile: line 3: SyntaxError" in told


def test_a_board_that_there_is_none_of_is_one_line(told):
    text = failure(told, "test_finds_no_such_board")
    assert "no board RPI_PICOW: did you mean RPI_PICO_W?" in text
    assert not re.search(r"^\S*(?<!test_device)\.py:\d+:", text, re.MULTILINE), text


def test_our_frames_are_left_out_whichever_fixture_a_test_has():
    found = {
        name
        for module in (pytest_plugin, emulated)
        for name in re.findall(r"@pytest\.fixture\ndef (\w+)", Path(module.__file__ or "").read_text())
    }
    assert found == pytest_plugin._FIXTURES


def test_an_app_is_looked_for_beside_the_test(told):
    assert re.search(r"no .*/tests/app\.py: the path of an app is relative to the test's file", told)


def test_a_device_s_board_is_one_of_its_kind():
    """mypy reads this: `device.board.adc` was an error in a test that says that its device is a VirtualDevice."""

    def typed(virtual: VirtualDevice, imitated: EmulatedDevice) -> None:
        assert_type(virtual.board, VirtualBoard)
        assert_type(imitated.board, EmulatedBoard)

    assert typed.__annotations__["virtual"]._make is VirtualBoard
    assert typed.__annotations__["imitated"]._make is EmulatedBoard


@pytest.mark.parametrize("options", [{"connect": lambda board: board.adc(99, 1.0)}, {"settings": {"conect_every": 5}}])
def test_a_device_that_never_starts_leaves_nothing_open(tmp_path, recwarn, options):
    """A warning of pytest's beside the error, and with `-W error` another error."""
    (tmp_path / "app.py").write_text(APP)

    def pipes() -> int:
        return [Path(each.path).resolve().name.startswith("pipe:") for each in os.scandir("/proc/self/fd")].count(True)

    before = pipes()
    with pytest.raises(HostError), VirtualDevice("RPI_PICO_W", tmp_path / "d", tmp_path / "app.py", **options):
        pass
    gc.collect()
    assert pipes() == before
    assert [str(warning.message) for warning in recwarn.list] == []
