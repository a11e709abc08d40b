"""Joining Wi-Fi: with what is known of the last time, else after one scan.

Must stay true: every wait ends by the deadline, and a failure names the stage it came to; what led nowhere is not
tried again at the next wake. Of several networks the one that worked last comes first, as it costs no scan; from one
that is not the most preferred of them it goes back to a scan once its lease is over.
"""

import time
from binascii import crc32

import network

from dormouse.errors import ConfigError, LinkError

_FAST = 5000  # ms for joining with what is known: then it is wrong
_SLOW = 15000  # ms for one try without, where one network is tried; several share it
_LEASE = 3600  # s for which an address is used again without asking; access points give it for longer
_WPA3 = 128  # in a channel: the network takes WPA3 only, which a Pico W is to be told


def join(board, config, deadline):
    """Join one of config["networks"], pairs of name and key in bytes. LinkError with stage `ap`, `password`, `address`
    or `join`.
    """
    networks, static = config["networks"], config["static"]
    if not networks[0][0]:
        raise ConfigError("config: ssid is missing", "join")
    nets = [crc32(b"%s\n%s" % each) for each in networks]
    wlan = board.wlan = network.WLAN(network.STA_IF)
    _on(board)
    fixed = None  # the address that was set in this wake
    if board.net in nets and any(board.bssid):
        at = nets.index(board.net)
        lan = None if at else static
        if not lan and board.leased and 0 <= int(time.time()) - board.leased < _LEASE:
            lan = tuple([board.dotted(board.lan[i : i + 4]) for i in (0, 4, 8, 12)])
        if lan or not at:
            fixed = lan
            if _try(board, config, at, lan, min(deadline, board.ms() + _FAST)) is None:
                return
            board.off()
            _on(board)
    names = wlan.scan()
    board.feed()
    hidden = not all(entry[0].strip(b"\0") for entry in names)
    seen, unseen = [], []
    status = network.STAT_NO_AP_FOUND
    for at in range(len(nets)):
        points = [(-entry[3],) + entry for entry in names if entry[0] == networks[at][0]]
        if points:
            _, _, bssid, channel, _, security, _ = min(points)  # the strongest
            if security in board.enterprise:
                status = None
            else:
                seen.append((at, bssid, channel))
        elif hidden:  # it may be one that hides its name
            unseen.append((at, b"", 0))
    tries = (seen + unseen) * 2  # one failure may be chance
    for number, (at, board.bssid, board.channel) in enumerate(tries):
        board.net, board.leased = nets[at], 0
        lan = None if at else static
        if fixed and not lan:
            wlan.ipconfig(dhcp4=True)
        fixed = lan
        until = min(deadline, board.ms() + 2 * _SLOW // len(tries))
        status = _try(board, config, at, lan, until)
        refused = status is not None and status < board.failed and status not in board.passwords
        if refused and board.channels and 2 * number >= len(tries):
            board.channel |= _WPA3
            status = _try(board, config, at, lan, until)
        board.feed()
        if status is None:
            return
        if board.ms() >= deadline:
            break
    board.bssid = b""
    name = ": %s" % networks[at][0] if len(nets) > 1 else ""
    if status is None:
        raise LinkError("MicroPython has no WPA Enterprise", "join")
    if status == network.STAT_NO_AP_FOUND:
        raise LinkError("no access point of that name", "ap")
    if status in board.passwords:
        raise LinkError("wrong Wi-Fi password" + name, "password")
    if board.associated(status):
        raise LinkError("no address from the network" + name, "address")
    raise LinkError("Wi-Fi association failed (status %d)" % status + name, "join")


def _on(board):
    board.wlan.active(True)
    board.tune()


def _try(board, config, at, lan, until):
    """Join network number `at`, with the address `lan` where it is given, and remember the one that is given there.
    None once there is an address, else the status that told of failure or the one at `until`.
    """
    wlan = board.wlan
    if lan:
        wlan.ifconfig(lan)
    name, key = config["networks"][at]
    how = {}
    if any(board.bssid):
        how["bssid"] = board.bssid
        if board.channels:
            how["channel"] = board.channel & ~_WPA3
    if board.channel & _WPA3:
        how["security"] = wlan.SEC_WPA2_WPA3
    wlan.connect(name, key or None, **how)
    while not wlan.isconnected():
        status = wlan.status()
        if status < board.failed or board.ms() >= until:
            return status
        board.pause(20)
    if not lan:
        board.lan = b"".join([board.packed(part) for part in wlan.ifconfig()])
        board.leased = int(time.time()) or 1  # 0: none
    if config["dns"]:
        network.ipconfig(dns=config["dns"])
