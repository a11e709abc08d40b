"""Ethernet of an ESP32 that has a PHY: joined like Wi-Fi, and loaded only where the configuration has `lan`.

Must stay true: every wait ends by the deadline, and a failure names the stage it came to.
"""

import network
from machine import Pin

from dormouse.errors import ConfigError, LinkError


class _Wire:
    """What the port does with a radio, of an interface without one."""

    def __init__(self, lan):
        self.active = lan.active
        self.isconnected = lan.isconnected

    def disconnect(self):
        pass

    def status(self, what):
        return None


def join(board, config, deadline):
    """Bring the interface up. LinkError with stage `address` or `join`."""
    how = {}
    try:
        for word in config["lan"].split():
            key, _, value = word.partition("=")
            if key == "phy_type":
                how[key] = getattr(network, "PHY_" + value)
            elif key == "ref_clk_mode":
                how[key] = getattr(Pin, value)
            else:
                how[key] = int(value) if key == "phy_addr" else Pin(int(value))
        lan = network.LAN(**how)
    except (AttributeError, TypeError, ValueError) as e:
        raise ConfigError("config: lan: %s" % e, "join")
    if config["static"]:
        lan.ifconfig(config["static"])
    board.wlan = _Wire(lan)
    lan.active(True)
    while not lan.isconnected():
        if board.ms() >= deadline:
            if lan.status() == network.ETH_CONNECTED:
                raise LinkError("no address from the network", "address")
            raise LinkError("no Ethernet link: is the cable in?", "join")
        board.pause(20)
    if config["dns"]:
        network.ipconfig(dns=config["dns"])
