"""The parts of flashing that need no board: which port, which broker, what a first wake came to, firmware, doctor."""

import os
import re
import socket
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from serial import SerialException

from dormouse_host.agent import log
from dormouse_host.agent.log import parse
from dormouse_host.errors import HostError
from dormouse_host.flash import doctor, firmware, first_wake, flash, kinds, wire
from dormouse_host.flash.ports import Place, PortInfo, choose, is_virtual
from dormouse_host.flash.project import DeviceFiles

PICO = kinds.load("RPI_PICO_W")
ESP = kinds.load("ESP32_GENERIC")
ACM = PortInfo("/dev/ttyACM0", "2e8a:0005", "E66")
BRIDGE = PortInfo("/dev/ttyUSB0", "10c4:ea60", "0001", "CP2102")
NAMES = {"ssid": "home", "host": "broker.lan", "port": 1883}


def unheard(line):
    """What is said on the way."""


# ---- which port


def test_without_a_port_it_is_the_one_board_connected():
    assert choose(PICO, [BRIDGE, ACM]) == ACM
    assert choose(ESP, [BRIDGE, ACM]) == BRIDGE


def test_several_boards_are_listed_with_their_serial_numbers():
    other = PortInfo("/dev/ttyACM1", "2e8a:0005", "E77")
    with pytest.raises(HostError, match=r"/dev/ttyACM0 \(2e8a:0005 serial E66\); /dev/ttyACM1.*E77") as caught:
        choose(PICO, [ACM, other])
    assert caught.value.code == 2


def test_no_board_at_all_is_said_with_what_there_is():
    with pytest.raises(HostError, match=r"no Raspberry Pi Pico W.*other ports: /dev/ttyUSB0") as caught:
        choose(PICO, [BRIDGE])
    assert caught.value.code == 4


def test_a_board_whose_port_comes_back_under_another_name_is_found_by_its_usb_serial_number():
    """A Pico's port is gone while it sleeps, and another device may have taken its name meanwhile."""
    there = [ACM]
    place = Place(ACM.device, lambda: list(there))
    assert place.device() == "/dev/ttyACM0"
    there[:] = []
    assert place.device() is None
    there[:] = [PortInfo("/dev/ttyACM0", "2e8a:0005", "another"), replace(ACM, device="/dev/ttyACM3")]
    assert place.device() == "/dev/ttyACM3"


def test_a_virtual_board_is_known_by_its_port_alone(tmp_path):
    master, slave = os.openpty()
    try:
        link = tmp_path / "port"
        link.symlink_to(os.ttyname(slave))
        assert is_virtual(os.ttyname(slave))
        assert is_virtual(str(link)), "a symlink to one"
        assert Place(str(link)).device() == os.ttyname(slave)
    finally:
        os.close(master)
        os.close(slave)
    assert is_virtual("socket://127.0.0.1:4000")
    assert not is_virtual("socket://10.0.0.7:4000")
    assert not is_virtual("rfc2217://localhost:4000")
    assert not is_virtual("/dev/ttyACM0")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "LOCALHOST"])
def test_a_real_board_is_not_sent_to_itself(host):
    """Refused with this machine's own addresses, for a real board only."""
    device = DeviceFiles({}, {}, {"host": host})
    with pytest.raises(HostError, match=r"this is the board itself; this machine") as caught:
        flash.check_broker(Place("/dev/ttyACM0", lambda: [ACM]), device)
    assert caught.value.code == 2
    flash.check_broker(Place("socket://127.0.0.1:4000", list), device)
    flash.check_broker(Place("/dev/ttyACM0", lambda: [ACM]), DeviceFiles({}, {}, {"host": "192.168.1.7"}))


# ---- the first wake


def wake(*lines):
    return first_wake.judge(tuple(filter(None, map(parse, lines))), 60)


BOOT = 'dormouse 1 boot {"wake":1}'
ASLEEP = 'dormouse 90 asleep {"ms":90,"drained":true}'


def test_a_wake_that_connected_and_ended_is_a_success():
    done = wake(BOOT, "dormouse 5 connecting {}", 'dormouse 9 connected {"rtt":2}', ASLEEP)
    assert done.succeeded
    assert done.asleep["ms"] == 90


