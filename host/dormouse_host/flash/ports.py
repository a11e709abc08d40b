"""Serial ports: which exist, which board they belong to, and following one that vanishes.

A board with its own USB is followed by its USB serial number, because in sleep its port is gone and may return under
another name. A port is virtual if it is a pseudo-terminal or a socket of this machine, whatever answers there.
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
    """A serial port as the computer lists it; `usb` is "vid:pid" in lower-case hex, "" if it is not on USB."""

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
    """The one port that can be such a board. HostError with a list where there are several or none."""
    return _choose([board], ports, board.title)


def choose_any(ports: Iterable[PortInfo]) -> PortInfo:
    """The one port that can be any board. HostError with a list where there are several or none."""
    return _choose([load(name) for name in names()], ports, "board")


def _choose(kinds: Sequence[Board], ports: Iterable[PortInfo], what: str) -> PortInfo:
    ports = list(ports)
    known = {usb for kind in kinds for usb in kind.usb.ids}
    fitting = [port for port in ports if port.usb in known]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise HostError(f"several boards found, pass --port: {'; '.join(map(str, fitting))}", 2)
    others = f"; other ports: {', '.join(port.device for port in ports)}" if ports else ""
    vanishes = any(kind.usb.vanishes for kind in kinds)
    hint = "a sleeping board has no port: press its reset button" if vanishes else "run dormouse doctor"
    raise HostError(f"no {what} found ({hint}){others}", 4)


class Place:
    """The place of a board, whose port may vanish and return under another name."""

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
        """The device to open now, None while it is missing."""
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
    """Is `port` a pseudo-terminal or a socket of this machine? A missing one is, outside /dev."""
    scheme, _, rest = port.partition("://")
    if rest:
        return scheme == "socket" and is_loopback(rest.rpartition(":")[0])
    try:
        status = os.stat(port)
    except OSError:
        place = Path(os.path.realpath(port))
        return place.is_relative_to("/dev/pts") or not place.is_relative_to("/dev")
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _UNIX98_PTY


def check_free(place: Place) -> None:
    """HostError naming the programs that hold the port: they would get half of what the board says."""
    device = place.device()
    if device and "://" not in device and (names := holders(device)):
        raise HostError(f"{device} is held by {', '.join(names)}: end it first")


def holders(device: str) -> list[str]:
    """Programs of this user that have `device` open, as "name (pid n)"; Linux only.

    Of a pseudo-terminal also its maker has both ends open: that is the virtual board, and no holder.
    """
    found = []
    real = os.path.realpath(device)
    makers = real.startswith("/dev/pts/")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            opened = {os.path.realpath(one) for one in (process / "fd").iterdir()}
            name = (process / "comm").read_text().strip()
        except OSError:  # another user's, or gone meanwhile
            continue
        made = makers and any(one.endswith("/ptmx") for one in opened)
        if real in opened and not made and int(process.name) != os.getpid():
            found.append(f"{name} (pid {process.name})")
    return sorted(found)
