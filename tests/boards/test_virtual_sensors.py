"""Sensors around a virtual board: ADC pins, DHT11 and DHT22, I2C devices; from a test and from the console's lines."""

import time
from pathlib import Path

import pytest

from dormouse_host.errors import HostError
from dormouse_host.virtual import script
from dormouse_host.virtual.board import VirtualBoard
from dormouse_host.virtual.device import VirtualDevice
from dormouse_host.virtual.images import Images
from dormouse_host.virtual.kind import load
from dormouse_host.virtual.sensors import Registers, Sensors
from support.needs import need_mosquitto
from support.virtual_boards import TWO, run

pytestmark = pytest.mark.timeout(200)

BUS = {"ESP32_GENERIC": "I2C(0, scl=Pin(18), sda=Pin(19))", "RPI_PICO_W": "I2C(0, scl=Pin(5), sda=Pin(4))"}
ADC = {"ESP32_GENERIC": 33, "RPI_PICO_W": 26}


@TWO
def test_a_voltage_at_an_adc_pin_is_read_and_is_nothing_without_it(make, kind):
    board = make(kind)
    read = f"from machine import ADC, Pin; a = ADC(Pin({ADC[kind]})); print(a.read_u16())"
    assert run(board, read) == "0"
    board.adc(ADC[kind], 0.5)
    full = 0.95 if kind == "ESP32_GENERIC" else 3.3
    assert int(run(board, read)) == pytest.approx(0.5 / full * 65535, abs=2)
    board.adc(ADC[kind], None)
    assert run(board, read) == "0"
    with pytest.raises(HostError, match="pin 5 of .* has no ADC, only"):
        board.adc(5, 1.0)


@TWO
def test_a_dht_is_measured_by_the_firmware_s_own_module(make, kind):
    board = make(kind)
    measure = "import dht, machine; d = dht.{0}(machine.Pin(15)); d.measure(); print(d.temperature(), d.humidity())"
    board.dht(15, -3.5, 48.2)
    assert list(map(float, run(board, measure.format("DHT22")).split())) == pytest.approx([-3.5, 48.2])
    board.dht(15, 21, 40, "DHT11")
    assert list(map(float, run(board, measure.format("DHT11")).split())) == pytest.approx([21, 40])
    board.dht(15, None)
    told = run(board, f"try:\n {measure.format('DHT22')}\nexcept OSError as e: print(e.errno)")
    assert told == ("116" if kind == "ESP32_GENERIC" else "110")


@TWO
def test_an_i2c_device_answers_at_its_address_on_both_kinds_of_bus(make, kind):
    board = make(kind)
    asked: list[tuple[bytes, int]] = []

    def sensor(written: bytes, count: int) -> bytes:
        asked.append((written, count))
        return bytes(range(count))

    board.i2c(0x76, sensor)
    board.i2c(0x48, {0: b"\x19\x80", 5: b"\x07"})
    soft = BUS[kind].replace("I2C(0, ", "SoftI2C(")
    head = f"from machine import Pin, I2C, SoftI2C; b = {BUS[kind]}; s = {soft};"
    assert run(board, f"{head} print(b.scan(), s.scan())") == "[72, 118] [72, 118]"
    assert run(board, f"{head} print(b.readfrom_mem(0x48, 0, 2), s.readfrom_mem(0x48, 5, 1))") == r"b'\x19\x80' b'\x07'"
    code = f"{head} b.writeto_mem(0x48, 1, b'ab'); s.writeto(0x48, b'\\2'); print(s.readfrom(0x48, 1))"
    assert run(board, code) == "b'b'"
    code = f"{head} print(b.writeto(0x76, b'\\xd0', False), b.readfrom(0x76, 2), b.writevto(0x76, (b'x', b'y')))"
    assert run(board, code) == r"1 b'\x00\x01' 2"
    assert asked == [(b"\xd0", 2), (b"xy", 0)]
    code = f"{head} m = bytearray(2); b.readfrom_mem_into(0x48, 1, m, addrsize=16); s.readfrom_into(0x76, m); print(m)"
    assert run(board, code) == r"bytearray(b'\x00\x01')"
    missing = f"{head}\nfor bus in (b, s):\n try: bus.readfrom(0x20, 1)\n except OSError as e: print(e.errno, end=' ')"
    assert run(board, missing) == ("19 19" if kind == "ESP32_GENERIC" else "5 19")


def test_a_bus_that_the_board_does_not_have_is_refused_as_there(make):
    board = make("RPI_PICO_W")
    tried = "from machine import Pin, I2C\ntry: {0}\nexcept ValueError as e: print(e)"
    assert run(board, tried.format("I2C(2)")) == "I2C(2) doesn't exist"
    assert run(board, tried.format("I2C(0, scl=Pin(3), sda=Pin(2))")) == "bad SCL pin"
    assert run(board, tried.format("I2C(1, scl=Pin(3), sda=Pin(3))")) == "bad SDA pin"