@pytest.mark.parametrize(
    "stage, words",
    [
        ("ap", "no access point home found"),
        ("password", "refuses the Wi-Fi password"),
        ("address", "DHCP gave no address"),
        ("dns", "broker.lan cannot be resolved"),
        ("connect", "no connection to broker.lan:1883"),
        ("tls", "TLS with broker.lan failed"),
        ("connack", "the broker refuses the device"),
        ("subscribe", "does not permit this device to read"),
        ("newcomer", "did not succeed"),
    ],
)
def test_a_first_wake_that_failed_is_named_by_its_stage(stage, words):
    error = f'dormouse 9 error {{"kind":"LinkError","stage":"{stage}","why":"the device\'s words"}}'
    done = wake(BOOT, error, ASLEEP)
    assert not done.succeeded
    line = done.explain(NAMES)
    assert line.startswith(f"first wake: {stage}: ")
    assert words in line
    assert line.endswith("(the device's words)")


def test_other_ways_to_fail_are_told_apart():
    config = 'dormouse 1 error {"kind":"ConfigError","why":"config: unknown key x"}'
    app = 'dormouse 3 error {"kind":"app","stage":"import","why":"ImportError: bme"}'
    connected = 'dormouse 9 connected {"rtt":2}'
    assert wake().stage == "boot", "nothing came at all"
    assert wake(BOOT, connected).stage == "unfinished"
    assert wake(BOOT, ASLEEP).stage == "schedule", "a wake that only sampled is no first report"
    assert wake(config, ASLEEP).stage == "config"
    assert (wake(BOOT, app, connected, ASLEEP).stage, wake(BOOT, app, connected, ASLEEP).why) == (
        "app",
        "ImportError: bme",
    )


def test_a_reading_that_spoils_the_first_wake_is_named():
    """It said `no JSON of at most 512 bytes`, and nothing of which value."""
    dropped = 'dormouse 3 error {"kind":"telemetry","stage":"soil.n","why":"no JSON of at most 512 bytes"}'
    done = wake(BOOT, dropped, 'dormouse 9 connected {"rtt":2}', ASLEEP)
    assert (done.stage, done.why) == ("app", "reading soil.n: no JSON of at most 512 bytes")


def test_lines_are_put_together_and_an_endless_one_is_dropped():
    lines = log.Lines()
    assert lines.feed(b"one\r\ntw") == ["one"]
    assert lines.feed(b"o\n\xff\n") == ["two", "\ufffd"]
    lines.feed(b"x" * 5000)
    assert lines.feed(b"y\nz\n") == ["y", "z"]


# ---- firmware


def uf2(family):
    return struct.pack("<8I", 0x0A324655, 0x9E5D5157, 0x2000, 0, 256, 0, 1, family) + bytes(480)


def esp(chip):
    return bytes((0xE9, 1, 2, 0)) + bytes(8) + struct.pack("<H", chip) + bytes(500)


@pytest.mark.parametrize(
    "board, name, data, message",
    [
        ("RPI_PICO_W", "a.uf2", uf2(0xE48BFF59), "for another chip: UF2 family 0xe48bff59, not 0xe48bff56"),
        ("RPI_PICO2_W", "a.uf2", uf2(0xE48BFF56), "for another chip"),
        ("RPI_PICO_W", "a.uf2", esp(0), "not a UF2 file"),
        ("RPI_PICO_W", "a.uf2", b"", "not a UF2 file"),
        ("ESP32_GENERIC", "a.bin", esp(9), "is for esp32s3, and ESP32_GENERIC has esp32"),
        ("ESP32_GENERIC_C3", "a.bin", esp(0), "is for esp32, and"),
        ("ESP32_GENERIC_S3", "a.bin", uf2(0), "not an image for an ESP32"),
        ("ESP32_GENERIC", "missing.bin", None, "No such file"),
    ],
)
def test_firmware_for_another_chip_is_refused(tmp_path, board, name, data, message):
    file = tmp_path / name
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(HostError, match=re.escape(message)) as caught:
        firmware.install(kinds.load(board), None, file, erase=False, wait=0, say=unheard)
    assert caught.value.code == 2


