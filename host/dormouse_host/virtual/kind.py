"""The kinds of boards that can be simulated: their board.toml, and the facts of their chips.

Differences between boards are read from their folders; here are only facts of a chip. Sizes are in bytes, times in
milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dormouse_host.errors import HostError
from dormouse_host.flash import kinds
from dormouse_host.flash.times import Times

_FROZEN = {"esp32": ["umqtt", "ntptime", "ssl", "dht"], "rp2": ["ntptime", "ssl", "dht"]}
_CARRIER = ["WL_GPIO0", "WL_GPIO1", "WL_GPIO2", "LED"]  # pins of a Pico's Wi-Fi chip


@dataclass(frozen=True)
class Chip:
    """What a program can see of a chip: pins, those with an ADC (`adc2` not with Wi-Fi), clock."""

    pins: list[int | str]
    adc1: list[int]
    adc2: list[int]
    hertz: int
    mpy: int  # sys.implementation._mpy: format 6.3 and the architecture's number (MicroPython, py/persistentcode.h)
    wakes: tuple[str, ...] = ()  # the esp32.wake_on_… of this chip
    deep: tuple[int, ...] = ()  # pins by which wake_on_gpio ends deep sleep (ESP-IDF, soc_caps.h)
    i2c: tuple[int, ...] = (0, 1)  # its buses
    locks_up: bool = False  # does a watchdog that expires in light sleep lock it until a power cut?


def _mpy(architecture: int) -> int:
    return 6 | 3 << 8 | architecture << 10


_EXT = ("ext0", "ext1")
_GPIO_SINCE = (1, 27)  # MicroPython with esp32.wake_on_gpio
CHIPS = {
    "esp32": Chip([*range(40)], [*range(32, 40)], [0, 2, 4, 12, 13, 14, 15, 25, 26, 27], 160_000_000, _mpy(10), _EXT),
    "esp32c3": Chip([*range(22)], [*range(5)], [5], 160_000_000, _mpy(11), ("gpio",), (*range(6),), (0,)),
    "esp32c5": Chip([*range(29)], [*range(1, 7)], [], 240_000_000, _mpy(11), ("ext1", "gpio"), (*range(7),), (0,)),
    "esp32c6": Chip([*range(31)], [*range(7)], [], 160_000_000, _mpy(11), ("ext1", "gpio"), (*range(8),), (0,)),
    "esp32s3": Chip([*range(49)], [*range(1, 11)], [*range(11, 21)], 160_000_000, _mpy(10), _EXT),
    "rp2040": Chip([*range(30), *_CARRIER], [26, 27, 28, 29], [], 125_000_000, _mpy(4), locks_up=True),
    "rp2350": Chip([*range(30), *_CARRIER], [26, 27, 28, 29], [], 150_000_000, _mpy(7)),
}


@dataclass(frozen=True)
class BoardKind:
    """One board as its folder describes it."""

    name: str
    port: str  # "esp32" or "rp2": also sys.platform
    machine: str
    chip: Chip
    heap: int
    flash: int
    block: int
    program: int
    retained: int  # 0: none
    watchdog: int  # longest timeout; 0: no limit
    registers: tuple[int, ...]  # words of each region of machine.mem_backup
    newer: tuple[kinds.Newer, ...]
    oldest: tuple[int, ...]  # MicroPython
    longest: int  # one sleep
    epoch: int  # 1970 or 2000
    clock_kept: bool
    vanishes: bool  # does its serial port go away in sleep and at a reset?
    battery: int | None  # pin of the divider
    divider: float
    times: Times

    @property
    def frozen(self) -> list[str]:
        """The modules of its firmware that this machine's interpreter lacks."""
        return _FROZEN[self.port]

    def at(self, version: Sequence[int]) -> "BoardKind":
        """The board with that version of MicroPython."""
        kind = self
        for one in self.newer:
            if one.version <= tuple(version):
                kind = replace(kind, watchdog=one.watchdog or kind.watchdog, registers=one.registers or kind.registers)
        if tuple(version) < _GPIO_SINCE:
            kind = replace(kind, chip=replace(self.chip, wakes=tuple(w for w in self.chip.wakes if w != "gpio")))
        return kind


def names() -> list[str]:
    """The names of all boards that can be simulated."""
    return [name for name in kinds.names() if kinds.load(name).port in _FROZEN]


def load(name: str) -> BoardKind:
    """The board of that name, or in that folder. HostError, code 2, for none or one that cannot be simulated."""
    board = kinds.load(name, names)
    chip = CHIPS.get(board.firmware.chip)
    if board.port not in _FROZEN or chip is None:
        raise HostError(f"{board.name} cannot be simulated; virtual boards are: {', '.join(names())}", 2)
    memory = board.memory
    with_chip = board.firmware.chip.upper() if board.port == "rp2" else board.machine
    return BoardKind(
        name=board.builds[0],
        port=board.port,
        machine=f"{board.machine if board.port == 'rp2' else f'Generic {board.machine} module'} with {with_chip}",
        chip=chip,
        heap=memory.heap,
        flash=memory.flash,
        block=memory.block,
        program=memory.program,
        retained=memory.retained,
        watchdog=board.watchdog.limit,
        registers=(),
        newer=board.newer,
        oldest=board.oldest,
        longest=board.sleep.longest,
        epoch=board.clock.epoch,
        clock_kept=board.clock.over_sleep == "kept",
        vanishes=board.usb.vanishes,
        battery=int(board.pins.battery) if board.pins.battery else None,
        divider=board.pins.divider,
        times=board.times,
    )
