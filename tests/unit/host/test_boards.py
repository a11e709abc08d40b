"""A board is a folder with a board.toml and no code; what is wrong in one is named."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dormouse import config as device_config
from dormouse_host.agent import mpy
from dormouse_host.bundle import texts
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds, packages
from support.needs import need_micropython

ROOT = Path(__file__).resolve().parents[3]
ISSUE = {
    *("ESP32_GENERIC", "ESP32_GENERIC_C3", "ESP32_GENERIC_C5", "ESP32_GENERIC_C6", "ESP32_GENERIC_S3"),
    "OLIMEX_ESP32_POE",
    *("RPI_PICO_W", "RPI_PICO2_W", "POSIX"),
}


@pytest.fixture
def folder(tmp_path):
    """A folder that a test may spoil: a copy of the Pico W's."""
    return shutil.copytree(kinds.folder() / "RPI_PICO_W", tmp_path / "MY_NODE")


def test_every_board_is_right():
    assert set(kinds.names()) >= ISSUE
    for name in kinds.names():
        board = kinds.load(name)
        assert board.name == name
        device_config.check({**board.defaults, "id": "dev", "broker": "mqtt://host"})


def test_a_new_board_is_one_new_folder(folder, monkeypatch):
    """No list anywhere names the boards: a copied folder is one more of them, by its name or by its path."""
    board = kinds.load(str(folder))
    monkeypatch.setattr(kinds, "folder", lambda: folder.parent)
    assert kinds.names() == ["MY_NODE"]
    assert kinds.load("MY_NODE") == board
    assert (board.name, board.builds) == ("MY_NODE", ("MY_NODE",))
    assert board.firmware.volume == "RPI-RP2"


def test_boards_that_sleep_by_reset_cannot_be_told_apart_from_a_watchdog():
    """Two facts that must agree: the agent's rp2 port relies on it."""
    for board in map(kinds.load, kinds.names()):
        if board.sleep.how == "reset":
            assert "deepsleep" not in board.sleep.causes
            assert board.watchdog.limit > 0


@pytest.mark.parametrize(
    "old, new, message",
    [
        (r"limit = 8388", 'limit = "8388"', "watchdog.limit: wrong type, expected int"),
        (r"limit = 8388", "limit = true", "watchdog.limit: wrong type, expected int"),
        (r"limit = 8388", "limit = -1", "watchdog.limit: negative"),
        (r"limit = 8388", "limits = 8388", "watchdog.limits is not a key of a board"),
        (r"limit = 8388.*", "", "watchdog.limit is missing"),
        (r'how = "reset"', 'how = "hope"', "sleep.how: expected one of deepsleep, reset, process"),
        (r"ids = .*", 'ids = "2e8a:0005"', "usb.ids: expected a list"),
        (r"ids = .*", "ids = [1]", "usb.ids: wrong type, expected str"),
        (r'volume = "RPI-RP2".*', "", "firmware.volume is missing"),
        (r'source = ".*"', 'source = ""', "current.source is missing"),
        (r'source = ".*"', "", "current.source is missing"),
        (r"handshake = .*", "handshake = inf", "times: expected 0 to 600000 milliseconds"),
        (r"handshake = .*", "handshake = nan", "times: expected 0 to 600000 milliseconds"),
        (r"handshake = .*", "resume = 1", "times.resume is not a key of a board"),
        (r'source = "MicroPython.*"', "", "times.source is missing"),
        (r'battery = "29"', 'battery = "VSYS"', "pins.battery: expected the number of a pin"),
        (r"micropython = .*", 'micropython = "new"', "micropython: expected a version such as 1.25"),
        (r"micropython = .1.29.", 'micropython = "1"', "newer.micropython: expected a version such as 1.25"),
        (r"registers = .*", "registers = 28", "newer.registers: expected a list"),
        (r"\[config\]", "config = 1\n[x]", "not a key of a board"),
        (r"title =", "title", "Expected '=' after a key"),
    ],
)
def test_what_is_wrong_in_a_board_is_one_line_naming_the_key(folder, old, new, message):
    file = folder / kinds.FILE
    text, count = re.subn(old, new, file.read_text(), count=1)
    assert count == 1
    file.write_text(text)
    with pytest.raises(HostError, match=re.escape(message)) as caught:
        kinds.load(str(folder))
    assert caught.value.code == 2
    assert str(caught.value).startswith("MY_NODE/board.toml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "NOPE", "virtual", "../boards"])
def test_an_unknown_board_is_answered_with_those_there_are(name):
    with pytest.raises(HostError, match="ESP32_GENERIC, ESP32_GENERIC_C3") as caught:
        kinds.load(name)
    assert caught.value.code == 2


class _Manifest:
    """MicroPython's build, as far as a manifest speaks to it."""

    def __init__(self, path, **options):
        self.frozen: list[str] = []
        self.included: list[str] = []
        self.required: list[str] = []
        self._options = type("Options", (), {**options, "defaults": lambda self, **_: None})()
        names = {"include": self._include, "package": self._package, "require": self.required.append}
        before = os.getcwd()
        os.chdir(path.parent)
        try:
            exec(compile(path.read_text(), str(path), "exec"), {**names, "options": self._options})
        finally:
            os.chdir(before)

    def _include(self, name, **options):
        if name.startswith("$("):
            self.included.append(name)
            return
        other = _Manifest(Path(name).resolve(), **options)
        self.frozen += other.frozen
        self.required += other.required

    def _package(self, name, files, base_path):
        assert all((Path(base_path) / name / file).is_file() for file in files)
        self.frozen += [f"{name}/{file}" for file in files]


@pytest.mark.parametrize("name", sorted(ISSUE - {"POSIX"}))
def test_a_board_s_manifest_freezes_the_agent_with_its_own_port(name):
    board = kinds.load(name)
    manifest = _Manifest(ROOT / "boards" / name / "manifest.py")
    assert len(manifest.included) == 1, "what MicroPython itself freezes on this board stays"
    assert manifest.required == ["umqtt.simple"]
    assert {"dormouse/__init__.py", "dormouse/agent.py", "dormouse/ports/storage.py"} <= set(manifest.frozen)
    ports = {path.stem for path in (ROOT / "device/dormouse/ports").glob("*.py")} & {"esp32", "rp2", "posix"}
    assert {port for port in ports if f"dormouse/ports/{port}.py" in manifest.frozen} <= {board.port}


def test_mip_installs_every_module_that_a_board_may_need():
    """`python -m dormouse_host.flash.packages` writes device/package.json anew."""
    assert (ROOT / "device" / "package.json").read_text() == packages.package_json()
    assert ["dormouse/agent.py", "dormouse/agent.py"] in json.loads(packages.package_json())["urls"]


@pytest.mark.parametrize("port", ["esp32", "rp2"])
def test_what_is_flashed_is_bytecode_that_micropython_1_25_loads(port):
    """Version 6 without native code: byte 1 is the version, the high bits of byte 2 name an architecture.
    mpy-cross goes with newer releases; on a board as old as we support it must not be one too many.
    """
    files = mpy.agent_files(port)
    assert len(files) > 5
    for name, data in files.items():
        assert name.endswith(".mpy") == (name != f"lib/dormouse/{texts.FILE}"), name
        if name.endswith(".mpy"):
            assert (data[:1], data[1], data[2] >> 2) == (b"M", 6, 0), name


def test_micropython_says_that_it_loads_that_version():
    interpreter = need_micropython()
    code = "import sys; print(sys.implementation._mpy & 255)"
    done = subprocess.run([interpreter.path, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert int(done.stdout) == packages.MPY_VERSION == 6
