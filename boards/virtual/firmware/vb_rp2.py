"""`machine` and `rp2` of a Pico W: two reset causes, light sleep of at most 71 minutes, no retained memory.

Must stay true: it offers nothing that this board's stubs lack (tests/boards/test_virtual_board_stubs.py);
deepsleep is what it is there, a light sleep and then a reset by the watchdog.
"""

import vb_machine as _m
import vb_link as _link
from vb_i2c import I2C, SoftI2C, dht_readinto
from vb_machine import Pin as _BasePin, Timer, WDT, bootloader, disable_irq, enable_irq, freq, idle, reset, reset_cause
from vb_machine import soft_reset, unique_id, Clock as _Clock

PWRON_RESET, WDT_RESET = 1, 3


class Pin(_BasePin):
    """With the two names that only this port has."""

    def high(self):
        self.value(1)

    def low(self):
        self.value(0)


class ADC:
    """By channel or by pin. GPIO29 shares its line with the Wi-Fi chip: read with the radio on, it gives nonsense."""

    CORE_TEMP = 4

    def __init__(self, pin):
        id = pin._id if isinstance(pin, _BasePin) else pin
        self._id = id + 26 if isinstance(id, int) and id < 5 else id
        if self._id not in (26, 27, 28, 29, 30):
            raise ValueError("Pin doesn't have ADC capabilities")

    def read_u16(self):
        return min(_link.ask("adc", self._id) * 65535 // 3300000, 65535)


class RTC(_Clock):
    """It has no memory and forgets the time at every reset."""

    def __init__(self, id=0):
        pass


def lightsleep(time_ms=None):
    if time_ms is None:
        _m.light_sleep(-1)
    elif time_ms > _m.facts["longest"]:
        raise ValueError("sleep too long")
    else:
        _m.light_sleep(max(0, time_ms))


def deepsleep(time_ms=None):
    lightsleep(time_ms)
    reset()


class _Rp2:
    """The module `rp2`, as far as the network needs it."""

    def country(self, code=None):
        if code is None:
            return _m.facts.get("country", "XX")
        _m.facts["country"] = code

    def bootsel_button(self):
        return 0
