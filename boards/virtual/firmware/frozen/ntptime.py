"""The module that boards carry frozen: the time from an SNTP server (RFC 4330), in the board's own count."""

import socket as _socket
import struct as _struct
import time as _time

host = "pool.ntp.org"
timeout = 1


def time():
    query = bytearray(48)
    query[0] = 0x1B
    peer = _socket.getaddrinfo(host, 123)[0][-1]
    asked = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        asked.settimeout(timeout)
        asked.sendto(query, peer)
        answer = asked.recv(48)
    finally:
        asked.close()
    seconds = _struct.unpack("!I", answer[40:44])[0]
    return seconds - (3155673600 if _time.gmtime(0)[0] == 2000 else 2208988800)


def settime():
    import machine

    now = _time.gmtime(time())
    machine.RTC().datetime((now[0], now[1], now[2], now[6] + 1, now[3], now[4], now[5], 0))
