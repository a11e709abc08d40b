"""Joining Wi-Fi: with what is known of the last time, else after one scan.

Must stay true: every wait ends by the deadline, and a failure names the stage it came to; what led nowhere is not
tried again at the next wake.
"""

import time
from binascii import crc32

import network

from dormouse.errors import ConfigError, LinkError

_FAST = 5000  # ms for joining with what is known: then it is wrong
_SLOW = 15000  # ms for one try without
_LEASE = 3600  # s for which an address is used again without asking; access points give it for longer


def join(board, config, secrets, deadline):
    """Join the network of `config`. LinkError with stage `ap`, `password`, `address` or `join`."""
    ssid, key, name = config["ssid"], secrets.get("wifi_password") or None, config["network"]
    if not name:
        raise ConfigError("config: ssid is missing", "join")
    net = crc32(("%s\n%s" % (ssid, key)).encode())
    if net != board.net:
        board.net, board.bssid, board.leased = net, b"", 0
    if name != ssid.encode():
        ssid = name
    wlan = board.wlan
    wlan.active(True)
    board.tune()
    if any(board.bssid):
        again = board.leased and 0 <= int(time.time()) - board.leased < _LEASE
        if again:
            wlan.ifconfig(tuple([board.dotted(board.lan[i : i + 4]) for i in (0, 4, 8, 12)]))
        if _connect(board, ssid, key, min(deadline, board.ms() + _FAST)) is None:
            return None if again else _lease(board)
        board.off()
        wlan.active(True)
        board.tune()
        wlan.ipconfig(dhcp4=True)
    names = wlan.scan()
    board.feed()
    found = sorted([(-entry[3], entry[1], entry[2]) for entry in names if entry[0] == name])
    board.bssid = b""
    status = network.STAT_NO_AP_FOUND
    if found or not all(entry[0].strip(b"\0") for entry in names):  # it may be one that hides its name
        if found:
            board.bssid, board.channel = found[0][1:]
        for _ in range(2):  # one failure may be chance
            status = _connect(board, ssid, key, min(deadline, board.ms() + _SLOW))
            board.feed()
            if status is None:
                return _lease(board)
            if board.ms() >= deadline:
                break
    board.bssid = b""
    if status == network.STAT_NO_AP_FOUND:
        raise LinkError("no access point of that name", "ap")
    if status in board.passwords:
        raise LinkError("wrong Wi-Fi password", "password")
    if board.associated(status):
        raise LinkError("no address from the network", "address")
    raise LinkError("Wi-Fi association failed (status %d)" % status, "join")


def _connect(board, ssid, key, until):
    """None once there is an address, else the status that told of failure or the one at `until`."""
    how = {}
    if any(board.bssid):
        how["bssid"] = board.bssid
        if board.channels:
            how["channel"] = board.channel
    wlan = board.wlan
    wlan.connect(ssid, key, **how)
    while True:
        if wlan.isconnected():
            return None
        status = wlan.status()
        if status < board.failed or board.ms() >= until:
            return status
        board.pause(20)


def _lease(board):
    """Remember the address that the network has given."""
    board.lan = b"".join([board.packed(part) for part in board.wlan.ifconfig()])
    board.leased = int(time.time()) or 1  # 0: none
