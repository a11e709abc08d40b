"""What newer MicroPython changed, on virtual boards that say they have it: wake pins, watchdog, registers.

The sources are MicroPython's own: ports/esp32/modesp32.c, modmachine.c; ports/rp2/machine_wdt.c, machine_mem_backup.c.
"""

import pytest

from support.virtual_boards import put, run

_SLEEPER = (
    "import esp32, machine\n"
    "p = machine.Pin({pin}, machine.Pin.IN)\n"
    "print('woke', machine.wake_reason(), machine.wake_pins() if hasattr(machine, 'wake_pins') else None)\n"
    "esp32.{how}\n"
    "if machine.reset_cause() != 4: machine.deepsleep(3600000)\n"
)
_WATCHDOG = "import machine\ntry: print(machine.WDT(timeout=16777) and 'armed')\nexcept ValueError as e: print(e)"


@pytest.mark.parametrize("kind", ["ESP32_GENERIC_C3", "ESP32_GENERIC_C5", "ESP32_GENERIC_C6"])
@pytest.mark.parametrize("version, told", [("1.27", "None"), ("1.29", "(3,)")])
def test_pin_wakes_by_gpio_and_is_named_from_1_29_on(make, tmp_path, kind, version, told):
    """These chips have no ext0; `wake_reason` has no name for this one."""
    board = make(kind, micropython=version)
    assert run(board, "import sys; print(*sys.implementation.version[:2])") == version.replace(".", " ")
    before = len(board.events)
    put(board, tmp_path, _SLEEPER.format(pin=3, how="wake_on_gpio((p,), True)"))
    board.wait_event("asleep", after=before)
    board.set_pin(3, 1)
    assert board.wait_event("awake", after=before).fields == {"by": "pin"}
    board.wait_console("woke 7 " + told)


def test_pin_that_cannot_end_deep_sleep_is_refused(make, tmp_path):
    """On an ESP32-C6 that is 8 and above."""
    board = make("ESP32_GENERIC_C6", micropython="1.29")
    put(board, tmp_path, _SLEEPER.format(pin=8, how="wake_on_gpio((p,), True)"))
    board.wait_console("ValueError: wake-up pin not supported")


def test_before_1_27_these_chips_wake_by_no_pin(make, tmp_path):
    """1.25 takes a pin for ext0, which they have not, and sleeps without it; 1.26 has no such function."""
    board = make("ESP32_GENERIC_C6", micropython="1.25", speed=1000)
    before = len(board.events)
    put(board, tmp_path, _SLEEPER.format(pin=3, how="wake_on_ext0(p, 1)"))
    board.wait_event("asleep", after=before)
    board.set_pin(3, 1)
    assert board.wait_event("awake", after=before).fields == {"by": "timer"}
    board = make("ESP32_GENERIC_C6", micropython="1.26")
    assert run(board, "import esp32; print([n for n in dir(esp32) if 'wake_on' in n])") == "['wake_on_ext1']"


@pytest.mark.parametrize(
    "kind, version, said",
    [
        ("RPI_PICO2_W", "1.28", "timeout exceeds 8388"),
        ("RPI_PICO2_W", "1.29", "armed"),
        ("RPI_PICO_W", "1.29", "timeout exceeds 8388"),
    ],
)
def test_longest_watchdog_is_the_chip_s_and_the_version_s(make, kind, version, said):
    assert run(make(kind, micropython=version), _WATCHDOG) == said


def test_registers_outlive_every_reset_and_no_loss_of_power(make):
    """By words of 32 bits, in the regions of this chip."""
    board = make("RPI_PICO2_W", micropython="1.29", speed=100)
    assert run(board, "import machine; print([len(r) for r in machine.mem_backup(-1)])") == "[4, 3, 8]"
    read = "import machine; print(list(machine.mem_backup(1)), machine.mem_backup()[3])"
    run(board, "import machine; r = machine.mem_backup(1); r[0], r[2] = 7, 4000000000; machine.mem_backup()[3] = 5")
    for how in ("machine.reset()", "machine.deepsleep(5000)", "machine.WDT(timeout=100)\nwhile True: pass"):
        before = len(board.events)
        board.type("\x03\x01import machine\n" + how + "\x04")
        board.wait_boot(after=board.wait_event("boot", after=before).number)
        assert run(board, read) == "[7, 0, 4000000000] 5", how
    board.power_cycle()
    board.wait_boot(after=len(board.events) - 1)
    assert run(board, read) == "[0, 0, 0] 0"
    with_none = make("RPI_PICO2_W", micropython="1.28")
    assert run(with_none, "import machine; print(hasattr(machine, 'mem_backup'))") == "False"
