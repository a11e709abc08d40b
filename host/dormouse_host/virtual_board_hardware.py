"""The hardware around a virtual board's processor: supply, watchdog, sleep timer, clock, pins, radio.

Must stay true: a processor runs exactly while the state is "running"; a watchdog that was armed bites unless it is fed,
also over a soft reset, also while mpremote copies; a feed that was sent in time counts, however late we read it.
"""

import random
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dormouse_host.virtual_board_console import Console
from dormouse_host.virtual_board_event import Event
from dormouse_host.virtual_board_kind import BoardKind
from dormouse_host.virtual_board_pins import Pins
from dormouse_host.virtual_board_process import Processor
from dormouse_host.virtual_board_wifi import Station, Wifi

_RESET, _SOFT, _SOFT_RAW, _DEEPSLEEP, _CUT = 64, 65, 66, 67, 75  # exit statuses: boards/virtual/firmware/vb_link.py
POWER, HARD, WATCHDOG, DEEPSLEEP, SOFT = 1, 2, 3, 4, 5  # machine.reset_cause()
_TIMER_WAKE = 4
_UNIX_2000, _UNIX_2021 = 946684800, 1609459200
_OUTPUT = 4 << 20  # bytes of output that are kept


class Hardware:
    """What `VirtualBoard` drives from its thread: `register`, `until_turn`, `turn`; called with the lock held."""

    def __init__(
        self, kind: BoardKind, folder: Path, speed: float, wifi: Wifi, tcp: int, lock: threading.Condition
    ) -> None:
        self.kind, self.folder, self.speed, self._lock = kind, folder, speed, lock
        self.console = Console(folder / "port", tcp)
        self.station = Station(wifi, kind.port, on_event=self._happened)
        self.state = "off"
        self.events: list[Event] = []
        self.orders: list[Callable[[], object]] = []
        self.output = bytearray()
        self.cut: str | None = None
        self._began = self._fell_asleep = time.monotonic()
        self._chance = random.Random(str(folder))
        self.pins = Pins(kind, self._chance)
        self._processor: Processor | None = None
        self._held = b""  # input that came before the program ran
        self._cause, self._wake = POWER, 0
        self._shift = 0.0  # s by which the board's clock is ahead of ours
        self._retained = b""
        self._off_supply()

    def _off_supply(self) -> None:
        """What does not survive a reset of the whole chip."""
        self._dog: tuple[float, float] | None = None  # when it bites; its timeout in seconds
        # question; when it ends; ms asked for; since when at this speed; until then, ms slept and ms gone by
        self._light: tuple[int, float, int, float, float, float] | None = None
        self._wake_pins: tuple[list[int | str], int, int] = ([], 0, 0)
        # when it ends; ms asked for; since when at this speed; until then, ms slept
        self._asleep: tuple[float, int, float, float] | None = None
        self._pending = False  # has the Wi-Fi chip an event that nobody has taken?
        self.station.off()

    def _happened(self, name: str, **fields: Any) -> None:
        self.events.append(Event(len(self.events), round(time.monotonic() - self._began, 3), name, fields))

    # ---- orders

    def power_on(self) -> None:
        """From nothing: no clock, no memory, only flash."""
        if self.state != "off":
            return
        self._retained = self._chance.randbytes(self._chance.randint(0, self.kind.retained))
        self._shift = (_UNIX_2000 if self.kind.epoch == 2000 else _UNIX_2021) - time.time()
        self._happened("power on")
        self._boot(POWER)

    def power_cut(self) -> None:
        """Everything stops where it is."""
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
        self._retained = self._chance.randbytes(self._chance.randint(0, self.kind.retained))
        self._shift = (_UNIX_2000 if self.kind.epoch == 2000 else _UNIX_2021) - time.time()
        self._boot(POWER)

    def type(self, data: bytes) -> None:
        """Input on the serial line."""
        self._held += data

    def set_pin(self, pin: int | str, level: int | None) -> None:
        """From outside; a sleeping board may wake of it."""
        interrupts = self.pins.from_outside(pin, level)
        pins, wanted, reason = self._wake_pins
        if self.state == "asleep" and pin in pins and level == wanted:
            self._awake(reason)
        elif self._light and interrupts:
            self._end_light_sleep()

    def set_speed(self, speed: float) -> None:
        """From now on, in a sleep that lasts already too."""
        now, ratio = time.monotonic(), self.speed / speed
        self.speed = speed
        if self._asleep:
            end, ms, began, slept = self._asleep
            slept += (now - began) * self.speed * ratio * 1000
            self._asleep = (now + (end - now) * ratio, ms, now, slept)
        if self._light:
            number, end, ms, began, slept, gone = self._light
            passed = (now - began) * 1000
            self._light = (
                *(number, now + (end - now) * ratio, ms, now),
                *(slept + passed * self.speed * ratio, gone + passed),
            )
            if self._dog:
                self._dog = (now + (self._dog[0] - now) * ratio, self._dog[1])

    @property
    def in_light_sleep(self) -> bool:
        """Does the processor wait in machine.lightsleep?"""
        return self._light is not None

    @property
    def watchdog_on(self) -> bool:
        """Will it bite unless it is fed?"""
        return self._dog is not None

    @property
    def process(self) -> int | None:
        """The interpreter's process id."""
        processor = self._processor
        return processor.child.pid if processor else None

    def listens(self) -> bool:
        """Does the program take input?"""
        return self._processor is not None and self._processor.listens()

    # ---- one turn

    def register(self, poll: select.poll) -> None:
        """What to wait for."""
        self.console.register(poll, reading=not self._held)
        if self._processor:
            poll.register(self._processor.terminal, select.POLLIN)
            poll.register(self._processor.line, select.POLLIN)

    def until_turn(self) -> float:
        """Seconds until something happens by itself."""
        now = time.monotonic()
        waits = [self.station.until_turn() if self.state == "running" else 1.0]
        if self.orders:
            return 0.0
        if self._held and self._processor:
            waits.append(0.001 if not self._processor.listens() else 0.01)
        if self._processor and self._processor.pressed:
            waits.append(0.05)
        waits += [each[index] - now for each, index in ((self._dog, 0), (self._light, 1), (self._asleep, 0)) if each]
        return max(0.0, min(waits))

    def turn(self, ready: set[int]) -> None:
        """Everything that is due."""
        while self.orders:
            self.orders[0]()
            self.orders.pop(0)
        self._held = (self._held + self.console.read(ready))[-65536:]
        self.console.flush()
        if self._processor:
            self._serve(self._processor, ready)
        now = time.monotonic()
        if self._asleep and now >= self._asleep[0]:
            self._awake(_TIMER_WAKE)
        if self._light and now >= self._light[1]:
            self._end_light_sleep()
        if self._dog and time.monotonic() >= self._dog[0]:
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
        """Input that waits, as far as the program's line takes it."""
        while self._held and processor.listens() and (taken := processor.write(self._held)):
            self._held = self._held[taken:]
        processor.insist()

    def _write(self, data: bytes) -> None:
        self.output += data
        del self.output[:-_OUTPUT]
        self.console.write(data)

    # ---- lives

    def _boot(self, cause: int, soft: str = "", wake: int = 0) -> None:
        kind = self.kind
        flash = self.folder / "flash.img"
        if not flash.is_file() or flash.stat().st_size != kind.flash:
            flash.write_bytes(b"\xff" * kind.flash)
        if soft == "" and not (kind.clock_kept and cause != POWER):
            self._shift = (_UNIX_2000 if kind.epoch == 2000 else _UNIX_2021) - time.time()
        if not soft:
            self.pins.reset()
            self._cause, self._wake = cause, wake
        # on an ESP32 a soft reset is a cause of its own; an RP2040 still knows only what its last real one was
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
                "shift": self._shift,
                "cause": cause,
            },
            **{"wake": self._wake, "soft": soft, "pins": chip.pins, "adc1": chip.adc1, "adc2": chip.adc2},
            **{"freq": chip.hertz, "frozen": kind.frozen, "wakes": chip.wakes},
        }

    def _end_processor(self, kill: bool = False) -> int:
        processor, self._processor = self._processor, None
        if processor is None:
            return 0
        if kill:
            processor.kill()
        self._light = None
        return processor.end()

    def _ended(self, status: int) -> None:
        """The process has ended by itself: what that means on the board."""
        if status in (_SOFT, _SOFT_RAW):
            self._happened("soft reset")
            self.station.off()
            self._boot(SOFT, "raw" if status == _SOFT_RAW else "friendly")
        elif status == _DEEPSLEEP and self._asleep:
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
        """The watchdog has not been fed."""
        asleep = self._light is not None
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
        self._dog = None
        self._held = b""
        self.station.off()
        self._fell_asleep = time.monotonic()
        if self._asleep:
            self._happened("asleep", ms=self._asleep[1])
        if self.kind.vanishes:
            self.console.unplug()

    def _awake(self, reason: int) -> None:
        if self._asleep:
            _, ms, began, before = self._asleep
            slept = before + (time.monotonic() - began) * self.speed * 1000
            self._slept(ms if reason == _TIMER_WAKE else slept)
        self._asleep = None
        self._happened("awake", by="timer" if reason == _TIMER_WAKE else "pin")
        self._reset(DEEPSLEEP, reason)

    def _slept(self, ms: float) -> None:
        """The board's clock, where it is kept, has gone on by so much."""
        self._shift += ms / 1000 - (time.monotonic() - self._fell_asleep)

    # ---- light sleep

    def _begin_light_sleep(self, number: int, ms: int) -> None:
        now = time.monotonic()
        if self._pending and self.station.active and self.kind.port == "rp2":
            self._pending = False
            self._happened("sleep returned at once")
            if self._processor:
                self._processor.answer(number, [0, 0])
            return
        seconds = ms / 1000 / self.speed if ms >= 0 else 1e9
        self._light = (number, now + seconds, ms, now, 0.0, 0.0)
        self._happened("asleep", ms=ms, light=True)
        if self.kind.vanishes:
            self.console.unplug()
        if self._dog:  # it counts on while the board sleeps, and sleep is what we accelerate
            self._dog = (now + max(0.0, self._dog[0] - now) / self.speed, self._dog[1])

    def _end_light_sleep(self) -> None:
        if self._light is None:
            return
        number, end, ms, began, slept, gone = self._light
        now = time.monotonic()
        gone += (now - began) * 1000
        slept = ms if now >= end else slept + (now - began) * 1000 * self.speed
        self._light = None
        self._shift += (slept - gone) / 1000
        if self._dog:
            self._dog = (now + max(0.0, self._dog[0] - now) * self.speed, self._dog[1])
        self._happened("awake", light=True)
        self.console.plug()
        if self._processor:
            self._processor.answer(number, [int(slept), int(gone)])

    # ---- what the firmware says and asks

    def _hear(self, processor: Processor, message: list[Any]) -> None:
        number, what, *rest = message
        if what == "lightsleep":
            self._begin_light_sleep(number, rest[0])
        elif number:
            processor.answer(number, self._answer(what, *rest))
        else:
            self._told(what, *rest)

    def _told(self, what: str, *rest: Any) -> None:
        now = time.monotonic()
        if what == "feed" and self._dog:
            self._dog = (now + self._dog[1], self._dog[1])
        elif what == "watchdog":
            self._dog = (now + rest[0] / 1000, rest[0] / 1000)
            self._happened("watchdog armed", ms=rest[0])
        elif what == "deepsleep":
            self._asleep = (now + (rest[0] / 1000 / self.speed if rest[0] else 1e9), rest[0], now, 0.0)
        elif what == "wake_on":
            self._wake_pins = (rest[0], rest[1], rest[2])
        elif what == "clock":
            self._shift = rest[0]
        else:
            self.pins.told(what, list(rest))

    def _answer(self, what: str, *rest: Any) -> Any:
        if what == "wifi":
            self._pending = True
            return self.station.ask(*rest)
        if what == "resolve":
            return self.station.resolve(str(rest[0]), int(rest[1]))
        if what == "level":
            return self.pins.level(rest[0])
        if what == "adc":
            return self.pins.microvolts(rest[0], radio=self.station.active)
        if what == "radio":
            return self.station.active
        if what == "retain":
            self._retained = bytes.fromhex(rest[0])
            return None
        return self._retained.hex() if what == "retained" else None

    def close(self) -> None:
        """The end."""
        self._end_processor(kill=True)
        self._off_supply()
        self.state = "off"
        self.console.close()


_CAUSES = {POWER: "power", HARD: "reset", WATCHDOG: "watchdog", DEEPSLEEP: "deepsleep", SOFT: "soft"}
