"""A device on a virtual board: the example of docs/testing.md as it stands, and the fixture in a run of its own."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dormouse_host.broker.local import Mosquitto
from support import pages
from support.needs import need_micropython, need_mosquitto

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(400)


SENSORS = """
from dormouse import telemetry

@telemetry(every=60)
def all_three(wake):
    import dht
    from machine import ADC, I2C, Pin
    sensor = dht.DHT22(Pin(15))
    sensor.measure()
    bus = I2C(0, scl=Pin(5), sda=Pin(4))
    raw, other = bus.readfrom_mem(0x48, 0, 2), bus.readfrom_mem(0x76, 0, 3)
    return {"t": sensor.temperature(), "soil": ADC(Pin(26)).read_u16(), "board": raw[0], "other": other[2]}
"""


def example(name: str = "test_valve") -> str:
    """A test that docs/testing.md shows."""
    found = re.search(rf"```python\n(def {name}.*?)```", pages.page("testing"), re.DOTALL)
    assert found
    return found[1]


def run(tmp_path: Path, test: str, app: str = "") -> subprocess.CompletedProcess[str]:
    """A project of a user's: an app, by default the example, and a test if there is none yet; run by pytest there."""
    need_micropython()
    need_mosquitto()
    (tmp_path / "app.py").write_text(app or (ROOT / "device" / "app.py").read_text())
    if test:
        (tmp_path / "test_app.py").write_text(test)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tmp_path)]
    return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)


def test_example_of_the_docs_passes_for_a_users_app(tmp_path):
    """Five lines, no import: the fixture is registered by the installation."""
    done = run(tmp_path, example())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_example_of_a_device_that_tests_share_passes(tmp_path):
    (found,) = re.findall(r"```python\n(from pathlib.*?)```", pages.page("testing"), re.DOTALL)
    done = run(tmp_path, found)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_example_with_sensors_passes_for_an_app_that_reads_them(tmp_path):
    """One reading of each kind of sensor."""
    (tmp_path / "sensors.py").write_text(SENSORS)
    done = run(tmp_path, example("test_a_reading"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_example_of_the_docs_fails_for_an_app_that_leaves_the_valve_open(tmp_path):
    """A test that can't fail is none."""
    broken = example().replace('"app.py")', '"open.py")')
    (tmp_path / "open.py").write_text((ROOT / "device" / "app.py").read_text().replace("valve(0)", "valve(1)"))
    done = run(tmp_path, broken)
    assert done.returncode == 1
    assert "driven[-1] == (4, 0)" in done.stdout


@pytest.mark.parametrize("kind", ["ESP32_GENERIC_C3", "RPI_PICO2_W"])
def test_flashed_files_battery_hold_pin_and_button_on_a_whole_device(virtual_device, kind):
    """What was flashed is on the image; the report has the battery; a held pin keeps the prompt after the button."""
    need_micropython()
    need_mosquitto()
    pins = {"ESP32_GENERIC_C3": (3, 2.0), "RPI_PICO2_W": (29, 3.0)}
    pin, divider = pins[kind]
    settings = {"battery_pin": pin, "battery_divider": divider, "hold_pin": 5}
    device = virtual_device(kind, ROOT / "device" / "app.py", settings=settings, battery_pin=pin, divider=divider)
    board = device.board
    assert board.read_file("/a/app.py") == (ROOT / "device" / "app.py").read_bytes()
    assert json.loads(board.read_file("/config.json"))["hold_pin"] == 5
    board.battery = 3.6
    assert device.run("ping").status == "succeeded"
    assert [wake["battery"] for wake in device.fleet.export("wakes")][-1] == pytest.approx(3.6, abs=0.02)
    board.set_pin(5, 0)
    at = len(board.console)
    board.press_reset()
    board.wait_console('window {"s":600}', after=at)
    assert not board.watchdog_on


def test_board_run_flashes_an_app(tmp_path):
    """`dormouse board run --app`: the board is flashed for the broker that is named, and its first wake is told."""
    found = need_mosquitto()
    need_micropython()
    with Mosquitto(found) as broker:
        argv = [
            sys.executable,
            "-m",
            "dormouse_host.cli",
            "board",
            "run",
            "RPI_PICO_W",
            "--dir",
            str(tmp_path),
            "--json",
        ]
        argv += ["--app", str(ROOT / "device" / "app.py"), "--broker", broker.address.url, "--device", "greenhouse"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            assert running.stderr
            try:
                told = next(line for line in running.stderr if " asleep " in line)
            finally:
                running.terminate()
                running.communicate(timeout=60)
    assert json.loads(told.split(" asleep ")[1])["drained"]


def test_board_run_goes_on_where_the_first_wake_of_its_app_fails(tmp_path):
    """A program that raises at its import: the failure is told with its line, and the board stays to be looked at."""
    need_micropython()
    app = tmp_path / "app.py"
    app.write_text("import nowhere\n")
    argv = [sys.executable, "-m", "dormouse_host.cli", "board", "run", "RPI_PICO_W", "--dir", str(tmp_path / "b")]
    with Mosquitto(need_mosquitto()) as broker:
        argv += ["--app", str(app), "--broker", broker.address.url]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, text=True) as running:
            assert running.stderr
            assert running.stdin
            try:
                told = next(line for line in running.stderr if "first wake: " in line)
                running.stdin.write("help\n")
                running.stdin.flush()
                answered = next(line for line in running.stderr if "power" in line)
            finally:
                running.terminate()
                running.communicate(timeout=60)
    assert "first wake: app: the program failed (ImportError: no module named 'nowhere' at app.py:1" in told
    assert "the board runs on: end it with Ctrl-C, and run this again" in told
    assert "cut power at once" in answered
