"""A virtual board's power, resets, sleeps and watchdog, and the events that its owner reads.

A processor runs exactly while the state is "running". An armed watchdog bites unless it is fed, also over a soft reset
and while mpremote copies. A reset, a sleep and a loss of power keep what the real board of that kind keeps.
"""

import random
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dormouse_host.virtual.clock import BoardTime
from dormouse_host.virtual.console import Console
from dormouse_host.virtual.kind import BoardKind
from dormouse_host.virtual.peripherals import Peripherals
from dormouse_host.virtual.process import Processor
from dormouse_host.virtual.wifi import Wifi

_RESET, _SOFT, _SOFT_RAW, _DEEPSLEEP, _CUT = 64, 65, 66, 67, 75  # exit statuses: boards/virtual/firmware/vb_link.py
POWER, HARD, WATCHDOG, DEEPSLEEP, SOFT = 1, 2, 3, 4, 5  # machine.reset_cause()
_TIMER_WAKE = 4
_OUTPUT = 4 << 20  # bytes of output that are kept


@dataclass(frozen=True)
class Event:
    """An event: its number, without gaps, seconds since the start, name and fields."""

    number: int
    at: float
    name: str
    fields: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"at": self.at, "event": self.name, **self.fields}

    def __str__(self) -> str:
        """One line for people."""
        return " ".join([f"{self.at:9.3f}", self.name, *(f"{key}={value}" for key, value in self.fields.items())])


