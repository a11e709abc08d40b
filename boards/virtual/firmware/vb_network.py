"""`network` of both ports: one Wi-Fi station whose fate the simulation decides.

Must stay true: a status is asked for at each use and never remembered here; a call that the port lacks raises as it
does there (`channel=` on an ESP32, `deinit` only on a Pico W).
"""

import vb_link as _link
import vb_time as _clock
import vb_machine as _m

STA_IF, AP_IF = 0, 1
_STATUS = {
    "esp32": (1000, 1001, 1001, 1010, 201, 202, 203),
    "rp2": (0, 1, 2, 3, -2, -3, -1),
}
_STATES = ("idle", "connecting", "no address", "up", "no access point", "wrong password", "failed")
_hostname = ["mpy"]


def hostname(name=None):
    if name is None:
        return _hostname[0]
    _hostname[0] = name


def country(code=None):
    if code is None:
        return _m.facts.get("country", "XX")
    _m.facts["country"] = code


def ipconfig(*args, **keys):
    if keys.get("dns"):
        _link.ask("wifi", "resolver", keys["dns"])


class _Station:
    """What both ports have."""

    PM_NONE, PM_PERFORMANCE, PM_POWERSAVE = 0, 1, 2
    IF_STA, IF_AP = 0, 1
    _settings = ()

    def __init__(self, interface=0):
        self._interface = interface

    def active(self, on=None):
        if on is None:
            return _link.ask("wifi", "active")
        if self._interface == AP_IF:
            if on:
                raise OSError(95)
            return None
        _link.ask("wifi", "power", bool(on))
        if on and not _m.facts.get("loaded"):  # the chip's own firmware, which it keeps while it has power
            _m.facts["loaded"] = True
            _clock._busy(_m.facts["times"].get("radio", 0))

    def _connect(self, ssid, key, bssid, channel, security=None):
        if not _link.ask("wifi", "active"):
            if _m.facts["port"] == "esp32":
                raise OSError("Wifi Not Started")
            raise OSError(1)
        bssid = ":".join("%02x" % byte for byte in bssid) if bssid else None
        ssid, key = [text.decode() if isinstance(text, bytes) else text for text in (ssid, key)]
        _link.ask("wifi", "connect", ssid, key, bssid, channel, security)

    def disconnect(self):
        _link.ask("wifi", "disconnect")

    def isconnected(self):
        return _link.ask("wifi", "state") == "up"

    def status(self, what=None):
        if what == "rssi":
            rssi = _link.ask("wifi", "rssi")
            if rssi is None and _m.facts["port"] == "esp32":
                raise OSError("Wifi Not Connected")
            return rssi or 0
        if what is not None:
            raise ValueError("unknown status param")
        return _STATUS[_m.facts["port"]][_STATES.index(_link.ask("wifi", "state"))]

    def ifconfig(self, parts=None):
        if parts is None:
            return tuple(_link.ask("wifi", "address"))
        _link.ask("wifi", "static", None if parts == "dhcp" else list(parts))

    def ipconfig(self, *names, **values):
        if names:
            address = _link.ask("wifi", "address")
            return {
                "addr4": (address[0], address[1]),
                "gw4": address[2],
                "dhcp4": _link.ask("wifi", "dhcp"),
                "has_dhcp4": self.isconnected(),
            }[names[0]]
        if values.get("dhcp4"):
            _link.ask("wifi", "static", None)
        elif "addr4" in values:
            address = values["addr4"]
            address, mask = address if isinstance(address, tuple) else (address.split("/")[0], "255.255.255.0")
            _link.ask("wifi", "static", [address, mask, values.get("gw4", "0.0.0.0"), "0.0.0.0"])

    def scan(self):
        found = []
        ms, points = _link.ask("wifi", "scan")
        _clock.sleep_ms(ms)
        for ssid, bssid, channel, rssi, security in points:
            found.append((ssid.encode(), bytes(int(x, 16) for x in bssid.split(":")), channel, rssi, security, False))
        return found

    def config(self, *names, **values):
        for name in values:
            if name not in ("pm", "txpower", "hostname") + self._settings:
                raise ValueError("unknown config param")
        if "reconnects" in values:
            _link.ask("wifi", "rejoin", values["reconnects"] != 0)
        if not names:
            return None
        if names[0] == "mac":
            return _m.unique_id()[-6:]
        if names[0] in ("ssid", "essid", "channel"):
            return _link.ask("wifi", "config", "channel" if names[0] == "channel" else "ssid")
        if names[0] == "hostname":
            return hostname()
        if names[0] == "bssid" and _m.facts["port"] == "rp2":
            return bytes(int(x, 16) for x in _link.ask("wifi", "config", "bssid").split(":"))
        raise ValueError("unknown config param")
