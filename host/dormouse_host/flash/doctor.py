"""What may keep a board from being flashed, each with one thing to do about it.

Must stay true: a finding says what is wrong and one way to mend it; nothing is changed, and no port is opened for
longer than it takes to see whether that is allowed.
"""

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dormouse_host.agent import toolchain
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds
from dormouse_host.flash.ports import PortInfo, attached, holders

_CHARGE_ONLY = "does the cable carry data, or charge only? Try another one, and press reset on a sleeping board"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `wrong` with its `fix`, or fine."""

    what: str
    fix: str = ""

    @property
    def wrong(self) -> bool:
        """Is there something to do?"""
        return bool(self.fix)


def examine(ports: Iterable[PortInfo] | None = None, usb: Path = Path("/sys/bus/usb/devices")) -> list[Finding]:
    """Everything that is looked at, in an order in which it may be mended. `ports`: None for those of this machine."""
    found = [_tool("mosquitto", toolchain.mosquitto() is not None, "apt-get install mosquitto"), _umqtt()]
    listed = list(attached() if ports is None else ports)
    known = {one for name in kinds.names() for one in kinds.load(name).usb.ids}
    candidates = [port for port in listed if port.usb in known]
    for port in candidates:
        found.append(_port(port))
    if not candidates:
        found.append(_no_board(known, usb))
    return found


def _tool(name: str, there: bool, fix: str) -> Finding:
    return Finding(name) if there else Finding(f"{name} is not installed", fix)


def _umqtt() -> Finding:
    try:
        return Finding(f"umqtt.simple in {toolchain.umqtt_folder()}")
    except HostError as error:
        return Finding(f"umqtt.simple: {error}", "set UMQTT= to a folder that holds umqtt/simple.py")


def _port(port: PortInfo) -> Finding:
    """A port that may be a board: can it be opened?"""
    names = [name for name in kinds.names() if port.usb in kinds.load(name).usb.ids]
    what = f"{port}: may be {' or '.join(names)}"
    if held := holders(port.device):
        return Finding(f"{port.device} is held by {', '.join(held)}", f"end it: kill {held[0].split('pid ')[1][:-1]}")
    try:
        os.close(os.open(port.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return Finding(f"{port.device} may not be opened by you", _membership(port.device))
        if error.errno == errno.EBUSY:
            return Finding(f"{port.device} is held by another user's program", f"sudo fuser -v {port.device} names it")
        return Finding(f"{port.device}: {error.strerror}", "unplug the board and plug it in again")
    return Finding(what)


def _membership(device: str) -> str:
    """How one comes to be allowed to open `device`: its group."""
    import grp

    try:
        group = grp.getgrgid(os.stat(device).st_gid).gr_name
    except (OSError, KeyError):
        group = "dialout"
    return f"sudo usermod -aG {group} $USER, then log in again"


def _no_board(known: set[str], usb: Path) -> Finding:
    """No port is a board's: the bus may show one all the same."""
    for place in sorted(usb.glob("*")):
        try:
            one = f"{(place / 'idVendor').read_text().strip()}:{(place / 'idProduct').read_text().strip()}".lower()
        except OSError:
            continue
        if one in ("2e8a:0003", "2e8a:000f"):
            return Finding(f"a Pico in its bootloader ({one}), without MicroPython", "make firmware BOARD=RPI_PICO_W")
        if one in known:
            return Finding(f"{one} is on USB and has no serial port", "sudo modprobe cdc_acm cp210x ch341 ftdi_sio")
    return Finding("no board on USB", _CHARGE_ONLY)