def test_a_uf2_file_is_copied_onto_the_drive_that_appears(tmp_path):
    """The copy is real; that a Pico starts from it is the part that nobody has tried here."""
    file = tmp_path / "firmware.uf2"
    file.write_bytes(uf2(PICO.firmware.family))
    drive = tmp_path / "media" / "RPI-RP2"
    other = tmp_path / "media" / "OTHER"
    other.mkdir(parents=True)
    (other / "INFO_UF2.TXT").write_text("Model: Feather\nBoard-ID: SAMD21\n")
    mounts = [f"{tmp_path}/media/*"]
    with pytest.raises(HostError, match="hold BOOTSEL") as caught:
        firmware.copy_uf2(PICO, file, 0.1, unheard, mounts)
    assert caught.value.code == 4
    drive.mkdir()
    (drive / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\nBoard-ID: RPI-RP2\n")
    assert firmware.copy_uf2(PICO, file, 1, unheard, mounts) == drive
    assert (drive / "firmware.uf2").read_bytes() == file.read_bytes()
    assert firmware.find_drive(kinds.load("RPI_PICO2_W"), mounts) is None


def test_the_command_lines_are_those_that_the_tools_take(tmp_path):
    """Tried by hand with esptool 5.6.0 and mpflash 1.29.0, up to the missing board."""
    line = firmware.esptool_command(ESP, "/dev/ttyUSB0", Path("f.bin"), erase=True)[1:]
    assert " ".join(line) == "-m esptool --chip esp32 --port /dev/ttyUSB0 write-flash --erase-all 0x1000 f.bin"
    line = firmware.esptool_command(kinds.load("ESP32_GENERIC_C3"), None, Path("f.bin"), erase=False)[1:]
    assert " ".join(line) == "-m esptool --chip esp32c3 write-flash 0x0 f.bin"
    line = firmware.mpflash_command(PICO, "/dev/ttyACM0", erase=False)[1:]
    assert " ".join(line) == "flash --version stable --board RPI_PICO_W --serial /dev/ttyACM0 --no-erase"


# ---- doctor


def fixes(ports, usb=Path("/nonexistent")):
    return [(finding.what, finding.fix) for finding in doctor.examine(ports, usb) if finding.wrong]


def test_a_port_that_another_program_holds_is_named_with_that_program(tmp_path):
    """A pseudo-terminal stands for the port; the holder is a real process."""
    master, slave = os.openpty()
    name = os.ttyname(slave)
    with subprocess.Popen(["sleep", "60"], stdin=slave) as holder:
        try:
            found = fixes([PortInfo(name, "2e8a:0005")])
            assert found == [(f"{name} is held by sleep (pid {holder.pid})", f"end that program: kill {holder.pid}")]
        finally:
            holder.kill()
    os.close(slave)
    os.close(master)


def test_a_missing_group_is_named(monkeypatch):
    def refuse(path, flags, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    (what, fix) = fixes([PortInfo("/dev/full", "2e8a:0005")])[0]
    assert what == "you have no permission to open /dev/full"
    assert re.fullmatch(r"sudo usermod -aG \S+ \$USER, then log in again", fix)


def test_no_board_on_usb_is_a_cable_that_only_charges_a_bootloader_or_a_driver(tmp_path):
    """What the bus shows, as Linux lists it under /sys/bus/usb/devices."""
    assert "may only charge" in fixes([])[-1][1]
    place = tmp_path / "1-2"
    place.mkdir()
    (place / "idVendor").write_text("2e8a\n")
    (place / "idProduct").write_text("0003\n")
    assert "dormouse firmware" in fixes([], tmp_path)[-1][1]
    (place / "idVendor").write_text("10c4\n")
    (place / "idProduct").write_text("ea60\n")
    assert "modprobe" in fixes([], tmp_path)[-1][1]


def test_a_board_that_is_fine_needs_nothing():
    master, slave = os.openpty()
    try:
        os.set_inheritable(slave, False)
        name = os.ttyname(slave)
        assert not [what for what, _ in fixes([PortInfo(name, "2e8a:0005")]) if name in what]
    finally:
        os.close(slave)
        os.close(master)


def test_a_port_that_is_named_is_examined_alone(tmp_path):
    """Also one that no USB lists, or that is behind a network."""

    def of(port):
        found = doctor.examine([PortInfo("/dev/full", "2e8a:0005")], tmp_path, port)[-1]
        return found.what, found.fix

    assert of(str(tmp_path / "none")) == (
        f"{tmp_path}/none does not exist",
        "press reset on a sleeping board, which has no port",
    )
    assert of("/dev/full")[0].startswith("/dev/full (2e8a:0005): may be ")
    assert of("/dev/zero") == ("/dev/zero: can be opened", "")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = f"socket://127.0.0.1:{server.getsockname()[1]}"
        assert of(port) == (port, "")
    assert of(port) == (f"{port}: Connection refused", "start the program that serves it")
    assert of("socket://nonsense")[1] == "start the program that serves it"


def test_a_port_that_goes_in_the_instant_of_its_opening_is_a_lost_board(monkeypatch):
    class Going:
        closed = False

        @property
        def write_timeout(self):
            return None

        @write_timeout.setter
        def write_timeout(self, seconds):
            raise SerialException("Could not configure port")

        def close(self):
            Going.closed = True

    class Opened:
        def __init__(self, *_, **__):
            self.serial = Going()

        def close(self):
            self.serial.close()

    monkeypatch.setattr(wire, "SerialTransport", Opened)
    with pytest.raises(wire.LostBoard, match="configure"):
        wire.Wire("/dev/ttyNONE")
    assert Going.closed
