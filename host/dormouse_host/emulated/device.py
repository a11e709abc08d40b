"""A whole device on an emulated board, beside that on a virtual one."""

from dormouse_host.emulated.board import EmulatedBoard
from dormouse_host.virtual.device import DeviceOn


class EmulatedDevice(DeviceOn[EmulatedBoard]):
    """A device on MicroPython's own firmware for a Pico W, which `firmware` names."""

    _make = EmulatedBoard
