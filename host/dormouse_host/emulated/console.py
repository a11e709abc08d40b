"""The board's own USB as the host sees it: its serial port, which exists from the enumeration to the next reset.

Must stay true: input that the board has no room for waits; a host with nothing to send sends nothing.
"""

from collections.abc import Callable
from typing import Any

from rp2040py.usb.cdc import USBCDC

_LONGEST = 1 << 16  # bytes of input that wait


class UsbSerial:
    """`on_output(data)` gets what the board prints, `on_ready()` is called when its port appears."""

    def __init__(self, chip: Any, on_output: Callable[[bytes], None], on_ready: Callable[[], object]) -> None:
        usb = chip.usb_ctrl
        self._cdc = cdc = USBCDC(usb)
        self._waiting = bytearray()
        self._armed: tuple[int, int] | None = None  # endpoint and size of a read that the board has prepared
        self.ready = False
        cdc.on_serial_data = lambda data: on_output(bytes(data))

        def connected() -> None:
            self.ready = True
            on_ready()

        cdc.on_device_connected = connected
        self._read, reset = usb.on_endpoint_read, usb.on_reset

        def read(endpoint: int, size: int) -> None:
            # rp2040py completes each read at once, with nothing: an interrupt every 10 us, and a CPU that never idles
            if endpoint > 0 and endpoint == cdc._out_endpoint and cdc.tx_fifo.empty:
                self._armed = (endpoint, size)
            else:
                self._read(endpoint, size)

        def gone() -> None:
            self._armed = None
            self._waiting.clear()
            self.ready = False
            reset()

        usb.on_endpoint_read = read
        usb.on_reset = gone

    def type(self, data: bytes) -> None:
        """Input from the host."""
        self._waiting = (self._waiting + data)[-_LONGEST:]

    def pump(self) -> None:
        """Hand on what the board has room for."""
        fifo = self._cdc.tx_fifo
        room = fifo.size - fifo.item_count
        if not self._waiting or not self.ready or not room:
            return
        for byte in self._waiting[:room]:
            self._cdc.send_serial_byte(byte)
        del self._waiting[:room]
        if self._armed:
            armed, self._armed = self._armed, None
            self._read(*armed)
