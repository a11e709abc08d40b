"""`machine.I2C`, `machine.SoftI2C` and `machine.dht_readinto`: what is on a bus or at a pin is the simulation's.

Must stay true: what does not answer raises the error that it raises on the board of that kind. The bus's primitives
(start, stop, readinto, write) are left out.
"""

import vb_link as _link
import vb_machine as _m
from binascii import hexlify, unhexlify


def _bad(pin, bus, odd):
    """Can this not be the pin of an RP2040's bus? (ports/rp2/machine_i2c.c: IS_VALID_SCL, IS_VALID_SDA)"""
    return pin is not None and (pin._id & 1 != odd or pin._id >> 1 & 1 != bus)


class I2C:
    """A bus of the chip."""

    def __init__(self, id=-1, *, scl=None, sda=None, freq=400000, timeout=50000):
        if id not in _m.facts["i2c"]:
            raise ValueError("I2C(%d) doesn't exist" % id)
        rp2 = _m.facts["port"] == "rp2"
        if rp2 and (_bad(scl, id, 1) or _bad(sda, id, 0)):
            raise ValueError("bad SCL pin" if _bad(scl, id, 1) else "bad SDA pin")
        self._start(5 if rp2 else 19)  # EIO; ENODEV

    def _start(self, missing):
        self._missing = missing
        self._sent = {}  # address -> what was written without a stop

    def init(self, *, freq=400000):
        pass

    def _transfer(self, addr, data, count):
        answer = _link.ask("i2c", addr, hexlify(data).decode(), count)
        if answer is None:
            raise OSError(self._missing)
        return unhexlify(answer)

    def scan(self):
        return _link.ask("i2c scan")

    def readfrom(self, addr, nbytes, stop=True):
        return self._transfer(addr, self._sent.pop(addr, b""), nbytes)

    def readfrom_into(self, addr, buf, stop=True):
        _put(buf, self.readfrom(addr, len(buf)))

    def writeto(self, addr, buf, stop=True):
        data = self._sent.pop(addr, b"") + bytes(buf)
        if stop:
            self._transfer(addr, data, 0)
        elif addr not in self.scan():
            raise OSError(self._missing)
        else:
            self._sent[addr] = data
        return len(buf)

    def writevto(self, addr, vector, stop=True):
        return self.writeto(addr, b"".join([bytes(part) for part in vector]), stop)

    def readfrom_mem(self, addr, memaddr, nbytes, *, addrsize=8):
        return self._transfer(addr, _address(memaddr, addrsize), nbytes)

    def readfrom_mem_into(self, addr, memaddr, buf, *, addrsize=8):
        _put(buf, self._transfer(addr, _address(memaddr, addrsize), len(buf)))

    def writeto_mem(self, addr, memaddr, buf, *, addrsize=8):
        self._transfer(addr, _address(memaddr, addrsize) + bytes(buf), 0)


class SoftI2C(I2C):
    """A bus at any two pins."""

    def __init__(self, scl, sda, *, freq=400000, timeout=50000):
        self._start(19)


def _address(memaddr, addrsize):
    return memaddr.to_bytes(addrsize // 8, "big")


def _put(buf, data):
    for n in range(len(data)):
        buf[n] = data[n]


def dht_readinto(pin, buf):
    answer = _link.ask("dht", pin._id)
    if answer is None:
        raise OSError(110 if _m.facts["port"] == "rp2" else 116)  # ETIMEDOUT
    buf[:] = unhexlify(answer)