def test_a_device_of_a_test_that_raises_ends_the_board_with_its_words(make):
    board = make("RPI_PICO_W")
    board.i2c(0x10, lambda written, count: b"too long"[: count + 1])
    code = "from machine import I2C, Pin; I2C(0, scl=Pin(5), sda=Pin(4)).readfrom(16, 1)"
    with pytest.raises(HostError):
        run(board, code)
    with pytest.raises(HostError, match="the I2C device at 0x10 returned 2 bytes, asked for 1"):
        board.power_on()


def test_lines_of_the_console_feed_the_sensors(make):
    board = make("ESP32_GENERIC")
    for line in ("adc 33 1.2", "dht 4 21.5 48", "i2c 0x48 0 1980", "i2c 0x48 2 07"):
        assert script.obey(board, line) is None
    code = (
        "import dht; from machine import *; d = dht.DHT22(Pin(4)); d.measure(); "
        "print(ADC(33, atten=3).read_uv(), d.temperature(), SoftI2C(1, 2).readfrom_mem(0x48, 0, 3))"
    )
    assert run(board, code) == r"1200000 21.5 b'\x19\x80\x07'"
    for line in ("adc 33 free", "dht 4 free", "i2c 0x48 free"):
        assert script.obey(board, line) is None
    assert run(board, "from machine import *; print(ADC(33).read_uv(), SoftI2C(1, 2).scan())") == "0 []"
    for line in ("adc 33", "adc x 1", "dht 4 21", "i2c 0x48 0 xyz", "i2c 0x48"):
        assert script.obey(board, line) == script.HELP
    with pytest.raises(HostError, match="expected DHT11 or DHT22"):
        script.obey(board, "dht 4 21 48 DHT33")


APP = """
from dormouse import command, telemetry

def bus():
    from machine import I2C, Pin
    return I2C(0, scl=Pin(5), sda=Pin(4))

@telemetry(every=30)
def air(wake):
    import dht
    from machine import ADC, Pin
    d = dht.DHT22(Pin(15))
    d.measure()
    raw = bus().readfrom_mem(0x48, 0, 2)
    return {"t": d.temperature(), "soil": ADC(Pin(26)).read_u16(), "board": (raw[0] << 4 | raw[1] >> 4) / 16}
"""


def test_an_app_with_sensors_is_tried_on_a_virtual_device(virtual_device, tmp_path: Path):
    """They are connected before the first wake reads them, and changed between two wakes."""
    need_mosquitto()
    (tmp_path / "app.py").write_text(APP)

    def connect(board: VirtualBoard) -> None:
        board.dht(15, 21.5, 48)
        board.adc(26, 1.65)
        board.i2c(0x48, {0: b"\x19\x00"})

    device = virtual_device("RPI_PICO_W", tmp_path / "app.py", connect=connect)
    device.board.register(0x48, 0, b"\x1a\x00")
    device.board.dht(15, 22.0)
    device.wake()
    first, second = [record["values"] for record in device.telemetry()]
    assert (first["t"], first["board"], second["t"], second["board"]) == (21.5, 25, 22.0, 26)
    assert first["soil"] == pytest.approx(32767, abs=2)
    device.board.i2c(0x48, None)
    device.wake()
    assert len(device.telemetry()) == 2, "a reading that raises is none"
    device.board.wait_console("EIO", 30)


@pytest.mark.parametrize(
    "answer, why",
    [
        (lambda written, count: 1 // 0, "raised ZeroDivisionError: "),
        (lambda written, count: 17, "returned int: expected bytes or None"),
    ],
)
def test_a_device_that_is_wrong_is_told_at_once_in_the_first_wake(tmp_path: Path, answer, why):
    """Also where the first wake is followed over the board's port; it used to be waited for to its end, 65 s."""
    need_mosquitto()
    (tmp_path / "app.py").write_text(APP)

    def connect(board: VirtualBoard) -> None:
        board.dht(15, 21.5)
        board.i2c(0x48, answer)

    begin = time.monotonic()
    for name, images in (("imaged", Images(tmp_path)), ("flashed", None)):
        device = VirtualDevice("RPI_PICO_W", tmp_path / name, tmp_path / "app.py", images=images, connect=connect)
        with pytest.raises(HostError, match=f"^the virtual board broke: the I2C device at 0x48 {why}"):
            device.start()
    assert time.monotonic() - begin < 50


# ---- without a board


def test_registers_count_on_from_the_one_that_was_written():
    device = Registers({0xFE: b"\x01\x02"})
    assert device(b"\xfe", 3) == b"\x01\x02\x00"
    assert device(b"\x10ab", 0) == b""
    assert device(b"\x10", 1) + device(b"", 1) == b"ab"


def test_what_a_dht_cannot_measure_is_refused():
    sensors = Sensors(load("RPI_PICO_W"))
    for values in ((90.0, 50.0, "DHT22"), (-1.0, 50.0, "DHT11"), (20.0, 101.0, "DHT22")):
        with pytest.raises(HostError, match="measures"):
            sensors.dht(4, *values)
    with pytest.raises(HostError, match="has no pin 99"):
        sensors.dht(99, 20.0, 50.0, "DHT22")
    with pytest.raises(HostError, match="I2C address 0x3: expected 0x8 to 0x77"):
        sensors.i2c(3, None)
