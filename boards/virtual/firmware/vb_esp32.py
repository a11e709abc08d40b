"""`machine` and `esp32` of an ESP32: true deep sleep, five reset causes, retained memory, wake by pin.

Must stay true: it offers nothing that this board's stubs lack (tests/boards/test_virtual_board_stubs.py).
"""

import vb_machine as _m
import vb_link as _link
from vb_i2c import I2C, SoftI2C, dht_readinto
from vb_machine import Pin, Timer, WDT, disable_irq, enable_irq, freq, idle, reset, reset_cause
from vb_machine import soft_reset, unique_id, Clock as _Clock

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5
PIN_WAKE = EXT0_WAKE = 2
EXT1_WAKE, TIMER_WAKE, TOUCHPAD_WAKE, ULP_WAKE = 3, 4, 5, 6
SLEEP, DEEPSLEEP = 2, 4
_Pin = Pin


class ADC:
    """An analog pin; those of ADC2 can't be read while the radio is on."""

    ATTN_0DB, ATTN_2_5DB, ATTN_6DB, ATTN_11DB = 0, 1, 2, 3
    WIDTH_9BIT, WIDTH_10BIT, WIDTH_11BIT, WIDTH_12BIT = 9, 10, 11, 12

    def __init__(self, pin, *, atten=0):
        self._id = pin._id if isinstance(pin, _Pin) else pin
        if self._id not in _m.facts["adc1"] and self._id not in _m.facts["adc2"]:
            raise ValueError("invalid pin")
        self.atten(atten)

    def init(self, *, atten=0):
        self.atten(atten)

    def atten(self, value):
        self._full = (950000, 1250000, 1750000, 2450000)[value]

    def width(self, bits):
        pass

    def read_uv(self):
        if self._id in _m.facts["adc2"] and _link.ask("radio"):
            raise OSError(-261, "ESP_ERR_TIMEOUT")
        return min(_link.ask("adc", self._id), self._full)

    def read_u16(self):
        return self.read_uv() * 65535 // self._full

    def read(self):
        return self.read_u16() >> 4


class RTC(_Clock):
    """The clock, and 2 KiB that survive everything but a loss of power."""

    def __init__(self, id=0):
        pass

    def memory(self, data=None):
        from binascii import hexlify, unhexlify

        if data is None:
            return unhexlify(_link.ask("retained"))
        if len(data) > _m.facts["retained"]:
            raise ValueError("buffer too long")
        _link.ask("retain", hexlify(data).decode())


def wake_reason():
    return _m.facts["wake"]


def lightsleep(time_ms=0):
    _m.light_sleep(time_ms)


def deepsleep(time_ms=0):
    _link.tell("deepsleep", time_ms)
    _link.exit(_link.DEEPSLEEP)


class _Esp32:
    """The module `esp32`, as far as sleep needs it: the ways to be woken that this chip has."""

    WAKEUP_ALL_LOW, WAKEUP_ANY_HIGH = False, True

    def __init__(self, wakes):
        if "ext0" in wakes:
            self.wake_on_ext0 = lambda pin, level: _wake_on([pin] if pin else [], level, EXT0_WAKE)
        if "ext1" in wakes:
            self.wake_on_ext1 = lambda pins, level: _wake_on(pins or [], level, EXT1_WAKE)
        if "gpio" in wakes:
            self.wake_on_gpio = lambda pins, level: _wake_on(pins or [], level, 7)


def _wake_on(pins, level, reason):
    _link.tell("wake_on", [pin._id for pin in pins], 1 if level else 0, reason)
