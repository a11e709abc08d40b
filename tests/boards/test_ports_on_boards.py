"""The agent on virtual boards: its sleep, its Wi-Fi and its watchdog, and that its owner always gets in.

Real MicroPython, real littlefs, the unmodified mpremote; what the simulation adds is in boards/virtual.
"""

import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from dormouse_host.virtual.board import VirtualBoard, Wifi
from support.board_device import APP, GUARDED, fields, install, prompt_answers, put
from support.device_folder import Host, command, say
from support.needs import need_micropython
from support.sampling import each_board, seed

HANG = """
@command("hang", limit=1)
def hang(wake):
    import time
    wake.log("hanging")
    while True:
        time.sleep_ms(10)
"""
Maker = Callable[..., tuple[VirtualBoard, int]]


@pytest.fixture
def make(tmp_path: Path, mosquitto) -> Iterator[Maker]:
    """Makes boards with the agent on them, and ends them."""
    need_micropython()
    boards: list[VirtualBoard] = []

    def new(kind: str, wifi: Wifi | None = None, speed: float = 60, **how) -> tuple[VirtualBoard, int]:
        board = VirtualBoard(kind, tmp_path / f"board{len(boards)}", wifi=wifi or Wifi(), speed=speed)
        boards.append(board)
        board.start().wait_boot()
        return board, install(
            board, tmp_path / f"files{len(boards)}", f"mqtt://127.0.0.1:{mosquitto.address.port}", **how
        )

    yield new
    for board in boards:
        board.close()


def ctrl_c(board: VirtualBoard) -> None:
    """Press it while the board listens for it, and wait for the prompt."""
    said = len(board.console)
    board.type("\x03")
    board.wait_console(">>>", 40, after=said)


def wake(board: VirtualBoard, after: int, seconds: float = 60) -> int:
    """Wait for the end of a wake. The position of the console behind it."""
    return board.wait_console(" asleep ", seconds, after=after)


@each_board
def test_board_wakes_joins_gets_its_messages_and_sleeps(kind, make, mosquitto):
    """The whole way: sent while it sleeps, run at its next wake; and the second join needs no scan."""
    board, said = make(kind, Wifi(scan_ms=2000))
    end = wake(board, said)
    with Host(mosquitto.address) as host:
        host.send(say("hello"))
        again = wake(board, board.wait_console(' say {"text":"hello"}', 60, after=end))
        report = host.wait("up/wake")
    joined = [int(ms) for ms in re.findall(r"dormouse (\d+) connecting", board.console[said:again])]
    boots = [boot["cause"] for boot in fields(board, "boot", said)]
    assert boots[:2] == ["reset", "timer"]
    assert report["cause"] == "timer"
    assert report["rssi"] == -61
    assert "clock" not in report, "nobody has told it the time"
    assert joined[0] >= 2000 > joined[1], joined


@each_board
def test_window_after_power_on_gives_mpremote_the_prompt(kind, make):
    """Without a wake having begun, and the reset after it is a person's: no backoff, nothing broken."""
    board, said = make(kind)
    said = wake(board, said)
    board.power_cycle()
    at = board.wait_console('window {"s":3}', 60, after=said)
    ctrl_c(board)
    assert prompt_answers(board)
    assert fields(board, "boot", at) == []
    board.mpremote("resume", "reset")
    wake(board, at)
    assert [boot["cause"] for boot in fields(board, "boot", at)] == ["reset"]


@each_board
def test_ctrl_c_in_a_wake_resets_and_the_prompt_has_no_watchdog_under_it(kind, make):
    """A Pico's watchdog of 8.4 s would bite in the middle of a copy; then the interrupted wake counts as nothing."""
    board, said = make(kind, Wifi(dhcp_ms=None))  # no address: it waits in the middle of joining
    board.wait_console(" boot ", 30, after=said)
    board.type("\x03")
    board.wait_console('window {"s":600}', 60, after=said)
    ctrl_c(board)
    before = len(board.events)
    board.mpremote("resume", "exec", f"import time; time.sleep({9 if kind == 'RPI_PICO_W' else 1})")
    put(board, Path(board.folder), "note.txt", "copied at the prompt")
    assert board.read_file("/note.txt") == b"copied at the prompt"
    assert [event.name for event in board.events[before:] if event.name in ("watchdog", "reset", "boot")] == []
    board.wifi.dhcp_ms = 20
    at = len(board.console)
    board.mpremote("resume", "reset")
    wake(board, at)
    assert [boot["cause"] for boot in fields(board, "boot", at)] == ["reset"]
    assert fields(board, "drained", at) != []