class Hardware:
    """What `VirtualBoard` drives from its thread: `register`, `until_turn`, `turn`; called with the lock held."""

    def __init__(
        self, kind: BoardKind, folder: Path, speed: float, wifi: Wifi, tcp: int, lock: threading.Condition
    ) -> None:
        self.kind, self.folder, self._lock = kind, folder, lock
        self.console = Console(folder / "port", tcp)
        self.time = BoardTime(kind.epoch, speed)
        self._peripherals = Peripherals(kind, wifi, random.Random(str(folder)), self._happened)
        self.pins, self.station = self._peripherals.pins, self._peripherals.station
        self.sensors = self._peripherals.sensors
        self.wifi = wifi
        self.state = "off"
        self.events: list[Event] = []
        self.orders: list[Callable[[], object]] = []
        self.output = bytearray()
        self.cut: str | None = None
        self.times: dict[str, float] = {}  # ms, of the next boots
        self._began = time.monotonic()
        self._processor: Processor | None = None
        self._held = b""  # input from before the program ran
        self._cause, self._wake = POWER, 0
        self.first = POWER  # reset_cause() of the first boot
        self._question = 0  # of the running light sleep

    def _off_supply(self) -> None:
        """Clear what does not survive a reset of the whole chip."""
        self.time.reset()
        self._peripherals.reset()

    def _power_loss(self) -> None:
        """Clear clock and memory; flash stays."""
        self.time.begin_clock()
        self._peripherals.power_loss()

    def _happened(self, name: str, **fields: Any) -> None:
        self.events.append(Event(len(self.events), round(time.monotonic() - self._began, 3), name, fields))

    # ---- actions

    def power_on(self) -> None:
        """Turn power on."""
        if self.state != "off":
            return
        self._power_loss()
        self._happened("power on")
        first, self.first = self.first, POWER
        self._boot(first)

    def power_cut(self) -> None:
        """Stop everything at once."""
        if self.state == "off":
            return
        self._happened("cut")
        self._end_processor(kill=True)
        self._off_supply()
        self.console.unplug()
        self.state = "off"

    def press_reset(self) -> None:
        """On all of these boards the button is the chip's own reset: reset_cause() says power-on."""
        if self.state == "off":
            return
        self._happened("button")
        self._end_processor(kill=True)
        self.state = "off"
        self._off_supply()
        self._power_loss()
        self._boot(POWER)

    def type(self, data: bytes) -> None:
        """Input on the serial line."""
        self._held += data

    def set_pin(self, pin: int | str, level: int | None) -> None:
        """Drive a pin from outside; this may wake a sleeping board."""
        interrupts = self.pins.from_outside(pin, level)
        reason = self._peripherals.wakes(pin, level)
        if self.state == "asleep" and reason is not None:
            self._awake(reason)
        elif self.time.light and interrupts:
            self._end_light_sleep()

    @property
    def in_light_sleep(self) -> bool:
        """Is the processor in machine.lightsleep?"""
        return self.time.light is not None

    @property
    def speed(self) -> float:
        """The factor by which sleep passes faster."""
        return self.time.speed

    def set_speed(self, speed: float) -> None:
        """Set that factor."""
        self.time.set_speed(speed)

    @property
    def radio_on(self) -> bool:
        """Is the Wi-Fi chip switched on?"""
        return self.station.active

    @property
    def watchdog_on(self) -> bool:
        """Does the watchdog run?"""
        return self.time.armed

    @property
    def process(self) -> int | None:
        """The interpreter's process id."""
        processor = self._processor
        return processor.child.pid if processor else None

    def listens(self) -> bool:
        """Does the program accept input?"""
        return self._processor is not None and self._processor.listens()

    # ---- one step of the thread

    def register(self, poll: select.poll) -> None:
        """Register what to wait for."""
        self.console.register(poll, reading=not self._held)
        if self._processor:
            poll.register(self._processor.terminal, select.POLLIN)
            poll.register(self._processor.line, select.POLLIN)

    def until_turn(self) -> float:
        """Seconds until the next timed event."""
        waits = [self.time.until_turn(), self.station.until_turn() if self.state == "running" else 1.0]
        if self.orders:
            return 0.0
        if self._held and self._processor:
            waits.append(0.001 if not self._processor.listens() else 0.01)
        if self._processor and self._processor.pressed:
            waits.append(0.05)
        if self.console.ending:
            waits.append(0.01)
        return max(0.0, min(waits))

    def turn(self, ready: set[int]) -> None:
        """Do everything that is due."""
        while self.orders:
            self.orders[0]()
            self.orders.pop(0)
        self._held = (self._held + self.console.read(ready))[-65536:]
        self.console.flush()
        if self._processor:
            self._serve(self._processor, ready)
        if self.state == "asleep" and self.time.deep and self.time.deep.over:
            self._awake(_TIMER_WAKE)
        if self.time.light and self.time.light.over:
            self._end_light_sleep()
        if self.time.bitten:
            self._bite()
        if self._processor and self.station.turn():
            self._processor.answer(0, "wifi lost")

    def _serve(self, processor: Processor, ready: set[int]) -> None:
        for message in processor.messages():
            self._hear(processor, message)
        self._hand_on(processor)
        if processor.terminal in ready:
            data = processor.read()
            if data is None:
                for message in processor.messages():
                    self._hear(processor, message)
                self._ended(self._end_processor())
            else:
                self._write(data)
                self._hand_on(processor)

    def _hand_on(self, processor: Processor) -> None:
        """Pass held input to the program, as far as its line has room."""
        while self._held and processor.listens() and (taken := processor.write(self._held)):
            self._held = self._held[taken:]
        processor.insist()

    def _write(self, data: bytes) -> None:
        self.output += data
        del self.output[:-_OUTPUT]
        self.console.write(data)

    # ---- boots, resets and deep sleep

    def _boot(self, cause: int, soft: str = "", wake: int = 0) -> None:
        kind = self.kind
        flash = self.folder / "flash.img"
        if not flash.is_file() or flash.stat().st_size != kind.flash:
            flash.write_bytes(b"\xff" * kind.flash)
        if soft == "" and not (kind.clock_kept and cause != POWER):
            self.time.begin_clock()
        if not soft:
            self.pins.reset()
            self._cause, self._wake = cause, wake
        # on an ESP32 a soft reset is a cause of its own; an RP2040 keeps the cause of its last hard reset
        told = SOFT if soft and kind.port == "esp32" else self._cause
        self.state = "running"
        self._processor = Processor(self._facts(told, soft), kind.heap)
        self.console.plug()
        self.cut = None
        self._happened("boot", cause=_CAUSES[told], **({"wake": "pin"} if wake not in (0, _TIMER_WAKE) else {}))

    def _facts(self, cause: int, soft: str) -> dict[str, Any]:
        kind, chip = self.kind, self.kind.chip
        uid = "e6614c311b8a2f01" if kind.port == "rp2" else "240ac4d01205"
        return {
            **{"port": kind.port, "machine": kind.machine, "build": kind.name, "mpy": chip.mpy, "uid": uid},
            **{"image": str(self.folder.resolve() / "flash.img"), "blocks": kind.flash // kind.block},
            **{"block": kind.block, "program": kind.program, "cut": self.cut, "retained": kind.retained},
            **{
                "watchdog": kind.watchdog,
                "longest": kind.longest,
                "epoch": kind.epoch,
                "shift": self.time.shift,
                "cause": cause,
            },
            **{"wake": self._wake, "soft": soft, "pins": chip.pins, "adc1": chip.adc1, "adc2": chip.adc2},
            **{"freq": chip.hertz, "frozen": kind.frozen, "wakes": chip.wakes, "i2c": chip.i2c, "times": self.times},
        }

    def _end_processor(self, kill: bool = False) -> int:
        processor, self._processor = self._processor, None
        if processor is None:
            return 0
        if kill:
            processor.kill()
        self.time.light = None
        return processor.end()

    def _ended(self, status: int) -> None:
        """Carry out what the exit status of the process means on the board."""
        if status in (_SOFT, _SOFT_RAW):
            self._happened("soft reset")
            self.station.off()
            self._boot(SOFT, "raw" if status == _SOFT_RAW else "friendly")
        elif status == _DEEPSLEEP and self.time.deep:
            self._fall_asleep()
        elif status == _CUT:
            self._happened("cut")
            self._off_supply()
            self.console.unplug()
            self.state = "off"
        elif status == _RESET:
            self._happened("reset")
            self._reset(WATCHDOG if self.kind.port == "rp2" else HARD)
        else:
            words = self.output[-400:].decode(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(f"the firmware ended with status {status}: {' '.join(words)}")

    def _reset(self, cause: int, wake: int = 0) -> None:
        self._off_supply()
        self._held = b""
        if self.kind.vanishes:
            self.console.unplug()
        self._boot(cause, wake=wake)

    def _bite(self) -> None:
        """Reset the board, whose watchdog has expired."""
        asleep = self.in_light_sleep
        self._happened("watchdog")
        self._end_processor(kill=True)
        if asleep and self.kind.chip.locks_up:
            self._off_supply()
            self.console.unplug()
            self.state = "locked"
            self._happened("locked")
        else:
            self._reset(WATCHDOG)

    def _fall_asleep(self) -> None:
        self.state = "asleep"
        self.time.disarm()
        self._held = b""
        self.station.off()
        if self.time.deep:
            self._happened("asleep", ms=max(0, self.time.deep.ms))
        if self.kind.vanishes:
            self.console.unplug()

    def _awake(self, reason: int) -> None:
        self.time.end_deep()
        self._happened("awake", by="timer" if reason == _TIMER_WAKE else "pin")
        self._reset(DEEPSLEEP, reason)

    # ---- light sleep

    def _begin_light_sleep(self, number: int, ms: int) -> None:
        if self._peripherals.take_event():
            self._happened("sleep returned at once")
            if self._processor:
                self._processor.answer(number, [0, 0])
            return
        self._question = number
        self.time.begin_light(ms)
        self._happened("asleep", ms=ms, light=True)
        if self.kind.vanishes:
            self.console.unplug()

    def _end_light_sleep(self) -> None:
        slept = self.time.end_light()
        self._happened("awake", light=True)
        self.console.plug()
        if self._processor:
            self._processor.answer(self._question, list(slept))

    # ---- notices and queries of the firmware

    def _hear(self, processor: Processor, message: list[Any]) -> None:
        number, what, *rest = message
        if what == "lightsleep":
            self._begin_light_sleep(number, rest[0])
        elif number:
            processor.answer(number, self._peripherals.answer(what, *rest))
        else:
            self._told(what, *rest)

    def _told(self, what: str, *rest: Any) -> None:
        if what == "feed":
            self.time.feed()
        elif what == "watchdog":
            self.time.arm(rest[0] / 1000)
            self._happened("watchdog armed", ms=rest[0])
        elif what == "deepsleep":
            self.time.begin_deep(rest[0])
        elif what == "clock":
            self.time.shift = rest[0]
        else:
            self._peripherals.told(what, list(rest))

    def close(self) -> None:
        """End the board."""
        self._end_processor(kill=True)
        self._off_supply()
        self.state = "off"
        self.console.close()


_CAUSES = {POWER: "power", HARD: "reset", WATCHDOG: "watchdog", DEEPSLEEP: "deepsleep", SOFT: "soft"}
