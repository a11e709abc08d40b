"""`network` of an ESP32: `connect` takes no channel.

Must stay true: it offers nothing that this board's stubs lack (tests/boards/test_virtual_board_stubs.py).
"""

from vb_network import STA_IF, AP_IF, _Station, country, hostname, ipconfig

STAT_IDLE, STAT_CONNECTING, STAT_GOT_IP = 1000, 1001, 1010
STAT_BEACON_TIMEOUT, STAT_NO_AP_FOUND, STAT_WRONG_PASSWORD = 200, 201, 202
STAT_ASSOC_FAIL, STAT_HANDSHAKE_TIMEOUT = 203, 204
AUTH_OPEN, AUTH_WPA2_PSK = 0, 3


class WLAN(_Station):
    """The ESP32's station joins again by itself after it lost its access point, unless told not to."""

    _settings = ("reconnects", "protocol", "mac", "channel")

    def connect(self, ssid=None, key=None, *, bssid=None):
        self._connect(ssid, key, bssid, None)
