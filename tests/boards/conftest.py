"""The fixture `make` of the tests of the virtual boards: boards that have started, and end with their test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dormouse_host.virtual.board import VirtualBoard
from support.needs import need_micropython
from support.virtual_boards import Maker


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Maker]:
    """Makes boards that have started, and ends them."""
    need_micropython()
    boards: list[VirtualBoard] = []

    def new(kind: str, **options) -> VirtualBoard:
        board = VirtualBoard(kind, tmp_path / f"board{len(boards)}", **options)
        boards.append(board)
        board.start().wait_boot()
        return board

    yield new
    for board in boards:
        board.close()
