"""The supported boards: one folder each with a board.toml, and no code.

A fact about a board is in its board.toml and nowhere else on the host. A key that is missing, unknown, of the wrong
type or out of range is an error that names file and key. A current has a source.
"""

import dataclasses
import importlib.util
import tomllib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dormouse_host import near
from dormouse_host.errors import HostError
from dormouse_host.flash.times import LONGEST, Times

FILE = "board.toml"
_CHOICES = {
    "port": ("esp32", "rp2", "posix"),
    "firmware.tool": ("esptool", "uf2", "none"),
    "watchdog.ends": ("sleep", "reset", "none"),
    "sleep.how": ("deepsleep", "reset", "process"),
    "clock.over_sleep": ("kept", "lost"),
    "clock.epoch": (1970, 2000),
}


@dataclass(frozen=True)
class Firmware:
    """How MicroPython is installed on the board: `tool` esptool (chip, offset) or uf2 (volume, family)."""

    tool: str
    chip: str = ""  # as esptool, or the UF2 bootloader's INFO_UF2.TXT, calls it
    offset: int = 0  # bytes into flash
    volume: str = ""  # label of the drive that the bootloader shows
    family: int = 0  # UF2 family id of images for this chip


@dataclass(frozen=True)
class Usb:
    """How the computer sees it: `ids` are "vid:pid" in lower-case hex; `vanishes`: the port is gone while it sleeps."""

    vanishes: bool
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """Bytes: `heap` free for Python after the start; the file system, its erase block and its program size; and the
    memory that `machine.RTC().memory()` keeps over sleep, 0 where there is none.
    """

    heap: int
    flash: int
    block: int
    program: int
    retained: int


@dataclass(frozen=True)
class Watchdog:
    """`limit`: ms it can be set to at most, 0 for any; `ends`: what stops it once started."""

    limit: int
    ends: str


@dataclass(frozen=True)
class Newer:
    """What is different from that version of MicroPython on: the watchdog's limit in ms (0: as before), and how many
    words each region of `machine.mem_backup` has, whose memory a reset leaves alone.
    """

    micropython: str
    watchdog: int = 0
    registers: tuple[int, ...] = ()

    @property
    def version(self) -> tuple[int, ...]:
        """The version as a tuple."""
        return version(self.micropython)


@dataclass(frozen=True)
class Sleep:
    """`how`: by machine.deepsleep, after a reset, or by ending the process; `longest`: ms in one call; `causes`: what
    the board can tell apart at boot.
    """

    how: str
    longest: int
    causes: tuple[str, ...]


@dataclass(frozen=True)
class Clock:
    """`epoch`: the year from which `time` counts; `over_sleep`: is it kept while the board sleeps?"""

    epoch: int
    over_sleep: str


@dataclass(frozen=True)
class Pins:
    """Names as `machine.Pin` takes them, "" for none (the battery's is a number); `divider`: volts of the
    battery for each volt at that pin. `led` is for people, who put it into config.json: by itself none is lit, for that
    takes from the battery.
    """

    led: str = ""
    battery: str = ""
    divider: float = 1.0


@dataclass(frozen=True)
class Current:
    """Milliamperes in one state ("asleep", "sending", "receiving"), and the source."""

    state: str
    ma: float
    source: str


@dataclass(frozen=True)
class Tested:
    """What was tested: on a virtual board by this project's tests, and on hardware by whom. No code uses it."""

    virtual: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()


@dataclass(frozen=True)
class Board:
    """One board. `name` is its folder's; `builds`: how `sys.implementation._build` may begin, by default the name."""

    name: str
    folder: Path
    title: str
    port: str  # sys.platform there, and so dormouse/ports/<port>.py
    mpy_arch: str  # mpy-cross -march=…, "" for what runs no .mpy; only native code depends on it
    micropython: str  # the oldest that the agent runs on, "1.25"
    machine: str  # in sys.implementation._machine
    firmware: Firmware
    usb: Usb
    memory: Memory
    watchdog: Watchdog
    sleep: Sleep
    clock: Clock
    pins: Pins
    builds: tuple[str, ...] = ()
    newer: tuple[Newer, ...] = ()
    times: Times = field(default_factory=Times)
    current: tuple[Current, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)  # defaults of config.json
    tested: Tested = field(default_factory=Tested)

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults of config.json on this board: [config] and the battery's pin."""
        if not self.pins.battery:
            return dict(self.config)
        return {"battery_pin": int(self.pins.battery), "battery_divider": self.pins.divider, **self.config}

    @property
    def oldest(self) -> tuple[int, ...]:
        """The oldest MicroPython as a tuple."""
        return version(self.micropython)


