"""`network` of a Pico W: `connect` takes a channel, and the chip can be switched off.

Must stay true: it offers nothing that this board's stubs lack (tests/boards/test_virtual_board_stubs.py).
"""

import vb_machine as _m
from vb_network import STA_IF, AP_IF, _Station, country, hostname, ipconfig

STAT_IDLE, STAT_CONNECTING, STAT_GOT_IP = 0, 1, 3
STAT_CONNECT_FAIL, STAT_NO_AP_FOUND, STAT_WRONG_PASSWORD = -1, -2, -3


class WLAN(_Station):
    """The Pico W's station."""

    SEC_OPEN, SEC_WPA3, SEC_WPA2_WPA3, SEC_WPA_WPA2 = 0, 16777220, 20971524, 4194310
    _settings = ("antenna", "channel")

    def connect(self, ssid=None, key=None, *, auth=None, security=None, bssid=None, channel=None):
        wpa3 = security in (self.SEC_WPA3, self.SEC_WPA2_WPA3)
        self._connect(ssid, key, bssid, channel, security if wpa3 else None)

    def deinit(self):
        self.active(False)
        _m.facts["loaded"] = False