@pytest.mark.proof
@each_board
def test_ctrl_c_at_any_moment_of_a_wake_leads_to_the_prompt(kind, make):
    """Three moments: in the window, while it joins, talks, writes to flash."""
    chance = random.Random(f"{seed()} {kind}")
    board, said = make(kind, Wifi(scan_ms=200, join_ms=200, dhcp_ms=200), linger=1, connect_every=3600, speed=1)
    wake(board, said)
    for delay in [chance.uniform(2.8, 4.4) for _ in range(3)]:  # the window ends at 3, the wake at about 4.6
        before = len(board.events)
        board.press_reset()
        board.wait_boot(after=before)
        time.sleep(delay)
        at = len(board.console)
        end = time.monotonic() + 60
        board.type("\x03")
        while not re.search(r'window {"s":600}|>>>', board.console[at:]):
            time.sleep(0.1)
            if board.state == "asleep" and kind == "ESP32_GENERIC":
                break  # this machine was slow: the wake was over, and deep sleep hears nothing
            assert time.monotonic() < end, (delay, board.console[at:])
        else:
            if ">>>" not in board.console[at:]:
                ctrl_c(board)
            assert prompt_answers(board), delay


@each_board
def test_hold_pin_keeps_the_board_awake_for_its_owner(kind, make):
    """At a wake by timer too, where there is no window."""
    board, said = make(kind, hold_pin=4)
    end = wake(board, said)
    board.set_pin(4, 0)
    board.wait_console('window {"s":600}', 60, after=end)
    ctrl_c(board)
    assert prompt_answers(board)


@pytest.mark.proof
@each_board
def test_agent_that_does_not_start_leaves_the_prompt_in_reach(kind, make, tmp_path):
    """A file of the agent's is damaged: pauses that Ctrl-C ends, counted on flash, and no sixth try."""
    board, said = make(kind, main=GUARDED)
    end = wake(board, said)
    board.power_cycle()
    board.wait_console('window {"s":3}', 60, after=end)
    ctrl_c(board)
    put(board, tmp_path, "__init__.mpy", "damaged", "lib/dormouse/")
    at = len(board.console)
    board.mpremote("resume", "reset")
    board.wait_console("ValueError", 60, after=at)
    at = board.wait_console('window {"s":5}', 40, after=at)
    assert board.read_file("/state/tries") == b"\x01"
    at = board.wait_console('window {"s":20}', 60, after=at)
    board.type("\x03")
    board.wait_console('window {"s":600}', 60, after=at)
    ctrl_c(board)
    board.mpremote("resume", "exec", "f = open('state/tries', 'wb'); f.write(b'\\x05'); f.close()", "+", "reset")
    board.wait_console('prompt {"why":"the agent does not start"}', 60, after=at)
    board.wait_console(">>>", 40, after=at)
    assert prompt_answers(board)


@each_board
def test_each_failure_to_join_is_told_by_its_stage(kind, make):
    """And each costs one wake and no more: the radio is off again, the board asleep."""
    board, said = make(kind, Wifi(present=False), budget=4, watchdog=20)
    end = wake(board, said)
    stages = [[error["stage"] for error in fields(board, "error", said)]]
    for change in ({"present": True, "password": "another"}, {"password": "virtual-password", "dhcp_ms": None}):
        for key, value in change.items():
            setattr(board.wifi, key, value)
        at = end
        board.press_reset()
        end = wake(board, at)
        stages.append([error["stage"] for error in fields(board, "error", at)])
    assert stages == [["ap"], ["password"], ["address"]]


@each_board
def test_wake_pin_ends_sleep_and_is_the_cause(kind, make, mosquitto):
    """Somebody pressed a button: the device connects at once, though its hour is not over."""
    board, said = make(kind, speed=1, wake_pin=4, connect_every=3600)
    board.set_pin(4, 1)
    end = wake(board, said)
    board.wait_event("asleep", 60)
    board.set_pin(4, 0)
    with Host(mosquitto.address) as host:
        wake(board, end)
        assert host.wait("up/wake")["cause"] == "pin"


@pytest.mark.proof
def test_pico_sleeps_three_hours_in_pieces_and_none_after_power_on(make, tmp_path):
    """One call takes 71 minutes at most; the plan is gone before the sleep, and power-on is somebody's wish."""
    board, said = make("RPI_PICO_W", speed=1000, connect_every=10800, battery_pin=29, battery_divider=3)
    end = wake(board, said)
    assert abs(fields(board, "asleep", said)[0]["next"] - 10800) < 600
    end = wake(board, end)
    assert [boot["cause"] for boot in fields(board, "boot", said)] == ["reset", "timer"]
    naps = [event for event in board.events if event.name == "asleep"]
    assert len(naps) >= 3
    board.wait_event("asleep", 60, after=naps[-1].number + 1)
    assert "/state/sleep" not in board.files()
    board.power_cycle()
    end = wake(board, end)
    assert fields(board, "boot", said)[-1]["cause"] == "power"


