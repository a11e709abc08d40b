"""Pico W and Pico 2 W: no deep sleep that could be relied on, and a watchdog that nothing stops.

Must stay true: sleep is written to where a reset leaves it, registers of the chip or flash, and a reset later, before
radio and watchdog, it is slept (ports/boot.py); the watchdog's longest time is stretched by a timer to the time asked
for and no further; during a handshake, one long call, that timer does not run.
"""

import gc
import time
from struct import pack, unpack

import machine

from dormouse.journal import Mark
from dormouse.ports.board import Board
from dormouse.ports.storage import Storage

_LIMIT = 8388  # ms; the RP2040's watchdog, and before MicroPython 1.29 the RP2350's
_LONG = 16777  # ms; the RP2350's
_FEED = 2000  # ms between two feedings by the timer
_AWAKE = 60000  # ms awake at most where no sleep can be planned: a reset may mend what the program has done
_BOOT = 1  # s from a reset to the next boot's sleep, about
_HOLES = 512  # small holes in the heap that are filled for a handshake, at most
_RUN = 32  # blocks in a row that are no small hole any more


class Registers:
    """Three words that a reset leaves alone and power-on clears (MicroPython 1.29), as the one file of a Mark."""

    inline = 12

    def replace(self, name, data):
        words = getattr(machine, "mem_backup")(1)  # noqa: B009
        words[0], words[1], words[2] = unpack("<III", data)  # word by word: the registers take nothing narrower


class Port(Board):
    """See ports/__init__.py."""

    passwords = (-3,)
    channels = True
    kept = "estimated"  # from the planned sleep

    def __init__(self, cause="reset", on_healthy=None, slots=None):
        storage = Storage("state")
        super().__init__(cause, on_healthy, slots, Mark(storage, "net"), storage)
        self._allowed = self._until = 0
        self._timer = self._plug = None
        self._garbage = 0

    def arm(self, ms):
        self._allowed = ms
        try:
            self._watchdog = machine.WDT(timeout=_LONG)  # again, where the program has changed it
        except ValueError:
            self._watchdog = machine.WDT(timeout=_LIMIT)
        if not self._timer:
            self._timer = machine.Timer(-1, mode=machine.Timer.PERIODIC, period=_FEED, callback=self._stretch)
        self.feed()

    def feed(self):
        self._until = time.ticks_add(time.ticks_ms(), self._allowed)
        super().feed()

    def _stretch(self, _):
        if time.ticks_diff(self._until, time.ticks_ms()) > 0:
            self._watchdog.feed()
        else:
            machine.reset()  # the same as its bite, also where the program feeds it

    def shaking(self, begins):
        # mbedTLS works on this heap, with tens of thousands of short-lived numbers: for each one the search begins at
        # the first hole, and every few kilobytes of them would be a reason to collect what is no garbage
        self.feed()
        self._garbage = max(self._garbage, gc.threshold())
        self._plug = plug = None
        gc.collect()
        gc.threshold(-1 if begins else self._garbage)
        row = 0
        for _ in range(_HOLES if begins else 0):
            before, plug = plug, (plug,)
            row = row + 1 if id(plug) - id(before) == 16 else 0
            if row == _RUN:
                break
        self._plug = plug

    def sleep(self, ms):
        self._end()
        try:
            Mark(Registers() if hasattr(machine, "mem_backup") else self.storage, "sleep").save(
                pack("<II", ms, int(time.time()) + _BOOT)
            )
        except Exception:  # flash is broken: awake, but not rebooting at full duty
            end = time.ticks_add(time.ticks_ms(), min(ms, _AWAKE))
            while time.ticks_diff(end, time.ticks_ms()) > 0:
                self.feed()
                time.sleep_ms(1000)
        machine.reset()

    def tune(self):
        """Set the radio to what a short wake wants."""
        self.wlan.config(pm=self.wlan.PM_NONE)  # else the receiver pauses, and every answer waits

    def associated(self, status):
        """Has the access point let us in, and only the address is missing?"""
        return status == 2  # CYW43_LINK_NOIP, which has no name

    def volts(self, pin):
        """Volts at an ADC pin. At 29 that is a third of VSYS, over a line of the Wi-Fi chip's that pin 25 sets free."""
        if pin == 29:
            machine.Pin(25, machine.Pin.OUT, value=1)
            machine.Pin(29, machine.Pin.IN)
        adc = machine.ADC(pin)
        return sum([adc.read_u16() for _ in range(8)]) * 3.3 / 8 / 65535
