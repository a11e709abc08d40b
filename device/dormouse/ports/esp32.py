"""ESP32 and its family: true deep sleep, memory that is kept over it, a clock that runs on.

Must stay true: what stands in retained memory may be garbage and is used only with its checksum; deep sleep begins
with the radio off, and ends at its time or by the wake pin.
"""

import machine
import network

from dormouse.journal import Mark
from dormouse.ports.board import Board
from dormouse.ports.storage import Storage


class Retained:
    """RTC memory as the one file that a Mark needs. An app that writes there itself costs a fast join, no more."""

    inline = 2048

    def read(self, name):
        return machine.RTC().memory()

    def replace(self, name, data):
        machine.RTC().memory(data)


class Port(Board):
    """See ports/__init__.py."""

    failed = network.STAT_IDLE  # what is below is the reason why the radio was disconnected
    passwords = (15, 202, 204)  # 4-way handshake timed out, authentication failed, handshake timed out
    enterprise = (5, 10, 14, 15, 16)  # of ESP-IDF's wifi_auth_mode_t

    def __init__(self, cause="reset", on_healthy=None, slots=None):
        super().__init__(cause, on_healthy, slots, Mark(Retained(), "net"), Storage("state"))

    def arm(self, ms):
        self._watchdog = machine.WDT(timeout=ms)  # once more, with another time: the ESP32 allows it

    def sleep(self, ms):
        self._end()
        pin = int(self._config["wake_pin"]) if self._config else -1
        if pin >= 0:
            import esp32

            level = bool(self._config["wake_level"])
            source = machine.Pin(pin, machine.Pin.IN)
            if hasattr(esp32, "wake_on_ext0"):
                esp32.wake_on_ext0(source, level)
            elif hasattr(esp32, "wake_on_gpio"):  # ESP32-C3, whose older MicroPython wakes by no pin
                getattr(esp32, "wake_on_gpio")((source,), level)  # noqa: B009
        machine.deepsleep(ms)

    def way(self, config):
        """What joins the network, and sets `wlan`."""
        if config["lan"]:
            from dormouse.ports.lan import join

            return join
        return super().way(config)

    def tune(self):
        """Set the radio to what a short wake wants."""
        # no second try of its own, else status() says "connecting" for ever; no pauses of the receiver either
        self.wlan.config(reconnects=0, pm=network.WLAN.PM_NONE)

    def associated(self, status):
        """Has the access point let us in, and only the address is missing?"""
        try:
            return self.wlan.status("rssi") < 0
        except OSError:
            return False

    def volts(self, pin):
        """Volts at a pin of ADC1, by the calibration in the chip's fuses; ADC2 belongs to the radio."""
        adc = machine.ADC(machine.Pin(pin))
        adc.atten(machine.ADC.ATTN_11DB)
        return sum([adc.read_uv() for _ in range(8)]) / 8000000
