"""The hostile network on virtual boards: what no deadline bounds there, and a radio that loses its access point.

Real MicroPython, the unmodified agent; the watchdog, the resolver and the radio are boards/virtual's.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dormouse_host.virtual.board import VirtualBoard, Wifi
from support.board_device import APP, fields, install
from support.device_folder import Host, command
from support.needs import need_micropython
from support.sampling import each_board

Maker = Callable[..., tuple[VirtualBoard, int]]


@pytest.fixture
def make(tmp_path: Path, mosquitto) -> Iterator[Maker]:
    """Makes a board with the agent on it, whose broker has a name, and ends it."""
    need_micropython()
    boards: list[VirtualBoard] = []

    def new(kind: str, wifi: Wifi, watchdog: int = 30) -> tuple[VirtualBoard, int]:
        board = VirtualBoard(kind, tmp_path / "board", wifi=wifi, speed=60)
        boards.append(board)
        board.start().wait_boot()
        return board, install(
            board, tmp_path / "files", f"mqtt://localhost:{mosquitto.address.port}", APP, watchdog=watchdog
        )

    yield new
    for board in boards:
        board.close()


def asleep(board: VirtualBoard, after: int) -> int:
    """Wait for the end of a wake. The position of the console behind it."""
    return board.wait_console(" asleep ", 60, after=after)


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["RPI_PICO_W"])  # whose lookup waits for ever on the real board, too
def test_name_that_is_never_answered_ends_by_the_watchdog_and_the_next_boot_backs_off(kind, make, mosquitto):
    """getaddrinfo has no deadline on a board. Nothing is lost, and the resolver's return is a normal wake."""
    board, said = make(kind, Wifi(), watchdog=10)
    end = asleep(board, said)
    with Host(mosquitto.address) as host:
        state = host.wait("up/wake")["state"]
        board.wifi.dns = "never"
        host.send(command(state, 1, "say", text="kept"))
        board.wait_event("watchdog", 60)
        board.wifi.dns = "works"
        end = board.wait_console("never ended", 60, after=end)
        end = asleep(board, end)
        assert [error["why"] for error in fields(board, "error", said)] == ["the wake before this one never ended"]
        assert fields(board, "asleep", said)[-1]["next"] > 90, "twice 60, less the jitter"
        asleep(board, end)  # a wake as any other
        board.wait_console('say {"text":"kept"}', 60, after=said)
        assert [each["text"] for each in fields(board, "say", said)] == ["kept"]
        assert host.results(1)[0]["status"] == "succeeded"
        host.some("up/wake", lambda report: report.get("last", {}).get("ended") == "cut off")


@each_board
def test_wifi_that_drops_in_a_wake_is_joined_again_and_nothing_is_done_or_told_twice(kind, make, mosquitto):
    """While a handler runs, the access point is gone for a moment; the session goes on over a new connection."""
    board, said = make(kind, Wifi())
    end = asleep(board, said)
    with Host(mosquitto.address) as host:
        state = host.wait("up/wake")["state"]
        host.send(command(state, 1, "say", text="before"), command(state, 2, "work", s=2))
        host.send(command(state, 3, "say", text="after"))
        at = board.wait_console(" working", 60, after=end)
        board.wifi.drop()
        end = asleep(board, at)
        assert any(event.name == "wifi lost" for event in board.events)
        assert all(each["present"] for each in fields(board, "connected", at))
        assert [each["text"] for each in fields(board, "say", said)] == ["before", "after"]
        assert len(fields(board, "working", said)) == 1
        results = host.results(3)
        assert [result["status"] for result in results] == ["succeeded"] * 3
        assert not fields(board, "error", said)
