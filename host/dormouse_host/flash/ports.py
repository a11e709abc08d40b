"""Serial ports: which there are, whose they are, and where one has gone that vanished.

Must stay true: a board with USB of its own is followed by its USB serial number, because in sleep its port is gone
and may come back under another name; a port is virtual when it is a pseudo-terminal or a socket of this machine, and
never because of what answers on it.
"""

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports

from dormouse_host.address import is_loopback
from dormouse_host.errors import HostError
from dormouse_host.flash.kinds import Board, load, names

_UNIX98_PTY = 136  # major device number of /dev/pts/*


@dataclass(frozen=True)
class PortInfo:
    """A serial port as the computer lists it; `usb` is "vid:pid" in lower-case hex, "" for what is not on USB."""

    device: str
    usb: str = ""
    serial_number: str = ""
    product: str = ""

    def __str__(self) -> str:
        """One line for people."""
        about = " ".join(filter(None, [self.usb, self.product, self.serial_number and f"serial {self.serial_number}"]))
        return f"{self.device} ({about})" if about else self.device


Lister = Callable[[], list[PortInfo]]


def attached() -> list[PortInfo]:
    """The serial ports of this computer, by name."""
    found = []
    for port in list_ports.comports():
        usb = f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None and port.pid is not None else ""
        found.append(PortInfo(port.device, usb, port.serial_number or "", port.product or ""))
    return sorted(found, key=lambda port: port.device)


def choose(board: Board, ports: Iterable[PortInfo]) -> PortInfo:
    """The one port that can be such a board. HostError with the list where there are several, or none."""
    return _choose([board], ports, board.title)


def choose_any(ports: Iterable[PortInfo]) -> PortInfo:
    """The one port that can be a board of any kind. HostError with the list where there are several, or none."""
    return _choose([load(name) for name in names()], ports, "board")


def _choose(kinds: Sequence[Board], ports: Iterable[PortInfo], what: str) -> PortInfo:
    ports = list(ports)
    known = {usb for kind in kinds for usb in kind.usb.ids}
    fitting = [port for port in ports if port.usb in known]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise HostError(f"which one? PORT= one of {'; '.join(map(str, fitting))}", 2)
    others = f"; other ports: {', '.join(port.device for port in ports)}" if ports else ""
    vanishes = any(kind.usb.vanishes for kind in kinds)
    hint = "a sleeping one shows none: press its reset button" if vanishes else "see dormouse doctor"
    raise HostError(f"no {what} is connected ({hint}){others}", 4)


class Place:
    """Where a board is to be found, though its port may vanish and come back under another name."""

    def __init__(self, port: str, lister: Lister = attached) -> None:
        self.port = port
        self._lister = lister
        known = [info for info in lister() if info.device == port]
        self.serial_number = known[0].serial_number if known else ""

    def __str__(self) -> str:
        """For messages."""
        return f"{self.port} (USB serial {self.serial_number})" if self.serial_number else self.port

    @property
    def virtual(self) -> bool:
        """Is it a virtual board of this machine?"""
        return is_virtual(self.port)

    def device(self) -> str | None:
        """What to open now, None while it is not there."""
        if "://" in self.port:
            return self.port
        if self.serial_number:
            for info in self._lister():
                if info.serial_number == self.serial_number:
                    return info.device
            return None
        # mpremote knows a pseudo-terminal by its name
        return os.path.realpath(self.port) if Path(self.port).exists() else None


def is_virtual(port: str) -> bool:
    """Is `port` a pseudo-terminal, or a socket of this machine? One that is away for the moment is, outside /dev."""
    scheme, _, rest = port.partition("://")
    if rest:
        return scheme == "socket" and is_loopback(rest.rpartition(":")[0])
    try:
        status = os.stat(port)
    except OSError:
        place = Path(os.path.realpath(port))
        return place.is_relative_to("/dev/pts") or not place.is_relative_to("/dev")
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _UNIX98_PTY


def holders(device: str) -> list[str]:
    """Programs that have `device` open, as "name (pid n)". Those of other users are not seen, and none but on Linux."""
    found = []
    real = os.path.realpath(device)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            held = any(os.path.realpath(one) == real for one in (process / "fd").iterdir())
            name = (process / "comm").read_text().strip()
        except OSError:  # another user's, or gone meanwhile
            continue
        if held and int(process.name) != os.getpid():
            found.append(f"{name} (pid {process.name})")
    return sorted(found)
