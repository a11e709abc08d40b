"""What a virtual board keeps and forgets over sleep, resets, its watchdog and power cuts, as the real one does."""

import re
import time
from pathlib import Path

import pytest

from dormouse_host.errors import HostError
from support.virtual_boards import TWO, join, put, run


def test_esp32_deep_sleep_is_true_and_keeps_clock_and_memory(make, tmp_path):
    """The process is gone while it sleeps; cause, wake reason, retained memory and clock are as on the chip."""
    board = make("ESP32_GENERIC", speed=100)
    program = (
        "import machine, time\n"
        "m = machine.RTC()\n"
        "c = machine.reset_cause()\n"
        "print('cause', c, machine.wake_reason(), time.time(), m.memory() if c == 4 else len(m.memory()))\n"
        "m.memory(b'kept')\n"
        "if c == 2: machine.deepsleep(100000)\n"
    )
    before = len(board.events)
    put(board, tmp_path, program)
    board.wait_event("asleep", after=before)
    assert board.state == "asleep"
    at = board.wait_console("cause 4 4 ")
    board.wait_console("\n", after=at)
    seconds, memory = board.console[at:].split()[:2]
    assert int(seconds) >= 100  # counted from 2000, at the power-on of this test
    assert memory == "b'kept'"


def test_pico_w_forgets_everything_over_sleep(make, tmp_path):
    """Two causes, 2021 at every boot, no retained memory, and a deep sleep that ends in a reset by the watchdog."""
    board = make("RPI_PICO_W", speed=100)
    program = (
        "import machine, time\n"
        "print('cause', machine.reset_cause(), time.localtime()[:3], hasattr(machine.RTC(), 'memory'))\n"
        "f = open('n', 'a'); f.write('x'); f.close()\n"
        "if len(open('n').read()) == 1: machine.deepsleep(60000)\n"
    )
    before = len(board.events)
    put(board, tmp_path, program)
    board.wait_event("asleep", after=before)
    awake = board.wait_event("awake", after=before)
    board.wait_event("boot", after=awake.number)
    board.wait_console("cause 3 (2021, 1, 1) False\r\ncause 3 (2021, 1, 1) False")


@TWO
def test_power_cut_is_a_kill_and_flash_stays(make, tmp_path, kind):
    """What was flushed is there after it; the boot that follows is a power-on, and the ESP32's memory is no longer."""
    board = make(kind)
    put(board, tmp_path, "open('kept', 'w').write('x' * 1000)\nimport time\nprint('at work')\ntime.sleep(60)\n")
    board.wait_console("at work")
    board.power_cut()
    assert board.state == "off"
    assert not Path(board.port).exists()
    before = len(board.events)
    board.power_on()
    assert board.wait_boot(after=before).fields == {"cause": "power"}


def test_pico_w_watchdog_bites_during_a_copy(make, tmp_path):
    """It can't be stopped: not by a soft reset, not by mpremote."""
    board = make("RPI_PICO_W")
    put(board, tmp_path, "import machine\nif machine.reset_cause() == 1: machine.WDT(timeout=3000)\nprint('armed')\n")
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(400_000))
    board.power_cycle()
    armed = board.wait_event("watchdog armed")
    with pytest.raises(HostError):
        board.mpremote("cp", str(big), ":big.bin")
    bite = board.wait_event("watchdog", after=armed.number)
    assert bite.at - armed.at >= 2.9
    assert board.wait_event("boot", after=bite.number).fields == {"cause": "watchdog"}


@TWO
def test_watchdog_limit_is_the_boards(make, kind):
    """More than the chip can count is an error on a Pico, and none on an ESP32."""
    board = make(kind)
    told = run(
        board, "import machine\ntry:\n machine.WDT(timeout=8389); print('armed')\nexcept ValueError as e: print(e)"
    )
    assert told == ("armed" if kind == "ESP32_GENERIC" else "timeout exceeds 8388")


def test_pico_w_rejects_sleep_above_71_minutes(make):
    """2^32 microseconds are all that its timer has."""
    board = make("RPI_PICO_W")
    told = run(board, "import machine\ntry: machine.deepsleep(4294968)\nexcept ValueError as e: print(e)")
    assert told == "sleep too long"


def test_pico_w_light_sleep_returns_at_once_with_an_event_pending(make):
    """The Wi-Fi chip has something to say; the second sleep lasts."""
    board = make("RPI_PICO_W", speed=100)
    join(board)
    code = (
        "import machine, time\n"
        "for _ in range(2):\n"
        " t = time.ticks_ms(); machine.lightsleep(20000); print(time.ticks_diff(time.ticks_ms(), t) >= 20000)"
    )
    before = len(board.events)
    board.type("\x03\x01" + code + "\x04")
    board.wait_event("sleep returned at once", after=before)
    board.wait_event("awake", after=before)
    board.wait_console("False\r\nTrue\r\n")


