"""The transfers to the Wi-Fi chip, each done at once instead of bit by bit.

Must stay true: the chip sees the same words, memory holds the same bytes, and as much time passes as PIO would take.
rp2040py plays every bit of the 230 KB that the Wi-Fi chip loads at each wake. The driver (pico-sdk,
cyw43_bus_pio_spi.c) prepares a state machine and two DMA channels and then starts the state machine; there the
transfer is done, the channels are marked as done, and the state machine stays where it is.
"""

from typing import Any

from rp2040py.external.cyw43 import bus as gspi
from rp2040py.peripherals import dma

_CTRL, _FDEBUG = 0x000, 0x008  # PIO's registers (RP2040 datasheet, 3.7)
_TXSTALL = 24  # first bit of it in FDEBUG
_CYCLES = 2  # of the state machine for one bit
_MACHINES = 4


class Transfers:
    """Stands before a PIO block on the bus. `chip`: the RP2040; `wifi`: the Wi-Fi chip's side of the wire."""

    def __init__(self, chip: Any, pio: Any, wifi: gspi.GSPIBus) -> None:
        self._chip, self._pio, self._wifi = chip, pio, wifi
        self._stalled = 0  # bits of FDEBUG that our transfers leave

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pio, name)

    def read_uint32(self, offset: int) -> Any:
        """A register."""
        value = self._pio.read_uint32(offset)
        return value | self._stalled if offset == _FDEBUG else value

    def write_uint32_atomic(self, offset: int, value: int, kind: int) -> None:
        """A register; `kind`: plain, or its bits set, cleared or flipped."""
        if offset == _CTRL and self._wifi._selected:
            for n in range(_MACHINES):
                if value & 1 << n and kind in (0, 2) and not self._pio.machines[n].enabled and self._transfer(n):
                    value &= ~(1 << n)
        self._pio.write_uint32_atomic(offset, value, kind)

    def _transfer(self, n: int) -> bool:
        """Do the transfer that state machine `n` was to do. False where none is prepared."""
        machine = self._pio.machines[n]
        out = self._channel(self._pio.dreq_tx[n])
        into = self._channel(self._pio.dreq_rx[n]) if machine.y else None
        if out is None or (machine.y and into is None):
            return False
        words = (machine.x + 1) // 32
        left = out._trans_count if out._ctrl & dma.BUSY else 0  # the first words went into the FIFO before
        first = out._read_addr - 4 * (words - left)
        answer = self._exchange([self._big_endian(first + 4 * i) for i in range(words)])
        self._done(out)
        bits = 32 * words
        if into is not None:
            count = into._trans_count_reload
            answer = answer.ljust(4 * count, b"\0")
            for i in range(count):
                self._chip.write_uint32(into._write_addr + 4 * i, int.from_bytes(answer[4 * i : 4 * i + 4], "little"))
            self._done(into)
            bits += 32 * count
        machine.tx_fifo.reset()
        machine.rx_fifo.reset()
        self._chip.dma.clear_dreq(self._pio.dreq_rx[n])
        self._chip.dma.set_dreq(self._pio.dreq_tx[n])
        self._stalled |= 1 << (_TXSTALL + n)
        self._chip.clock.tick(bits * _CYCLES * max(1, machine.clock_div_int) * 1e9 / self._chip.clock.frequency)
        return True

    def _channel(self, request: int) -> Any:
        """The DMA channel that this request paces."""
        for channel in self._chip.dma.channels:
            if channel.treq == request and channel._ctrl & dma.EN:
                return channel
        return None

    @staticmethod
    def _done(channel: Any) -> None:
        channel.transfer_alarm.cancel()
        channel._ctrl &= ~dma.BUSY
        channel._trans_count = 0

    def _big_endian(self, address: int) -> int:
        return int.from_bytes(self._chip.read_uint32(address).to_bytes(4, "little"), "big")

    def _exchange(self, words: list[int]) -> bytes:
        """One transaction with the Wi-Fi chip. Returns the bytes that it answers."""
        wifi = self._wifi
        command = gspi._decode_header(wifi._word(words[0]))
        if not command.write:
            wifi._start_response(command)
            answer, wifi._response_bytes = wifi._response_bytes, b""
            return answer
        count = gspi._word_count(command.size)
        values = [wifi._word(word) for word in words[1 : 1 + count]]
        wifi.write_register(command.function, command.address, command.size, gspi._words_to_value(values, command.size))
        return b""
