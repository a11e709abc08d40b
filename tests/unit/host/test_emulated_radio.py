"""The radio, the network and the timing of an emulated board, without a firmware; skipped where rp2040py is missing."""

import asyncio
import struct
from typing import Any

import pytest

from dormouse_host.virtual.wifi import Wifi


class Alarm:
    """Of a clock that stands still."""

    def __init__(self, clock, callback):
        self.clock, self.callback = clock, callback

    def schedule(self, ns):
        self.clock.due.append((ns, self.callback))

    def cancel(self):
        self.clock.due = [(ns, callback) for ns, callback in self.clock.due if callback != self.callback]


class Clock:
    """Collects what is due, and runs it in order."""

    def __init__(self):
        self.due: list[tuple[float, Any]] = []

    def create_alarm(self, callback):
        return Alarm(self, callback)

    def run(self):
        due, self.due = sorted(self.due, key=lambda item: item[0]), []
        for _, callback in due:
            callback()


class Driver:
    """The driver's side of the radio: ioctls as cyw43_ll.c writes them. `events`: type, status, flags of what came."""

    def __init__(self, **wifi):
        pytest.importorskip("rp2040py")
        from dormouse_host.emulated.radio import Radio

        self.told: list[str] = []
        self.clock = Clock()
        self.wifi = Wifi(**wifi)
        self.radio = Radio(self.clock, self.wifi, lambda name, **fields: self.told.append(name))
        self.radio.power_up()

    def ioctl(self, command: int, payload: bytes) -> None:
        body = struct.pack("<4I", command, len(payload), 0, 0) + payload
        size = 12 + len(body)
        self.radio._write_wlan(struct.pack("<2H8B", size, ~size & 0xFFFF, 0, 0, 0, 12, 0, 0, 0, 0) + body)

    def events(self) -> list[tuple[int, int, int]]:
        found = []
        packets = [self.radio._rx_packet, *self.radio._rx_queue]
        self.radio._rx_packet, self.radio._rx_queue = b"", []
        for packet in packets:
            if packet and packet[5] & 15 == 1:
                core = packet[12 + 4 + 24 :]
                found.append((*struct.unpack(">2I", core[4:12]), struct.unpack(">H", core[2:4])[0]))
        return found

    def join(self, password: str = "virtual-password", ssid: str = "virtual", bssid: str = "") -> list:
        self.ioctl(268, struct.pack("<2H", len(password), 1) + password.encode().ljust(64, b"\0"))
        name = struct.pack("<I", len(ssid)) + ssid.encode().ljust(32, b"\0")
        if bssid:
            self.ioctl(263, b"join\0" + name + bytes(20) + bytes.fromhex(bssid.replace(":", "")) + bytes(8))
        else:
            self.ioctl(26, name)
        self.events()
        self.clock.run()
        return self.events()


JOINED = [(0, 0, 0), (3, 0, 0), (7, 0, 0), (16, 0, 1), (46, 6, 0)]  # set_ssid, auth, assoc, link up, keyed


@pytest.mark.parametrize("bssid", ["", "02:00:00:d0:12:05"])
def test_the_right_name_and_password_join(bssid):
    driver = Driver()
    assert driver.join(bssid=bssid) == JOINED
    assert driver.radio.joined
    assert driver.told == ["radio on", "join", "wifi up"]


def test_a_wrong_password_and_a_refusing_access_point_fail_the_handshake():
    for driver in (Driver(password="another"), Driver(refuses=True)):
        assert driver.join()[-1] == (46, 8, 0)
        assert not driver.radio.joined


@pytest.mark.parametrize(
    "wifi, how", [({"present": False}, {}), ({}, {"ssid": "other"}), ({}, {"bssid": "02:00:00:00:00:01"})]
)
def test_an_access_point_that_is_not_there_is_not_found(wifi, how):
    assert Driver(**wifi).join(**how) == [(0, 3, 0)]


def test_a_drop_ends_the_connection_and_carries_nothing_more():
    driver = Driver()
    driver.join()
    driver.wifi.drop()
    driver.radio.look()
    assert driver.events() == [(16, 0, 0), (11, 0, 0)]
    driver.radio.queue_rx_ethernet_frame(bytes(60))
    assert driver.radio._rx_packet == b""


