"""A board is a folder with a board.toml and no code; what is wrong in one is named."""

import re
import shutil

import pytest

from dormouse import config as device_config
from dormouse_host import boards
from dormouse_host.errors import HostError

ISSUE = {"ESP32_GENERIC", "ESP32_GENERIC_C3", "ESP32_GENERIC_S3", "RPI_PICO_W", "RPI_PICO2_W", "POSIX"}


@pytest.fixture
def folder(tmp_path):
    """A folder that a test may spoil: a copy of the Pico W's."""
    return shutil.copytree(boards.folder() / "RPI_PICO_W", tmp_path / "MY_NODE")


def test_every_board_is_right():
    assert set(boards.names()) >= ISSUE
    for name in boards.names():
        board = boards.load(name)
        assert board.name == name
        device_config.check({**board.config, "id": "dev", "broker": "mqtt://host"})


def test_a_new_board_is_one_new_folder(folder):
    """No list anywhere names the boards: a copied folder is one more of them."""
    board = boards.load(str(folder))
    assert (board.name, board.builds) == ("MY_NODE", ("MY_NODE",))
    assert board.firmware.volume == "RPI-RP2"


def test_boards_that_sleep_by_reset_cannot_be_told_apart_from_a_watchdog():
    """Two facts that must agree: the agent's rp2 port relies on it."""
    for board in map(boards.load, boards.names()):
        if board.sleep.how == "reset":
            assert "deepsleep" not in board.sleep.causes
            assert board.watchdog.limit > 0


@pytest.mark.parametrize(
    "old, new, message",
    [
        (r"limit = 8388", 'limit = "8388"', "watchdog.limit is of the wrong type, int is wanted"),
        (r"limit = 8388", "limit = true", "watchdog.limit is of the wrong type, int is wanted"),
        (r"limit = 8388", "limit = -1", "watchdog.limit is not negative"),
        (r"limit = 8388", "limits = 8388", "watchdog.limits is no key of a board"),
        (r"limit = 8388.*", "", "watchdog.limit is missing"),
        (r'how = "reset"', 'how = "hope"', "sleep.how is one of deepsleep, reset, process"),
        (r"ids = .*", 'ids = "2e8a:0005"', "usb.ids is a list"),
        (r"ids = .*", "ids = [1]", "usb.ids is of the wrong type, str is wanted"),
        (r'volume = "RPI-RP2".*', "", "firmware.volume: a UF2 bootloader's drive has a label"),
        (r'source = ".*"', 'source = ""', "current.source: who says so?"),
        (r'source = ".*"', "", "current.source is missing"),
        (r"micropython = .*", 'micropython = "new"', "micropython is a version such as 1.25"),
        (r"\[config\]", "config = 1\n[x]", "no key of a board"),
        (r"title =", "title", "Expected '=' after a key"),
    ],
)
def test_what_is_wrong_in_a_board_is_one_line_naming_the_key(folder, old, new, message):
    file = folder / boards.FILE
    text, count = re.subn(old, new, file.read_text(), count=1)
    assert count == 1
    file.write_text(text)
    with pytest.raises(HostError, match=re.escape(message)) as caught:
        boards.load(str(folder))
    assert caught.value.code == 2
    assert str(caught.value).startswith("MY_NODE/board.toml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "NOPE", "virtual", "../boards"])
def test_an_unknown_board_is_answered_with_those_there_are(name):
    with pytest.raises(HostError, match="ESP32_GENERIC, ESP32_GENERIC_C3") as caught:
        boards.load(name)
    assert caught.value.code == 2
