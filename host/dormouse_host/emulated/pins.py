"""The pins of an emulated board and what is connected to them: levels from outside, the battery, what the board drives.

Must stay true: as on a Pico W, the battery's divider is connected only while the Wi-Fi chip is off and pin 25 is high.
"""

import random
from collections import deque
from typing import Any

from rp2040py.gpio_pin import GPIOPinState

from dormouse_host.emulated.radio import Radio
from dormouse_host.errors import HostError

_WIFI = (23, 24, 25, 29)  # power, data, select and clock of a Pico W's Wi-Fi chip
_SELECT, _VSYS, _VSYS_CHANNEL = 25, 29, 3
_REFERENCE, _STEPS = 3.3, 4096  # volts and steps of the ADC
_DRIVEN = (GPIOPinState.LOW, GPIOPinState.HIGH)


class EmulatedPins:
    """`chip`: the RP2040; `radio`: None on a board without Wi-Fi."""

    def __init__(self, chip: Any, radio: Radio | None, battery: float, battery_pin: int | None, divider: float) -> None:
        self._chip, self._radio = chip, radio
        self.battery, self._battery_pin, self._divider = battery, battery_pin, divider
        self.driven: deque[tuple[int | str, int]] = deque(maxlen=1000)
        self._led = 0
        for n, pin in enumerate(chip.gpio):
            if radio is None or n not in _WIFI:
                pin.add_listener(self._listener(n))
        if radio is not None:
            radio.on_gpio = self._wifi_pin
        adc = chip.adc
        convert = adc.on_adc_read

        def read(channel: int) -> None:
            adc.channel_values[channel] = self._steps(channel)
            convert(channel)

        adc.on_adc_read = read

    def _listener(self, n: int) -> Any:
        def changed(new: GPIOPinState, old: GPIOPinState) -> None:
            if new in _DRIVEN and new != old:
                self.driven.append((n, int(new)))

        return changed

    def _wifi_pin(self, pin: int, level: int) -> None:
        if pin == 0:
            self._led = level
        self.driven.append(("LED" if pin == 0 else f"WL_GPIO{pin}", level))

    def level(self, pin: int | str) -> int:
        """The level of a pin."""
        if pin == "LED":
            return self._led
        gpio = self._gpio(pin)
        return int(gpio.value == GPIOPinState.HIGH if gpio.value in _DRIVEN else gpio.input_value)

    def from_outside(self, pin: int | str, level: int | None) -> None:
        """Drive a pin from outside, or release it with None."""
        gpio = self._gpio(pin)
        if level is None:
            gpio._driven = False
            gpio.check_for_updates()
        else:
            gpio.set_input_value(bool(level))

    def check(self, pin: int | str) -> None:
        """HostError, code 2, for a pin that cannot be driven from outside."""
        self._gpio(pin)

    def _gpio(self, pin: int | str) -> Any:
        if isinstance(pin, int) and 0 <= pin < len(self._chip.gpio):
            return self._chip.gpio[pin]
        raise HostError(f"pin {pin}: an RP2040 has 0 to {len(self._chip.gpio) - 1}", 2)

    def _steps(self, channel: int) -> int:
        pin = 26 + channel
        if channel > _VSYS_CHANNEL or pin != self._battery_pin:
            return 0
        if pin == _VSYS and self._radio is not None:
            if self._radio.on:
                return random.randrange(_STEPS)  # the Wi-Fi chip's clock line
            if self.level(_SELECT) == 0:
                return 0
        return min(_STEPS - 1, int(self.battery / self._divider / _REFERENCE * _STEPS))
