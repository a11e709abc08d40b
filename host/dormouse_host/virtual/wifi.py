"""What a virtual board is connected by, as a script says: access points, or a cable. How long joining takes, whether it
succeeds, when it ends, and what becomes of names.

A state depends only on the script and the time that has passed, which is real and never accelerated. The script may be
changed while the board runs.
"""

import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_FAST = 4  # a scan for a known BSSID takes so many times less than one for all


@dataclass
class Wifi:
    """The access point, with what is behind it. Times in milliseconds; None means never."""

    ssid: str = "virtual"
    password: str = "virtual-password"
    bssid: str = "02:00:00:d0:12:05"
    channel: int = 6
    rssi: int = -61
    present: bool = True
    refuses: bool = False  # every password, as if it had been changed
    scan_ms: int = 80
    join_ms: int = 40
    dhcp_ms: int | None = 20
    drops: list[int] = field(
        default_factory=list
    )  # each connection that comes up lasts the next of these; then for ever
    dns: str = (
        "works"  # or "fails", or "never": no answer, and no end of waiting; or "lies": all names are the portal's
    )
    portal: str = "10.9.9.9"
    honest: str = "9.9.9.9"  # a resolver that works all the same, where the board asks it
    hidden: bool = False  # its name is in no scan
    security: str = "wpa2"  # or "wpa3", and nothing else, or "enterprise"
    also: list["Wifi"] = field(default_factory=list)  # other access points: of these only what comes before `scan_ms`
    cable: bool = True  # of a board with Ethernet
    link_ms: int = 40  # until the two ends of the cable have found each other
    names: dict[str, tuple[str, int]] = field(default_factory=dict)  # "host" or "host:port" to where it really is
    address: str = "192.168.4.20"

    def place(self, host: str, port: int) -> tuple[str, int]:
        """Where that host and port really are."""
        known = self.names.get(f"{host}:{port}") or self.names.get(host)
        return (known[0], known[1] or port) if known else (host, port)

    def drop(self) -> None:
        """Drop the connection, if there is one. The board then reacts by itself."""
        self._dropped = True

    _dropped: bool = field(default=False, init=False, repr=False)


_SCANNED = {"esp32": {"wpa2": 3, "wpa3": 6, "enterprise": 5}, "rp2": {"wpa2": 5, "wpa3": 5, "enterprise": 5}}


