"""Sensors around a virtual board: voltages at ADC pins, DHT11 and DHT22 at pins, devices on the I2C bus.

What is not connected is missing as on a board: no answer at an address, no signal of a DHT, 0 V at a pin.
"""

from collections.abc import Callable, Mapping

from dormouse_host.errors import HostError
from dormouse_host.virtual.kind import BoardKind

Transfer = Callable[[bytes, int], bytes | None]  # what the board wrote, how many bytes it reads -> those; None: no ACK
DHTS = ("DHT11", "DHT22")
_ADDRESSES = range(0x08, 0x78)  # those that are not reserved, which scan() tries


class Registers:
    """An I2C device of registers: a write's first byte is the register at which it goes on, and the next read begins.

    The register counts on with each byte; what nobody has set reads as 0.
    """

    def __init__(self, values: Mapping[int, bytes] | None = None) -> None:
        self._memory = bytearray(256)
        self._at = 0
        for register, data in (values or {}).items():
            self.put(register, data)

    def put(self, register: int, data: bytes) -> None:
        """Set the bytes from this register on."""
        for offset, byte in enumerate(data):
            self._memory[(register + offset) % 256] = byte

    def __call__(self, written: bytes, count: int) -> bytes:
        """A transfer on the bus."""
        if written:
            self._at = written[0]
            self.put(self._at, written[1:])
            self._at += len(written) - 1
        first, self._at = self._at, (self._at + count) % 256
        return bytes(self._memory[(first + offset) % 256] for offset in range(count))


class Sensors:
    """What is connected to a board of this kind."""

    def __init__(self, kind: BoardKind) -> None:
        self._kind = kind
        self._volts: dict[int, float] = {}
        self._dht: dict[int, bytes] = {}
        self._i2c: dict[int, Transfer] = {}

    # ---- from outside

    def adc(self, pin: int, volts: float | None) -> None:
        """Put a voltage at an ADC pin; None takes it away. HostError for a pin without an ADC."""
        chip = self._kind.chip
        if pin not in (*chip.adc1, *chip.adc2):
            pins = ", ".join(map(str, sorted({*chip.adc1, *chip.adc2})))
            raise HostError(f"pin {pin} of {self._kind.name} has no ADC, only {pins}", 2)
        if volts is None:
            self._volts.pop(pin, None)
        else:
            self._volts[pin] = volts

    def dht(self, pin: int, temperature: float | None, humidity: float, model: str) -> None:
        """Connect a DHT11 or DHT22 that measures this in °C and %; without a temperature take it away."""
        if pin not in self._kind.chip.pins:
            raise HostError(f"{self._kind.name} has no pin {pin}", 2)
        if temperature is None:
            self._dht.pop(pin, None)
        else:
            self._dht[pin] = _dht(temperature, humidity, model)

    def i2c(self, address: int, device: Transfer | None) -> None:
        """Connect a device to every bus at this address; None takes it away."""
        if address not in _ADDRESSES:
            raise HostError(f"I2C address {address:#x}: expected {_ADDRESSES[0]:#x} to {_ADDRESSES[-1]:#x}", 2)
        if device is None:
            self._i2c.pop(address, None)
        else:
            self._i2c[address] = device

    def register(self, address: int, register: int, data: bytes) -> None:
        """Set registers of the device at this address, which becomes one of registers."""
        device = self._i2c.get(address)
        if not isinstance(device, Registers):
            device = Registers()
            self.i2c(address, device)
        device.put(register, data)

    # ---- asked by the board

    def microvolts(self, pin: int) -> int | None:
        """The voltage at a pin; None where nothing is connected."""
        volts = self._volts.get(pin)
        return None if volts is None else int(max(0.0, volts) * 1e6)

    def answer_dht(self, pin: int) -> str | None:
        """The five bytes of a DHT in hex; None where there is none."""
        data = self._dht.get(pin)
        return None if data is None else data.hex()

    def scan(self) -> list[int]:
        """The addresses at which something is."""
        return sorted(self._i2c)

    def transfer(self, address: int, written: bytes, count: int) -> str | None:
        """Write to a device, then read so many bytes, in hex; None where nothing acknowledges.

        HostError where the device itself raises or returns no bytes: a sensor of a test, which is wrong.
        """
        device = self._i2c.get(address)
        if device is None:
            return None
        try:
            read = device(written, count)
        except Exception as error:
            raise HostError(f"the I2C device at {address:#x} raised {type(error).__name__}: {error}") from error
        if read is None:
            return None
        if not isinstance(read, bytes | bytearray | memoryview):
            raise HostError(f"the I2C device at {address:#x} returned {type(read).__name__}: expected bytes or None")
        if len(read) != count:
            raise HostError(f"the I2C device at {address:#x} returned {len(read)} bytes, asked for {count}")
        return bytes(read).hex()


def _dht(temperature: float, humidity: float, model: str) -> bytes:
    """The five bytes that it sends (data sheets of DHT11 and AM2302). HostError for what it cannot measure."""
    if model not in DHTS:
        raise HostError(f"{model}: expected {' or '.join(DHTS)}", 2)
    lowest, highest = (0, 50) if model == "DHT11" else (-40, 80)
    if not (lowest <= temperature <= highest and 0 <= humidity <= 100):
        raise HostError(f"a {model} measures {lowest} to {highest} °C and 0 to 100 %", 2)
    if model == "DHT11":
        data = bytes((int(humidity), round(humidity * 10) % 10, int(temperature), round(temperature * 10) % 10))
    else:
        tenths = round(abs(temperature) * 10) | (0x8000 if temperature < 0 else 0)
        data = round(humidity * 10).to_bytes(2, "big") + tenths.to_bytes(2, "big")
    return data + bytes((sum(data) & 0xFF,))
