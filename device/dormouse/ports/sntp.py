"""One question to a time server and its answer (SNTP, RFC 4330), without ever waiting for it.

Must stay true: an answer counts only with the random number that the question carried, and only from a server that
says it is synchronised.
"""

import os
import socket
import struct

_1970 = 2208988800  # seconds from the beginning of NTP's count


class Question:
    """Asked when it is made. `server` is an address or a name; a name is looked up, which waits for the resolver."""

    def __init__(self, server):
        address = socket.getaddrinfo(server, 123, 0, socket.SOCK_DGRAM)[0][-1]
        self.server = address[0] if isinstance(address, tuple) else None  # MicroPython's unix port hides it
        self._nonce = os.urandom(8)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.sendto(b"\x23" + bytes(39) + self._nonce, address)

    def answer(self):
        """Unix seconds, or None while there is no answer that counts. A half of a second is lost on average."""
        try:
            data = self._socket.recv(48)
        except OSError:
            return None
        if len(data) < 48 or data[24:32] != self._nonce:
            return None
        if data[0] & 7 != 4 or data[0] >> 6 == 3 or not 0 < data[1] < 16:  # a server's, in step, of a stratum
            return None
        seconds = struct.unpack(">I", data[40:44])[0]
        return seconds - _1970 + (0 if seconds >> 31 else 1 << 32)  # the count begins again in 2036

    def close(self):
        self._socket.close()
