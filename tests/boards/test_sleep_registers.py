"""What a sleep of the agent's costs a Pico W's flash: nothing where MicroPython has registers that a reset keeps.

Real littlefs on NOR flash in a file, whole boots and wakes; only the board's sleep passes faster.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dormouse_host.virtual.board import VirtualBoard
from support.board_device import fields, install
from support.needs import need_micropython

_WAKES = 12
Slept = Callable[[str], tuple[VirtualBoard, int, float, float]]


@pytest.fixture
def sleeper(tmp_path: Path, mosquitto) -> Iterator[Slept]:
    """`sleeper("1.29")`: a Pico W with that MicroPython that has slept `_WAKES` times; where its console was when it
    was installed, and the erases and programs of flash of each wake after the second."""
    need_micropython()
    boards: list[VirtualBoard] = []

    def sleep(version: str) -> tuple[VirtualBoard, int, float, float]:
        board = VirtualBoard("RPI_PICO_W", tmp_path / version, speed=600, micropython=version)
        boards.append(board)
        board.start().wait_boot()
        said = install(board, tmp_path / f"files{version}", f"mqtt://127.0.0.1:{mosquitto.address.port}")
        costs = []
        after = len(board.events)
        for _ in range(_WAKES):
            event = board.wait_event("asleep", 60, after=after, where=lambda event: event.fields["ms"] > 1000)
            costs.append(board.flash_cost)
            after = event.number + 1
        spent = [(late - early) / (_WAKES - 2) for early, late in zip(costs[1], costs[-1], strict=True)]
        return board, said, spent[0], spent[1]

    yield sleep
    for board in boards:
        board.close()


def test_sleep_costs_no_flash_from_1_29_on(sleeper):
    """One program for the plan and one for its removal are what is left out; all sleeps end by their time."""
    older, said, erases, programs = sleeper("1.28")
    assert {boot["cause"] for boot in fields(older, "boot", said)[1:]} == {"timer"}
    newer, said, newer_erases, newer_programs = sleeper("1.29")
    assert {boot["cause"] for boot in fields(newer, "boot", said)[1:]} == {"timer"}
    print(f"a wake without commands: {erases:.2f} erases, {programs:.1f} programs with 1.28;", end=" ")
    print(f"{newer_erases:.2f} erases, {newer_programs:.1f} programs with 1.29")
    assert newer_programs <= programs - 2
    assert "/state/sleep" not in newer.files()


def test_power_cut_in_a_sleep_planned_in_registers_leaves_a_device_that_wakes_at_once(sleeper):
    """The registers are empty then, and power-on is not slept through."""
    board, said, _, _ = sleeper("1.29")
    board.power_cycle()
    board.wait_console(" asleep ", 60, after=len(board.console))
    assert fields(board, "boot", said)[-1]["cause"] == "power"