def version(text: str) -> tuple[int, ...]:
    """A version such as 1.25 as a tuple. ValueError for what is none."""
    return tuple(int(part) for part in text.split("."))


def folder() -> Path:
    """The folder with the boards' folders: boards/ of a checkout, else the installed package."""
    checkout = Path(__file__).resolve().parents[3] / "boards"
    if checkout.is_dir():
        return checkout
    spec = importlib.util.find_spec("dormouse_boards")
    if spec is None or not spec.submodule_search_locations:
        raise HostError("the boards' folders are not installed: use a checkout")
    return Path(next(iter(spec.submodule_search_locations)))


def names() -> list[str]:
    """The names of all boards, sorted."""
    return sorted(path.parent.name for path in folder().glob(f"*/{FILE}"))


def load(name: str, offered: Callable[[], list[str]] = names) -> Board:
    """The board of that name, or in that folder if it has a slash. HostError where it is missing, which names those
    that are `offered`, or invalid.
    """
    place = Path(name) if "/" in name else folder() / name
    if not name or not (place / FILE).is_file():
        listed = ", ".join(offered())
        like = near.meant(name, offered())
        hint = f"did you mean {like}? " if like else ""
        raise HostError(f"no board {name}: {hint}expected one of {listed}" if name else f"pass --board: {listed}", 2)
    return parse(place)


def parse(place: Path) -> Board:
    """The board in folder `place`. HostError naming file and key."""
    where = f"{place.name}/{FILE}"
    try:
        values = tomllib.loads((place / FILE).read_text())
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise HostError(f"{where}: {str(error).splitlines()[0]}", 2) from None
    values.setdefault("builds", [place.resolve().name])
    board: Board = _build(Board, {**values, "name": place.resolve().name, "folder": str(place.resolve())}, "", where)
    _check(board, where)
    return board


def _check(board: Board, where: str) -> None:
    """Check rules between keys. HostError naming the key."""
    versions = [("micropython", board.micropython), *(("newer.micropython", one.micropython) for one in board.newer)]
    for key, text in versions:
        parts = text.split(".")
        if len(parts) < 2 or not all(part.isdigit() for part in parts):
            raise HostError(f"{where}: {key}: expected a version such as 1.25", 2)
    if board.pins.battery and not board.pins.battery.isdecimal():
        raise HostError(f"{where}: pins.battery: expected the number of a pin", 2)
    if board.firmware.tool == "uf2" and not board.firmware.volume:
        raise HostError(f"{where}: firmware.volume is missing: the label of the bootloader's drive", 2)
    if board.firmware.tool == "esptool" and not board.firmware.chip:
        raise HostError(f"{where}: firmware.chip is missing", 2)
    if any(not current.source for current in board.current):
        raise HostError(f"{where}: current.source is missing", 2)
    measured = [ms for ms in vars(board.times).values() if not isinstance(ms, str)]
    if any(measured) and not board.times.source:
        raise HostError(f"{where}: times.source is missing", 2)
    if not all(0 <= ms <= LONGEST for ms in measured):
        raise HostError(f"{where}: times: expected 0 to {LONGEST} milliseconds", 2)


def _build(kind: Any, values: object, path: str, where: str) -> Any:
    """`values` as the dataclass `kind`, each key checked."""
    if not isinstance(values, dict):
        raise HostError(f"{where}: {path}: expected a table", 2)
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            raise HostError(f"{where}: {_join(path, key)} is not a key of a board", 2)
    full = {}
    for key, one in known.items():
        if key in values:
            full[key] = _value(hints[key], values[key], _join(path, key), where)
        elif one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            raise HostError(f"{where}: {_join(path, key)} is missing", 2)
    return kind(**full)


def _value(kind: Any, value: Any, path: str, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, path, where)
    if isinstance(kind, types.GenericAlias) and kind.__origin__ is tuple:
        if not isinstance(value, list):
            raise HostError(f"{where}: {path}: expected a list", 2)
        return tuple(_value(kind.__args__[0], item, path, where) for item in value)
    if kind is Path:
        return Path(value)
    wanted: Any = kind.__origin__ if isinstance(kind, types.GenericAlias) else kind
    fits = isinstance(value, (int, float) if wanted is float else wanted)
    if not fits or isinstance(value, bool) != (wanted is bool):
        raise HostError(f"{where}: {path}: wrong type, expected {wanted.__name__}", 2)
    if isinstance(value, int | float) and value < 0:
        raise HostError(f"{where}: {path}: negative", 2)
    if value not in _CHOICES.get(path, (value,)):
        raise HostError(f"{where}: {path}: expected one of {', '.join(map(str, _CHOICES[path]))}", 2)
    return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
