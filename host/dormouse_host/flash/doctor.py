"""Diagnosis of flashing problems, each with one thing to do.

Nothing is changed, and no port is kept open.
"""

import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dormouse_host.agent import toolchain
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds
from dormouse_host.flash.ports import PortInfo, attached, holders

_CONNECTS = 4.0  # seconds for a port behind a network
_CHARGE_ONLY = "try another cable, this one may only charge; press reset on a sleeping board"


@dataclass(frozen=True)
class Finding:
    """One finding: a problem with its `fix`, or all is well."""

    what: str
    fix: str = ""

    @property
    def wrong(self) -> bool:
        """Is there something to do?"""
        return bool(self.fix)


def examine(
    ports: Iterable[PortInfo] | None = None, usb: Path = Path("/sys/bus/usb/devices"), port: str | None = None
) -> list[Finding]:
    """All findings, in the order in which to fix them. `ports`: None for those of this machine; `port`: only this."""
    mosquitto = _tool("mosquitto", toolchain.mosquitto() is not None, "apt-get install mosquitto")
    found = [mosquitto, _umqtt(), _micropython()]
    listed = list(attached() if ports is None else ports)
    known = {one for name in kinds.names() for one in kinds.load(name).usb.ids}
    if port is not None:
        return [*found, _named(port, listed)]
    candidates = [one for one in listed if one.usb in known]
    for candidate in candidates:
        found.append(_port(candidate))
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


def _micropython() -> Finding:
    """Only virtual boards need it, and fetch it at their first start."""
    try:
        found = toolchain.micropython_here()
    except HostError as error:
        return Finding(str(error), "install MicroPython 1.25 or newer, or set MICROPYTHON= to one")
    return Finding(str(found) if found else "MicroPython is not here yet: the first virtual board fetches it")


def _named(port: str, listed: list[PortInfo]) -> Finding:
    """The port that was asked about, listed or not."""
    if "://" not in port:
        return _port(next((one for one in listed if one.device == port), PortInfo(port)))
    host, _, number = port.partition("://")[2].partition("/")[0].rpartition(":")
    try:
        socket.create_connection((host, int(number)), _CONNECTS).close()
    except (OSError, ValueError, OverflowError) as error:
        return Finding(f"{port}: {getattr(error, 'strerror', None) or error}", "start the program that serves it")
    return Finding(port)


def _port(port: PortInfo) -> Finding:
    """Can the port, which may be a board, be opened?"""
    names = [name for name in kinds.names() if port.usb in kinds.load(name).usb.ids]
    what = f"{port}: may be {' or '.join(names)}" if names else f"{port}: can be opened"
    if held := holders(port.device):
        return Finding(
            f"{port.device} is held by {', '.join(held)}", f"end that program: kill {held[0].split('pid ')[1][:-1]}"
        )
    try:
        os.close(os.open(port.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return Finding(f"you have no permission to open {port.device}", _membership(port.device))
        if error.errno == errno.EBUSY:
            return Finding(f"{port.device} is held by another user's program", f"sudo fuser -v {port.device} names it")
        if error.errno == errno.ENOENT:
            return Finding(f"{port.device} does not exist", "press reset on a sleeping board, which has no port")
        return Finding(f"{port.device}: {error.strerror}", "unplug the board and plug it in again")
    return Finding(what)


def _membership(device: str) -> str:
    """How to get permission to open `device`: by its group."""
    import grp

    try:
        group = grp.getgrgid(os.stat(device).st_gid).gr_name
    except (OSError, KeyError):
        group = "dialout"
    return f"sudo usermod -aG {group} $USER, then log in again"


def _no_board(known: set[str], usb: Path) -> Finding:
    """No port is a board's; the USB bus may still show one."""
    for place in sorted(usb.glob("*")):
        try:
            one = f"{(place / 'idVendor').read_text().strip()}:{(place / 'idProduct').read_text().strip()}".lower()
        except OSError:
            continue
        if one in ("2e8a:0003", "2e8a:000f"):
            return Finding(
                f"a Pico in its bootloader ({one}), without MicroPython", "dormouse firmware --board RPI_PICO_W"
            )
        if one in known:
            return Finding(f"{one} is on USB without a serial port", "sudo modprobe cdc_acm cp210x ch341 ftdi_sio")
    return Finding("no board on USB", _CHARGE_ONLY)
