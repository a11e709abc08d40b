"""A program that hangs before the network is reached keeps no board from its next connection; one that deletes the
agent leaves the prompt. (All other programs: `make unruly`, tests/proofs/unruly.)

Must stay true: the wake after the bite leaves out what hung and nothing else; it connects, runs a command once, and
says in its report what it has left out.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dormouse_host.virtual.board import VirtualBoard
from support.board_device import GUARDED, fields, install, prompt_answers
from support.device_folder import Host, command
from support.needs import need_micropython
from support.sampling import each_board

SAY = """
from dormouse import command, telemetry

@command("say", text=str)
def say(wake, text):
    wake.log("say", text=text)
"""
HANGS = "while True:\n        time.sleep_ms(20)\n"
SAFE_STATE = f"{SAY}\nimport time\n\ndef safe_state():\n    {HANGS}"
IMPORT = "while True:\n    pass\n"
IMPORT_RESETS = "import machine\nmachine.reset()\n"
I2C = f"""{SAY}
import time

@telemetry()
def soil(wake):
    return {{"soil": 41.5}}

@telemetry()
def i2c(wake):
    {HANGS}"""

Maker = Callable[..., tuple[VirtualBoard, int]]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Callable[[str], VirtualBoard]]:
    """Makes a board that has started, and ends it."""
    need_micropython()
    boards: list[VirtualBoard] = []

    def new(kind: str) -> VirtualBoard:
        boards.append(VirtualBoard(kind, tmp_path / "board", speed=60))
        boards[0].start().wait_boot()
        return boards[0]

    yield new
    for each in boards:
        each.close()


@pytest.mark.parametrize(
    ("program", "piece", "left"),
    [
        pytest.param(SAFE_STATE, "safe_state left out: cut off 1 times", None, id="safe_state hangs"),
        pytest.param(IMPORT, "import left out: cut off 1 times", None, id="the import hangs"),
        pytest.param(IMPORT_RESETS, "import left out: cut off 1 times", None, id="the import resets"),
        pytest.param(I2C, None, {"i2c": "reading i2c left out: cut off 1 times"}, id="a reading hangs"),
    ],
)
@each_board
def test_program_that_hangs_costs_its_own_piece(kind, board, mosquitto, tmp_path, program, piece, left):
    """At most three wakes after power-on it is connected, and what is not at fault works as ever."""
    device = board(kind)
    with Host(mosquitto.address) as host:
        said = install(device, tmp_path / "files", f"mqtt://127.0.0.1:{mosquitto.address.port}", program, watchdog=10)
        at = device.wait_console(" drained ", 150, after=said)  # two bites and a backoff at most
        report = host.wait("up/wake")
        assert report["wake"] <= 3
        assert (report.get("app"), report.get("readings")) == (piece, left), report
        known = piece is None or "safe_state" in piece
        state = report["state"]
        host.send(command(state, 1, "say", text="once") if known else command(state, 1, "ping"))
        device.wait_console(" result ", 60, after=at)
        result = host.results(1)[0]
        assert result["status"] == "succeeded", result
        assert len(fields(device, "say", said)) == known
        if left:
            assert host.wait("up/telemetry")["records"][0][2] == {"soil": 41.5}


DELETES_ALL = """
import os
for name in os.listdir("/lib/dormouse"):
    if "." in name:
        os.remove("/lib/dormouse/" + name)
"""
DELETES_SOME = """
import os
os.remove("/lib/dormouse/__init__.mpy")
"""
FOUR_TRIES = "f = open('/state/tries', 'wb'); f.write(b'\\4'); f.close()"
HOLD = 5


@each_board
def test_program_that_deletes_the_agent_leaves_the_prompt_and_says_so(kind, board, mosquitto, tmp_path):
    """It can't be outlived; its owner finds out, and gets in."""
    device = board(kind)
    said = install(device, tmp_path / "files", f"mqtt://127.0.0.1:{mosquitto.address.port}", DELETES_ALL)
    at = device.wait_console(" asleep ", 60, after=said)  # what is loaded works on
    device.wait_console("has no attribute 'run'", 60, after=at)
    assert prompt_answers(device)


@each_board
def test_program_that_deletes_a_part_of_the_agent_leaves_the_prompt_after_five_tries(kind, board, mosquitto, tmp_path):
    """The pauses after four of them, seven minutes, are left out here."""
    device = board(kind)
    broker = f"mqtt://127.0.0.1:{mosquitto.address.port}"
    said = install(device, tmp_path / "files", broker, DELETES_SOME, GUARDED, hold_pin=HOLD)
    at = device.wait_console(" asleep ", 60, after=said)
    device.wait_console("has no attribute 'start'", 60, after=at)
    device.set_pin(HOLD, 0)
    at = device.wait_console('window {"s":600}', 60, after=at)
    device.mpremote("exec", FOUR_TRIES)
    device.set_pin(HOLD, None)
    device.mpremote("resume", "reset")
    device.wait_console('prompt {"why":"the agent does not start"}', 60, after=at)
    assert prompt_answers(device)