def test_native_usb_port_is_gone_while_the_board_sleeps(make, tmp_path):
    """An ESP32-C3 speaks USB itself; an ESP32 sits behind a bridge that stays."""
    sleeper = "import machine\nif machine.reset_cause() != 4: machine.deepsleep(60000)\n"
    for kind, stays in (("ESP32_GENERIC_C3", False), ("ESP32_GENERIC", True)):
        board = make(kind, speed=20)
        before = len(board.events)
        put(board, tmp_path, sleeper)
        board.wait_event("asleep", after=before)
        assert Path(board.port).exists() is stays
        board.wait_event("awake", after=before)
        board.wait_boot(after=before + 3)
        assert board.mpremote("exec", "print(1)").strip() == "1"


def test_rp2040_locks_up_when_its_watchdog_expires_in_sleep(make):
    """Only a power cut helps; the RP2350 resets."""
    for kind, state in (("RPI_PICO_W", "locked"), ("RPI_PICO2_W", "running")):
        board = make(kind, speed=100)
        board.type("\x03\x01import machine; machine.WDT(timeout=5000); machine.lightsleep(60000)\x04")
        bite = board.wait_event("watchdog")
        time.sleep(0.3)
        assert board.state == state
        board.power_cycle()
        board.wait_boot(after=bite.number)


def test_wake_pin_ends_deep_sleep(make, tmp_path):
    """And the wake reason says so."""
    board = make("ESP32_GENERIC")
    program = (
        "import esp32, machine\n"
        "p = machine.Pin(33, machine.Pin.IN)\n"
        "print('woke', machine.wake_reason())\n"
        "esp32.wake_on_ext0(p, 1)\n"
        "if machine.reset_cause() != 4: machine.deepsleep(3600000)\n"
    )
    before = len(board.events)
    put(board, tmp_path, program)
    board.wait_event("asleep", after=before)
    board.set_pin(33, 1)
    assert board.wait_event("awake", after=before).fields == {"by": "pin"}
    board.wait_console("woke 2")


def test_retained_memory_is_garbage_after_power_loss(make):
    """And differs from one loss to the next; a Pico W has none at all."""
    board = make("ESP32_GENERIC")
    found = set()
    for _ in range(3):
        found.add(run(board, "import machine; print(machine.RTC().memory())"))
        board.power_cycle()
        board.wait_boot(after=len(board.events) - 1)
    assert len(found) == 3


def test_five_reset_causes_of_an_esp32(make, tmp_path):
    """Power-on, machine.reset, watchdog, deep sleep, soft reset: each is told apart."""
    board = make("ESP32_GENERIC", speed=1000)
    put(
        board,
        tmp_path,
        "import machine\n"
        "c = machine.reset_cause()\n"
        "print('cause', c)\n"
        "if c == 2: machine.deepsleep(5000)\n"
        "if c == 4:\n"
        "    machine.WDT(timeout=300)\n"
        "    while True: pass\n"
        "if c == 3: machine.soft_reset()\n",
    )
    board.wait_console("cause 5")
    board.power_cycle()
    board.wait_console("cause 1")
    assert re.findall(r"cause (\d)", board.console) == ["2", "4", "3", "5", "1"]


def test_esp32_watchdog_can_be_armed_again_with_another_time(make):
    """The later one counts: a second watchdog is the first with its time changed."""
    board = make("ESP32_GENERIC")
    board.type("\x03\x01import machine, time; machine.WDT(timeout=5000); machine.WDT(timeout=60000); time.sleep(7)\x04")
    board.wait_event("watchdog armed", where=lambda event: event.fields == {"ms": 60000})
    time.sleep(6)
    assert "watchdog" not in [event.name for event in board.events]
    board.type("\x03\x01machine.WDT(timeout=300); time.sleep(30)\x04")
    board.wait_event("watchdog")


def test_clock_runs_on_over_deep_sleep_as_fast_as_sleep_does(make, tmp_path):
    """An hour asleep is an hour on the clock, whatever the speed, and also when the speed changes on the way."""
    board = make("ESP32_GENERIC", speed=1000)
    put(
        board,
        tmp_path,
        "import machine, time\nprint('now', time.time())\nif machine.reset_cause() == 2: machine.deepsleep(3600000)\n",
    )
    board.wait_event("asleep")
    board.speed = 500
    board.wait_event("awake")
    at = board.wait_console("now", after=board.wait_console("now"))
    board.wait_console("\n", after=at)
    first, second = map(int, re.findall(r"now (\d+)", board.console))
    assert 3600 <= second - first < 3660, "what it is awake passes at this machine's speed"


def test_reset_button_is_a_power_on(make):
    """On all of these boards the button resets the whole chip."""
    board = make("ESP32_GENERIC")
    before = len(board.events)
    board.press_reset()
    assert board.wait_boot(after=before).fields == {"cause": "power"}
