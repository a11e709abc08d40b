"""`network` of an ESP32: `connect` takes no channel, and there is Ethernet, for a board that has a PHY.

Must stay true: it offers nothing that this board's stubs lack (tests/boards/test_virtual_board_stubs.py).
"""

import vb_link as _link
from vb_network import STA_IF, AP_IF, _Station, country, hostname, ipconfig

STAT_IDLE, STAT_CONNECTING, STAT_GOT_IP = 1000, 1001, 1010
STAT_BEACON_TIMEOUT, STAT_NO_AP_FOUND, STAT_WRONG_PASSWORD = 200, 201, 202
STAT_ASSOC_FAIL, STAT_HANDSHAKE_TIMEOUT = 203, 204
AUTH_OPEN, AUTH_WPA2_PSK, AUTH_WPA2_ENTERPRISE = 0, 3, 5
PHY_LAN8710, PHY_LAN8720, PHY_IP101, PHY_RTL8201, PHY_DP83848, PHY_KSZ8041, PHY_KSZ8081 = 0, 1, 2, 3, 4, 5, 6
ETH_INITIALIZED, ETH_STARTED, ETH_STOPPED, ETH_CONNECTED, ETH_DISCONNECTED, ETH_GOT_IP = 0, 1, 2, 3, 4, 5


class WLAN(_Station):
    """The ESP32's station joins again by itself after it lost its access point, unless told not to."""

    _settings = ("reconnects", "protocol", "mac", "channel")

    def connect(self, ssid=None, key=None, *, bssid=None):
        self._connect(ssid, key, bssid, None)


class LAN:
    """The Ethernet of a board with a PHY at these pins (ports/esp32/network_lan.c); there is one, whatever later
    constructors are given.
    """

    _on = False

    def __init__(
        self, id=None, *, mdc=None, mdio=None, reset=None, power=None, phy_addr, phy_type, ref_clk_mode=-1, ref_clk=None
    ):
        if mdc is None or mdio is None:
            raise ValueError("mdc and mdio must be specified")
        if not 0 <= phy_addr <= 31:
            raise ValueError("invalid phy address")

    def active(self, on=None):
        if on is not None and bool(on) != LAN._on:
            LAN._on = bool(on)
            _link.ask("wifi", "cable", LAN._on)
        return LAN._on

    def status(self):
        if not LAN._on:
            return ETH_INITIALIZED
        states = {"connecting": ETH_STARTED, "no address": ETH_CONNECTED, "up": ETH_GOT_IP}
        return states.get(_link.ask("wifi", "state"), ETH_DISCONNECTED)

    def isconnected(self):
        return self.status() == ETH_GOT_IP

    def ifconfig(self, parts=None):
        return _Station.ifconfig(self, parts)