def test_the_clocks_of_sleep_read_as_written_and_tell_of_light_sleep():
    pytest.importorskip("rp2040py")
    from dormouse_host.emulated.registers import SleepClocks

    told: list[bool] = []
    clocks = SleepClocks(None, told.append)
    clocks.write_uint32_atomic(0xA8, 0, 0)
    clocks.write_uint32_atomic(0xAC, 0x2000, 0)
    clocks.write_uint32_atomic(0xA8, clocks.read_uint32(0xA8) | 0x4, 0)  # as for USB: still asleep
    assert (clocks.read_uint32(0xA8), clocks.read_uint32(0xAC), clocks.asleep, told) == (4, 0x2000, True, [True])
    clocks.write_uint32_atomic(0xA8, 0xFFFFFFFF, 0)
    assert told == [True, False]


class Ticking:
    """A clock that only goes where it is told to, with its next alarm at `alarm`; the chip that has it."""

    def __init__(self, alarm: float):
        self.nanos, self.alarm = 0.0, alarm
        self.core, self.clock = self, self
        self.cycles = 0

    @property
    def nanos_to_next_alarm(self) -> float:
        return self.alarm - self.nanos

    def tick(self, nanos: float) -> None:
        self.nanos += nanos

    def read_uint32(self, offset: int) -> int:
        return int(self.nanos / 1000)


@pytest.mark.parametrize("apart, jumps", [(40, True), (500, False)])
def test_only_a_loop_that_reads_nothing_but_the_timer_is_shortened(apart, jumps):
    """Five hundred cycles between two reads are a step of Python, which may do something in between."""
    from dormouse_host.emulated.waits import BusyWaits

    chip = Ticking(alarm=1e9)
    timer = BusyWaits(chip, chip)
    for _ in range(1000):
        chip.cycles += apart
        timer.read_uint32(0x28)
    assert (chip.nanos > 1e6) == jumps


def test_a_shortened_wait_passes_over_no_alarm():
    from dormouse_host.emulated.waits import BusyWaits

    chip = Ticking(alarm=12_345.0)
    timer = BusyWaits(chip, chip)
    for _ in range(1000):
        chip.cycles += 40
        timer.read_uint32(0x28)
    assert chip.nanos == 12_345.0


def question(name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


@pytest.mark.parametrize(
    "wifi, name, answer",
    [
        ({"names": {"broker.example": ("127.0.0.1", 1)}}, "broker.example", bytes([10, 0, 0, 1])),
        ({"names": {"broker.example:1883": ("127.0.0.1", 1)}}, "broker.example", bytes([10, 0, 0, 1])),
        ({}, "localhost", bytes([10, 0, 0, 1])),  # what is this machine is never the board's own loopback
        ({"dns": "fails"}, "localhost", None),
        ({"dns": "lies", "names": {"broker.example": ("127.0.0.1", 1)}}, "broker.example", bytes([10, 9, 9, 9])),
    ],
)
def test_a_name_is_answered_as_the_access_point_says(wifi, name, answer):
    pytest.importorskip("rp2040py")
    from dormouse_host.emulated.network import Network

    network = Network(None, lambda frame: None, Wifi(**wifi), lambda event, **fields: None)
    got = asyncio.run(network._resolve(question(name)))
    assert got is not None
    assert got[:2] == b"\x12\x34"
    assert (got[-4:] if got[7] else None) == answer
    assert (got[3] & 15 == 0) == (answer is not None)


def test_a_name_may_be_never_answered():
    pytest.importorskip("rp2040py")
    from dormouse_host.emulated.network import Network

    network = Network(None, lambda frame: None, Wifi(dns="never"), lambda event, **fields: None)
    assert asyncio.run(network._resolve(question("localhost"))) is None


def test_what_the_board_calls_this_machine_is_found_from_here(tmp_path):
    """Before a flash this machine asks the board's broker, which must not be somebody else's at 10.0.0.1."""
    from dormouse_host.emulated.board import EmulatedBoard
    from dormouse_host.virtual.board import VirtualBoard

    wifi = Wifi(names={"10.0.0.1:8883": ("127.0.0.1", 4711), "broker.example": ("127.0.0.1", 0)})
    board = VirtualBoard("RPI_PICO_W", tmp_path, wifi=wifi)
    places = [("10.0.0.1", 8883), ("broker.example", 1883), ("10.0.0.1", 1883), ("192.0.2.1", 1)]
    assert [board.from_here(*place) for place in places[:2]] == [("127.0.0.1", 4711), ("127.0.0.1", 1883)]
    assert board.from_here(*places[2]) == places[2]
    emulated = EmulatedBoard.__new__(EmulatedBoard)  # without a firmware
    emulated._hardware = board._hardware
    assert emulated.from_here(*places[2]) == ("127.0.0.1", 1883)
    assert emulated.from_here(*places[3]) == places[3]