class Station:
    """The board's side. `on_event(name, **fields)` gets the events."""

    def __init__(self, wifi: Wifi, port: str, *, on_event: Callable[..., object]) -> None:
        """`port`: an ESP32 rejoins by itself when the connection is lost."""
        self._port, rejoins = port, port == "esp32"
        self.wifi = wifi
        self._rejoins = self._would_rejoin = rejoins
        self._on_event = on_event
        self.off()

    def off(self) -> None:
        """Switch the chip off, as every reset does."""
        self.active = False
        self._rejoins = self._would_rejoin
        self._began: float | None = None
        self._lost = "idle"
        self._was_up = self._left = False
        self._drop_at: float | None = None
        self._static: list[str] | None = None
        self._asked: tuple[Any, ...] = (None, None, None, None, None)  # ssid, password, BSSID, channel, security
        self._wired = False  # Ethernet is on, and Wi-Fi is not asked for
        self._resolver: str | None = None  # the one that the board has set

    def state(self) -> str:
        """idle, connecting, no address, up, no access point, wrong password, failed."""
        if self._began is None:
            return self._lost
        passed = (time.monotonic() - self._began) * 1000
        if self._wired:
            return self._over_cable(passed)
        wifi, (ssid, key, bssid, channel, security) = self.wifi, self._asked
        known = bssid is not None
        scan = 0 if known and channel is not None else wifi.scan_ms // (_FAST if known else 1)
        if passed < scan:
            return "connecting"
        point = next((each for each in self._points() if self._is(each, ssid, bssid, channel)), None)
        wpa3 = self._port == "esp32" or security is not None
        if point is None or (point.security == "wpa3" and not wpa3):
            return "no access point"
        if passed < scan + wifi.join_ms:
            return "connecting"
        if point.refuses or key != point.password or point.security == "enterprise":
            return "wrong password"
        return self._addressed(passed - scan - wifi.join_ms)

    def _over_cable(self, passed: float) -> str:
        if not self.wifi.cable:
            return "no access point"
        return "connecting" if passed < self.wifi.link_ms else self._addressed(passed - self.wifi.link_ms)

    def _addressed(self, passed: float) -> str:
        """The state so many milliseconds after all but the address was there."""
        wait = 0 if self._static is not None else self.wifi.dhcp_ms
        return "no address" if wait is None or passed < wait else "up"

    def _points(self) -> list[Wifi]:
        return [each for each in (self.wifi, *self.wifi.also) if each.present]

    def _is(self, point: Wifi, ssid: str, bssid: str | None, channel: int | None) -> bool:
        return ssid == point.ssid and bssid in (None, point.bssid) and channel in (None, point.channel)

    def turn(self) -> bool:
        """Advance the script. Was the connection lost or left just now?"""
        if self._left:
            self._left = False
            return True
        up = self.state() == "up"
        if up and not self._was_up:
            self._on_event("wifi up", ms=round((time.monotonic() - (self._began or 0)) * 1000))
            self._drop_at = time.monotonic() + self.wifi.drops.pop(0) / 1000 if self.wifi.drops else None
            self.wifi._dropped = False
        lost = self._was_up and not up
        if up and (self.wifi._dropped or (self._drop_at is not None and time.monotonic() >= self._drop_at)):
            self._drop_at, up, lost = None, False, True
        self.wifi._dropped = False
        self._was_up = up
        if lost:
            self._on_event("wifi lost")
            self._began = time.monotonic() if self._rejoins else None
            self._lost = "failed"
        return lost

    def until_turn(self) -> float:
        """Seconds until `turn` should be called."""
        if self._began is None:
            return 1.0
        if self._drop_at is not None:
            return max(0.0, min(0.05, self._drop_at - time.monotonic()))
        return 0.02 if not self._was_up else 0.05

    def ask(self, what: str, *arguments: Any) -> Any:
        """Answer a query of the module `network`."""
        if what == "power":
            if not arguments[0]:
                left = self._was_up
                self.off()
                self._left = left
            self.active = bool(arguments[0])
            return None
        if what == "cable":
            self._wired, self.active = bool(arguments[0]), False
            self._began = time.monotonic() if self._wired else None
            self._left, self._was_up, self._lost = self._was_up, False, "idle"
            return None
        if what == "resolver":
            self._resolver = arguments[0]
            return None
        if what == "connect":
            self._asked, self._began, self._lost = arguments, time.monotonic(), "idle"
            self._left, self._was_up = self._was_up, False
            return None
        if what == "disconnect":
            self._began, self._lost = None, "idle"
            self._left, self._was_up = self._was_up, False
            return None
        if what == "rejoin":
            self._rejoins = bool(arguments[0])
            return None
        if what == "static":
            self._static = arguments[0]
            return None
        return self._tell(what, *arguments)

    def _tell(self, what: str, *arguments: Any) -> Any:
        wifi = self.wifi
        up = self.state() == "up"
        if what == "config":
            ssid, _, bssid, channel, _ = self._asked
            joined = next((each for each in self._points() if self._is(each, ssid, bssid, channel)), wifi)
            return {"channel": joined.channel, "ssid": ssid or "", "bssid": joined.bssid}[arguments[0]]
        if what == "address":
            gateway = wifi.address.rsplit(".", 1)[0] + ".1"
            given = self._static or [wifi.address, "255.255.255.0", gateway, gateway]
            return given if up else ["0.0.0.0", "0.0.0.0", "0.0.0.0", "0.0.0.0"]
        state = self.state()
        if self._rejoins and state in ("no access point", "wrong password", "failed"):
            state = "connecting"  # an ESP32 that tries again and again says so, and never why
        return {
            "active": self.active,
            "state": state,
            "rssi": wifi.rssi if self.state() in ("up", "no address") else None,
            "dhcp": self._static is None,
            "scan": [wifi.scan_ms, [self._seen(each) for each in self._points()]],
        }[what]

    def _seen(self, point: Wifi) -> list[Any]:
        name = "" if point.hidden else point.ssid
        return [name, point.bssid, point.channel, point.rssi, _SCANNED[self._port][point.security]]

    def resolve(self, host: str, port: int) -> Any:
        """[address, port]; None: never an answer; a number: the error that getaddrinfo raises."""
        wifi, up = self.wifi, self.state() == "up"
        failure = -202 if self._port == "esp32" else -2
        known = wifi.names.get(f"{host}:{port}") or wifi.names.get(host)
        if not up:
            literal = _is_literal(host)
            return [host, port] if literal else None if self._port == "rp2" else failure
        if wifi.dns == "lies" and self._resolver != wifi.honest and not _is_literal(host):
            return [wifi.portal, port]
        if known:
            return [known[0], known[1] or port]
        if _is_literal(host):
            return [host, port]
        if wifi.dns not in ("works", "lies") and self._resolver != wifi.honest:
            return None if wifi.dns == "never" else failure
        try:
            found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
        except OSError:
            return failure
        return [found[0][4][0], port]


def _is_literal(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