@pytest.mark.proof
@each_board
def test_handler_within_its_limit_lives_and_one_that_hangs_is_bitten(kind, make, mosquitto):
    """Longer without a word than a Pico's watchdog takes; and a hang ends in a reset, told afterwards."""
    board, said = make(kind, app=APP + HANG, watchdog=10)
    end = wake(board, said)
    with Host(mosquitto.address) as host:
        state = host.wait("up/wake")["state"]
        host.send(command(state, 1, "work", s=9 if kind == "RPI_PICO_W" else 1), command(state, 2, "hang"))
        end = board.wait_console(" hanging", 90, after=end)
        board.wait_event("watchdog", 90)
        end = wake(board, end)
        assert fields(board, "boot", said)[-1]["cause"] == "watchdog"
        assert [error["stage"] for error in fields(board, "error", said)] == ["boot"], "it sleeps its backoff first"
        board.wait_console(" drained ", 90, after=end)
        statuses = {name[-1]: answer["status"] for name, answer in host.answers(2).items()}
    assert statuses == {"1": "succeeded", "2": "interrupted"}


class TimeServer(threading.Thread):
    """A real SNTP server (RFC 4330) on a port of its own, whose clock stands."""

    def __init__(self, unix: int) -> None:
        super().__init__(daemon=True)
        self.unix = unix
        self.asked = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = self.socket.getsockname()

    def run(self) -> None:
        while True:
            question, sender = self.socket.recvfrom(100)
            if not question:
                return
            self.asked += 1
            stamp = struct.pack(">II", self.unix + 2208988800, 0)
            self.socket.sendto(b"\x24\x02\x06\xec" + bytes(20) + question[40:48] + stamp + stamp, sender)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.sendto(b"", self.address)
        self.join(5)
        self.socket.close()


def asked_and_kept(kind, make, mosquitto) -> tuple[int, int]:
    """The round trips of the wake that asks for the time, and of the next."""
    with TimeServer(1_800_000_000) as server, Host(mosquitto.address) as host:
        wifi = Wifi(names={"time.example:123": server.address})
        board, said = make(kind, wifi, clock="ntp", ntp="time.example", linger=1, connect_every=600, speed=300)
        end = wake(board, said)
        report = host.wait("up/wake")
        host.send(command(report["state"], 1, "ping"))
        again = wake(board, board.wait_console('"do":"ping"', 60, after=end))
        seconds = next(iter(host.answers(1).values()))["value"]["time"] - server.unix
        assert host.wait("up/wake", 2)["clock"] == ("estimated" if kind == "RPI_PICO_W" else "kept")
    assert report.get("clock") in (None, "sntp"), "the answer may be faster than the report is composed"
    assert server.asked == 1
    first, second = fields(board, "asleep", said)[:2]
    assert abs(seconds - first["next"]) < 60, (seconds, board.console[said:again])
    board.power_cut()
    return first["turns"], second["turns"]


@each_board
def test_time_is_asked_for_beside_the_first_flight_and_then_kept_or_estimated(kind, make, mosquitto):
    """One question a day, no round trip; over sleep an ESP32 keeps it, a Pico adds what it slept."""
    for _ in range(3):  # a board that a busy machine holds up asks for its fence twice
        turns = asked_and_kept(kind, make, mosquitto)
        if turns == (3, 3):
            break
    assert turns == (3, 3), "the handshake, the first flight, the farewell or the result"


@each_board
def test_time_first_is_known_before_the_first_byte_to_the_broker(kind, make, mosquitto):
    """The report, composed with CONNECT, has it; and a wake without an answer fails and asks again at the next."""
    with TimeServer(1_800_000_000) as server, Host(mosquitto.address) as host:
        wifi = Wifi(names={"time.example:123": server.address})
        board, said = make(kind, wifi, clock="first", ntp="time.example", connect_every=600, speed=300)
        wake(board, said)
        assert host.wait("up/wake")["clock"] == "sntp"
    assert server.asked == 1


def test_battery_is_read_before_the_radio(make, mosquitto):
    """VSYS of a Pico W comes over a line of the Wi-Fi chip's: with the radio on it would be nonsense."""
    board, said = make("RPI_PICO_W", battery_pin=29, battery_divider=3)
    with Host(mosquitto.address) as host:
        wake(board, said)
        assert 4.0 < host.wait("up/wake")["battery"] < 4.2
