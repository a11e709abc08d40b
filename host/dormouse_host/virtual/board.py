"""A virtual board: real MicroPython on simulated hardware, with a serial port for the unmodified mpremote.

Only sleep is accelerated. A reset, a sleep and a loss of power keep what the real board of that kind keeps. Nothing
here knows the agent.

    with VirtualBoard("ESP32_GENERIC", folder) as board:
        board.wait_boot()
        board.mpremote("cp", "main.py", ":", "+", "reset")
        board.wait_event("asleep", 30)
        board.power_cut()

A thread of its own runs it; every method may be called from any other thread.
"""

from collections.abc import Mapping
from pathlib import Path

from dormouse_host.errors import HostError
from dormouse_host.flash import kinds
from dormouse_host.virtual.hardware import POWER, WATCHDOG, Event, Hardware
from dormouse_host.virtual.kind import BoardKind, load
from dormouse_host.virtual.running import RunningBoard
from dormouse_host.virtual.sensors import Registers, Transfer
from dormouse_host.virtual.times import Timed, chosen
from dormouse_host.virtual.wifi import Wifi

__all__ = ("Event", "VirtualBoard", "Wifi")


class VirtualBoard(RunningBoard):
    """The board with its flash in `folder`/flash.img and its port at `folder`/port; `start` switches it on."""

    def __init__(
        self,
        kind: str | BoardKind,
        folder: str | Path,
        *,
        speed: float = 1.0,
        wifi: Wifi | None = None,
        tcp: int = 0,
        battery: float = 4.1,
        battery_pin: int | None = None,
        divider: float | None = None,
        timed: Timed = False,
        micropython: str | None = None,
        goes_on: bool = False,
    ) -> None:
        """`speed`: the factor by which sleep passes faster, 1 to 1000. `battery` in volts; `battery_pin` and `divider`
        where the board's kind has none. `tcp`: the port of socket://. `timed`: see the property of that name.
        `micropython`: the version, such as "1.29", whose name, watchdog and `machine` it has; else its interpreter's,
        or the first that knows the board.
        `goes_on`: its first boot is one after the watchdog's reset, without the window that follows power-on.
        """
        super().__init__(load(kind) if isinstance(kind, str) else kind, folder, speed)
        try:  # what is wrong is told before anything is open
            version = kinds.version(micropython) if micropython else ()
        except ValueError:
            raise HostError(f"micropython {micropython}: expected a version such as 1.25", 2) from None
        times = chosen(self.kind.times, timed)
        self._machine = machine = Hardware(self.kind, self.folder, speed, wifi or Wifi(), tcp, self._lock)
        machine.pins.battery = battery
        machine.pins.battery_pin = self.kind.battery if battery_pin is None else battery_pin
        machine.pins.divider = self.kind.divider if divider is None else divider
        machine.version = version
        machine.first = WATCHDOG if goes_on else POWER
        machine.times = times
        self._hardware = machine

    @property
    def timed(self) -> Timed:
        """The milliseconds that it takes because the real board does, from its next boot on. True: those of board.toml;
        a mapping such as {"handshake": 1500}: these over them; False: none.
        """
        return self._machine.times

    @timed.setter
    def timed(self, timed: Timed) -> None:
        self._machine.times = chosen(self.kind.times, timed)

    # ---- sensors

    def adc(self, pin: int, volts: float | None) -> None:
        """Put a voltage at an ADC pin, None to take it away. HostError for a pin without an ADC."""
        self._machine.sensors.adc(pin, volts)

    def dht(self, pin: int, temperature: float | None, humidity: float = 50.0, model: str = "DHT22") -> None:
        """Connect a DHT22 or DHT11 to a pin, which measures this in °C and %; without a temperature take it away."""
        self._machine.sensors.dht(pin, temperature, humidity, model)

    def i2c(self, address: int, device: Transfer | Mapping[int, bytes] | None) -> None:
        """Connect a device to the I2C buses, None to take it away: registers with their bytes, or a callable.

        The callable gets what the board wrote in a transfer (bytes) and how many bytes it reads then, and returns
        these; None acknowledges nothing. It is called by the board's own thread, and an error there ends the board.
        """
        self._machine.sensors.i2c(address, Registers(device) if isinstance(device, Mapping) else device)

    def register(self, address: int, register: int, data: bytes) -> None:
        """Set the registers from this one on of the device at an address, which becomes one of registers."""
        self._machine.sensors.register(address, register, data)

    @property
    def flash_cost(self) -> tuple[int, int]:
        """Erases and programs of its flash so far, as far as it has used its hardware since."""
        return self._machine.flash_cost

    @property
    def process(self) -> int | None:
        """The process id of its interpreter; None while there is none, as in deep sleep."""
        return self._machine.process
