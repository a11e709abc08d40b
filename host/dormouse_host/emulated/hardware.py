"""An emulated board's power, resets, port and pace: what the thread of `RunningBoard` drives.

Must stay true: idle time never runs ahead of this machine's clock, but in light sleep, times the speed; a board that
computes runs as fast as this machine can. The board's milliseconds are its own, and events carry them.
"""

import asyncio
import select
import selectors
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dormouse_host.emulated import firmware
from dormouse_host.emulated.chip import FLASH, Chip, Reset
from dormouse_host.emulated.console import UsbSerial
from dormouse_host.emulated.network import Network
from dormouse_host.emulated.nor import Nor
from dormouse_host.emulated.pins import EmulatedPins
from dormouse_host.virtual.console import Console
from dormouse_host.virtual.hardware import Event
from dormouse_host.virtual.kind import BoardKind
from dormouse_host.virtual.wifi import Wifi

_OUTPUT = 4 << 20  # bytes of output that are kept
_TURN = 0.02  # seconds of this machine in one turn
_STEP = 1e6  # ns of the board's time after which pace and network are looked at
_BEHIND = 0.02  # seconds that a computing board may be behind before the pace begins anew
_PASSES = 10  # of the network's loop, in which everything that waits there ends
_LONGEST = 0.05  # seconds without a look at the surroundings


class EmulatedHardware:
    """Called with the lock held, as virtual/running.py says. `battery_pin` and `divider` as for VirtualBoard."""

    def __init__(
        self,
        kind: BoardKind,
        folder: Path,
        file: Path,
        speed: float,
        wifi: Wifi,
        tcp: int,
        battery: tuple[float, int | None, float],
    ) -> None:
        self.kind, self.wifi, self._speed = kind, wifi, speed
        image = firmware.load(file, kind)
        self.console = Console(folder / "port", tcp)
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self.state = "off"
        self.events: list[Event] = []
        self.orders: list[Callable[[], object]] = []
        self.output = bytearray()
        self.cut: str | None = None
        with_wifi = kind.name.endswith("_W")
        self.chip = Chip(image, wifi if with_wifi else None, self._loop, self.happened)
        self.nor = self.chip.nor = Nor(
            memoryview(self.chip.mcu.flash), FLASH - kind.flash, kind.flash, folder / "flash.img", self.chip.power_lost
        )
        self._network: Network | None = None
        if self.chip.radio:
            radio = self.chip.radio
            self._network = Network(self.chip.mcu, radio.queue_rx_ethernet_frame, wifi, self.happened)
            radio.nat_bridge = self._network
        self.pins = EmulatedPins(self.chip.mcu, self.chip.radio, *battery)
        self._usb = UsbSerial(self.chip.mcu, self._print, self._connected)
        self._pace()

    def happened(self, name: str, **fields: Any) -> None:
        """Record an event at the board's time."""
        self.events.append(Event(len(self.events), round(self.chip.ms / 1000, 6), name, fields))

    # ---- the board's properties

    @property
    def speed(self) -> float:
        """The factor by which light sleep passes faster."""
        return self._speed

    def set_speed(self, speed: float) -> None:
        """Set that factor."""
        self._speed = speed
        self._pace()

    @property
    def in_light_sleep(self) -> bool:
        """Is the processor in machine.lightsleep?"""
        return self.chip.sleep.asleep

    @property
    def radio_on(self) -> bool:
        """Is the Wi-Fi chip switched on?"""
        return self.chip.radio is not None and self.chip.radio.on

    @property
    def watchdog_on(self) -> bool:
        """Does the watchdog run?"""
        return bool(self.chip.mcu.watchdog.timer.enable)

    def set_pin(self, pin: int | str, level: int | None) -> None:
        """Drive a pin from outside, or release it."""
        self.pins.from_outside(pin, level)

    def type(self, data: bytes) -> None:
        """Input on the serial line."""
        self._usb.type(data)

    def listens(self) -> bool:
        """Is the port there?"""
        return self._usb.ready

    # ---- power and resets

    def power_on(self) -> None:
        """Turn power on."""
        if self.state == "off":
            self.happened("power on")
            self._boot("power")

    def power_cut(self) -> None:
        """Stop everything at once."""
        if self.state != "off":
            self._end("cut")
            self.state = "off"

    def press_reset(self) -> None:
        """Press the reset button, which is RUN."""
        if self.state != "off":
            self._end("button")
            self._boot("button")

    def _end(self, why: str) -> None:
        """A run of the firmware ends: `stack` is the deepest that it used of its 8192 bytes."""
        self.happened(why, stack=self.chip.stack.depth(), programs=self.nor.programs, erases=self.nor.erases)
        self.console.unplug()
        if self._network:
            self._network.reset()

    def _boot(self, how: Reset) -> None:
        self.chip.boot(how, self.cut)
        self.cut = None
        self.state = "running"
        self.happened("boot", cause="power" if how in ("power", "button") else "watchdog")
        self._pace()

    def _connected(self) -> None:
        self.console.plug()

    def _print(self, data: bytes) -> None:
        self.output += data
        del self.output[:-_OUTPUT]
        self.console.write(data)

    # ---- one step of the thread

    def register(self, poll: select.poll) -> None:
        """Register what to wait for."""
        self.console.register(poll, reading=True)
        poll.register(self._selector.fileno(), select.POLLIN)

    def until_turn(self) -> float:
        """Seconds until the next step."""
        if self.orders:
            return 0.0
        if self.state == "off":
            return _LONGEST
        return min(max(self._ahead(), 0.0005), _LONGEST)  # a moment for the other threads of this process

    def turn(self, ready: set[int]) -> None:
        """Do everything that is due."""
        while self.orders:
            self.orders[0]()
            self.orders.pop(0)
        self._usb.type(self.console.read(ready))
        end = time.monotonic() + _TURN
        while True:
            self._serve_network()
            if self.state == "off" or self._ahead() > 0 or time.monotonic() >= end:
                break
            self._step()
        self.console.flush()

    def _step(self) -> None:
        chip = self.chip
        if chip.radio:
            chip.radio.look()
        self._usb.pump()
        asleep = chip.sleep.asleep
        chip.run(_STEP * (self._speed if asleep else 1))
        if chip.sleep.asleep != asleep:
            self._pace()
        if chip.due is None:
            return
        due = chip.due
        self._end(due)
        if due == "cut":
            chip.due = None
            self.state = "off"
        else:
            self._boot(due)

    def _serve_network(self) -> None:
        """One pass of the network's loop."""
        self._loop.call_soon(self._loop.stop)
        self._loop.run_forever()

    # ---- pace

    def _pace(self) -> None:
        """From here on the board's time and ours go together."""
        self._board, self._ours = self.chip.ms, time.monotonic()

    def _ahead(self) -> float:
        """Seconds of ours by which the board is ahead."""
        passed = (self.chip.ms - self._board) / 1000 / (self._speed if self.chip.sleep.asleep else 1)
        ahead = passed - (time.monotonic() - self._ours)
        if ahead < -_BEHIND:
            self._pace()
            return 0.0
        return ahead

    def close(self) -> None:
        """End the board."""
        self.state = "off"
        if self._network:
            self._network.close()
        for _ in range(_PASSES):
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._serve_network()
        self._loop.close()
        self.nor.close()
        self.console.close()
