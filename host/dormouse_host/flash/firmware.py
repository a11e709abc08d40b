"""MicroPython onto a board: through esptool, or by copying a UF2 file onto the drive that a Pico shows.

A file that is not for this chip is refused before anything is written. The tools are other people's and get a deadline;
without a file, mpflash finds and downloads one.
"""

import importlib.util
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from dormouse_host import files
from dormouse_host.errors import HostError
from dormouse_host.flash.kinds import Board
from dormouse_host.flash.ports import Place, check_free

_UF2 = (0x0A324655, 0x9E5D5157)  # the two words that each block begins with
_UF2_FAMILY = 28  # offset of the family id in a block
_ESP_IMAGE = 0xE9  # first byte of an image for an ESP32
_ESP_CHIPS = {0: "esp32", 2: "esp32s2", 5: "esp32c3", 9: "esp32s3", 12: "esp32c2", 13: "esp32c6"}
_ESP_CHIP = 12  # offset of the chip's id, two bytes
_MOUNTS = ("/media/*/*", "/run/media/*/*", "/media/*", "/mnt/*", "/Volumes/*")
_TOOL_SECONDS = 600

Say = Callable[[str], None]


def install(board: Board, port: str | None, file: Path | None, *, erase: bool, wait: float, say: Say) -> None:
    """Install MicroPython on `board`, from `file` or what mpflash finds. `erase`: erase all of its flash first.

    HostError when the file is for another chip, a tool is missing, or it failed. `wait`: seconds for a Pico's drive.
    """
    if file is not None:
        check(file, board)
    if board.firmware.tool == "none":
        raise HostError(f"{board.name} runs CPython and needs no firmware", 2)
    if port is not None:
        check_free(Place(port))
    if file is None:
        _mpflash(board, port, erase=erase, say=say)
    elif board.firmware.tool == "esptool":
        _esptool(board, port, file, erase=erase, say=say)
    elif erase:
        raise HostError("a UF2 file cannot erase flash: use the maker's flash_nuke.uf2 first", 2)
    else:
        copy_uf2(board, file, wait, say)


def check(file: Path, board: Board) -> None:
    """HostError unless `file` is firmware for the board's chip."""
    try:
        with file.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise HostError(f"{file}: {error.strerror}", 2) from None
    wanted = board.firmware
    if wanted.tool == "uf2":
        if len(head) < 512 or struct.unpack_from("<II", head) != _UF2:
            raise HostError(f"{file} is not a UF2 file, which {board.name} requires", 2)
        family = struct.unpack_from("<I", head, _UF2_FAMILY)[0]
        if family != wanted.family:
            raise HostError(f"{file} is for another chip: UF2 family 0x{family:08x}, not 0x{wanted.family:08x}", 2)
    elif wanted.tool == "esptool":
        if len(head) < 24 or head[0] != _ESP_IMAGE:
            raise HostError(f"{file} is not an image for an ESP32 (expected a .bin file)", 2)
        chip = _ESP_CHIPS.get(struct.unpack_from("<H", head, _ESP_CHIP)[0], "an unknown chip")
        if chip != wanted.chip:
            raise HostError(f"{file} is for {chip}, and {board.name} has {wanted.chip}", 2)


def esptool_command(board: Board, port: str | None, file: Path, *, erase: bool) -> list[str]:
    """The command line that writes `file`."""
    where = ["--port", port] if port else []
    wipe = ["--erase-all"] if erase else []
    offset = hex(board.firmware.offset)
    head = [sys.executable, "-m", "esptool", "--chip", board.firmware.chip, *where]
    return [*head, "write-flash", *wipe, offset, str(file)]


def mpflash_command(board: Board, port: str | None, *, erase: bool) -> list[str]:
    """The command line that finds, downloads and writes the newest release for `board`."""
    where = ["--serial", port] if port else []
    head = [str(Path(sys.executable).with_name("mpflash")), "flash", "--version", "stable", "--board", board.builds[0]]
    return [*head, *where, "--erase" if erase else "--no-erase"]


def copy_uf2(board: Board, file: Path, wait: float, say: Say, mounts: Iterable[str] = _MOUNTS) -> Path:
    """Copy `file` onto the drive of the Pico's bootloader once it appears. Returns the drive, which then vanishes."""
    deadline = time.monotonic() + wait
    told = False
    while (drive := find_drive(board, mounts)) is None:
        if time.monotonic() >= deadline:
            raise HostError(f"no drive {board.firmware.volume} in {wait:.0f} s: hold BOOTSEL while plugging it in", 4)
        if not told:
            told = True
            say(f"waiting {wait:.0f} s for the drive {board.firmware.volume}: hold BOOTSEL while plugging the board in")
        time.sleep(0.2)
    try:
        with files.fresh(drive / file.name) as stream:
            stream.write(file.read_bytes())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise HostError(f"{drive}: {error.strerror}") from None
    say(f"copied {file.name} onto {drive}; the board restarts with it")
    return drive


def find_drive(board: Board, mounts: Iterable[str] = _MOUNTS) -> Path | None:
    """The mounted drive of this board's bootloader: it holds INFO_UF2.TXT, which names the board."""
    for pattern in mounts:
        for drive in sorted(Path("/").glob(pattern.lstrip("/"))):
            try:
                text = (drive / "INFO_UF2.TXT").read_text(errors="replace")
            except OSError:
                continue
            if board.firmware.volume in text or drive.name == board.firmware.volume:
                return drive
    return None


def _esptool(board: Board, port: str | None, file: Path, *, erase: bool, say: Say) -> None:
    _need("esptool")
    _run("esptool", esptool_command(board, port, file, erase=erase), say)


def _mpflash(board: Board, port: str | None, *, erase: bool, say: Say) -> None:
    _need("mpflash")
    _run("mpflash", mpflash_command(board, port, erase=erase), say)


def _need(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        other = ", or use --file" if name == "mpflash" else ""
        raise HostError(f"{name} is not installed: pip install 'dormouse-mqtt[firmware]'{other}")


def _run(name: str, argv: list[str], say: Say) -> None:
    """Run a tool, which prints for itself, with a deadline; HostError when it fails."""
    say(f"running {' '.join(argv)}")
    try:
        code = subprocess.run(argv, timeout=_TOOL_SECONDS, check=False, stdin=subprocess.DEVNULL).returncode
    except subprocess.TimeoutExpired:
        raise HostError(f"{name} did not end in {_TOOL_SECONDS} s") from None
    if code:
        raise HostError(f"{name} failed with exit code {code}")
