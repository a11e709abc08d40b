"""The long texts of a board's agent are read when something is wrong, and never in a wake in which nothing is."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from dormouse_host.agent import mpy, process, toolchain
from dormouse_host.bundle import texts
from support.device_folder import Device, DeviceInterpreter, Host, command

APP = """
from dormouse import command, telemetry

def safe_state():
    pass

@command("say", text=str)
def say(wake, text):
    return {"said": text}

@telemetry()
def level(wake):
    return {"level": 3}
"""
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("say", {"text": "hello"}),
    ("ping", {}),
    ("describe", {}),
    ("report", {}),
    ("config", {"set": {"linger": 0}}),
)
_NUMBER = re.compile(r"\btext \d+\b")  # what is told where the file can't be read


class Without(DeviceInterpreter):
    """MicroPython with the bundle of a board, whose file with the texts is gone."""

    def __init__(self, folder: Path) -> None:
        super().__init__("micropython")
        self.library = folder / "library"
        shutil.copytree(mpy.bundle(toolchain.agent_folder()), self.library)
        (self.library / "dormouse" / texts.FILE).unlink()

    def command(self, device_dir, heap=process.BOARD_HEAP, *, rom=False):
        arguments = ["-m", "dormouse.ports.posix", str(device_dir)]
        return process.interpreter("micropython", arguments, [self.library], heap)


@pytest.fixture
def device(tmp_path, mosquitto):
    return Device(tmp_path / "device", Without(tmp_path), mosquitto.address.url, APP)


def test_wake_in_which_nothing_goes_wrong_reads_no_text(device, mosquitto):
    """Boot, readings, report, commands, results: with the file gone, each line is what it is with it."""
    with Host(mosquitto.address) as host:
        first = device.wake()
        state = host.wait("up/wake")["state"]
        host.send(*(command(state, n, do, **more) for n, (do, more) in enumerate(KINDS, 1)))
        second = device.wake("timer")
        results = host.results(len(KINDS))
    assert (first.code, second.code) == (0, 0), second.output
    assert [result["status"] for result in results] == ["succeeded"] * len(KINDS)
    for told in (first.output, second.output, str(host.messages)):
        assert not _NUMBER.search(told), told


def test_wake_in_which_something_goes_wrong_does(device, mosquitto):
    """The test above could not fail otherwise."""
    with Host(mosquitto.address) as host:
        device.wake()
        host.send(b"no JSON at all")
        assert _NUMBER.search(device.wake("timer").output)
