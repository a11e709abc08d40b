"""The Wi-Fi chip of an emulated Pico W: rp2040py's CYW43439, joining the access point that `Wifi` describes.

Must stay true: what is not associated carries no frame in either direction; the chip has lost everything after its
power was off. Numbers of commands and events are those of the driver (cyw43_ll.c, cyw43_ctrl.c).
"""

from collections.abc import Callable
from typing import Any

from rp2040py.external.cyw43 import bus as gspi

from dormouse_host.virtual.wifi import Wifi

_GET_BSSID, _GET_RSSI, _SET_PASSPHRASE = 23, 127, 268
_NO_NETWORK, _HANDSHAKE_FAILED = 3, 8  # statuses of SET_SSID and PSK_SUP
_KEYED = 6
_MIC_FAILURE = 14  # reason, IEEE 802.11
_MS = 1e6  # ns


class Radio(gspi.GSPIBus):
    """`clock`: the chip's; `tell(name, **fields)` gets the events."""

    def __init__(self, clock: Any, wifi: Wifi, tell: Callable[..., object]) -> None:
        super().__init__()
        self._clock, self._tell = clock, tell
        self.wifi = wifi
        self.on = False
        self.joined = False
        self.on_gpio: Callable[[int, int], object] = lambda pin, level: None  # pins of this chip: 0 is the LED
        self._passphrase = self._name = b""
        self._alarms: list[Any] = []

    def power_off(self) -> None:
        """WL_ON fell: every register, and the association, are gone."""
        super().power_off()
        if self.on:
            self._tell("radio off")
        self.on = self.joined = False
        self._passphrase = self._name = b""
        for alarm in self._alarms:
            alarm.cancel()
        self._alarms.clear()

    def power_up(self) -> None:
        """WL_ON rose."""
        self.on = True
        self._tell("radio on")

    def look(self) -> None:
        """Carry out what was done to the access point: `drop()`, or that it is not present any more."""
        dropped, self.wifi._dropped = self.wifi._dropped, False
        if self.joined and (dropped or not self.wifi.present):
            self.lose()

    def lose(self) -> None:
        """The connection is lost, as when the access point goes."""
        self.joined = False
        self._tell("wifi lost")
        self._event(gspi.CYW43_EV_LINK, 0)
        self._event(gspi.CYW43_EV_DISASSOC, 0)

    def queue_rx_ethernet_frame(self, ethernet_frame: bytes, *, interface: int = 0) -> None:
        """A frame for the board."""
        if self.joined:
            super().queue_rx_ethernet_frame(ethernet_frame, interface=interface)

    def _event(self, event: int, status: int, **more: Any) -> None:
        self.queue_rx_packet(self._build_async_event(event, status, **more))

    def _later(self, ms: float, action: Callable[[], None]) -> None:
        """After so many milliseconds of the board's time, unless the chip loses power."""

        def due() -> None:
            self._alarms.remove(alarm)
            action()

        alarm = self._clock.create_alarm(due)
        self._alarms.append(alarm)
        alarm.schedule(max(ms, 0.01) * _MS)

    def _write_wlan(self, data: bytes) -> None:
        """A packet from the driver."""
        start = gspi.SDPCM_HEADER_LEN
        if len(data) <= start:
            return
        if data[5] & 0x0F == gspi.DATA_HEADER:
            if not self.joined:
                self.queue_rx_packet(self._build_flow_control_response())
                return
        elif data[5] & 0x0F == gspi.CONTROL_HEADER and len(data) >= start + gspi.IOCTL_HEADER_LEN:
            command = int.from_bytes(data[start : start + 4], "little")
            payload = bytes(data[start + gspi.IOCTL_HEADER_LEN :])
            if self._answered(command, data, payload):
                return
            super()._write_wlan(data)
            if command == gspi.WLC_SET_VAR and payload.startswith(b"join\0"):
                self._join(payload[5:])  # rp2040py knows only SET_SSID: connect(bssid=…) would never join
            return
        super()._write_wlan(data)

    def _answered(self, command: int, data: bytes, payload: bytes) -> bool:
        """What the board asks of its connection, or keeps for the join. True where that was the answer."""
        if command == _SET_PASSPHRASE:
            length = int.from_bytes(payload[:2], "little")
            self._passphrase = payload[4 : 4 + length]
        if command == gspi.WLC_SET_SSID:
            self._name = payload[4 : 4 + payload[0]]
        if command == gspi.WLC_DISASSOC:
            self.joined = False
        if command == gspi.WLC_SET_VAR and payload.startswith(b"gpioout\0"):
            mask, levels = int.from_bytes(payload[8:12], "little"), int.from_bytes(payload[12:16], "little")
            for pin in range(3):
                if mask & 1 << pin:
                    self.on_gpio(pin, levels >> pin & 1)
        answer = {
            _GET_RSSI: self.wifi.rssi.to_bytes(4, "little", signed=True),
            _GET_BSSID: bytes.fromhex(self.wifi.bssid.replace(":", "")),
        }.get(command)
        if answer is None:
            return False
        at = gspi.SDPCM_HEADER_LEN + 8
        flags = int.from_bytes(data[at : at + 4], "little")
        number = (flags & gspi.CDCF_IOC_ID_MASK) >> gspi.CDCF_IOC_ID_SHIFT
        self.queue_rx_packet(self._build_ioctl_success_response(number, len(payload), response_prefix=answer))
        return True

    # ---- scanning and joining

    def _queue_scan_events(self) -> None:
        """The board scans."""
        self._tell("scan")

        def found() -> None:
            if self.wifi.present:
                result = self._build_scan_result_bytes()
                self._event(gspi.CYW43_EV_ESCAN_RESULT, gspi.CYW43_STATUS_PARTIAL, scan_result=result)
            self._event(gspi.CYW43_EV_ESCAN_RESULT, gspi.CYW43_STATUS_SUCCESS)

        self._later(self.wifi.scan_ms, found)

    def _build_scan_result_bytes(self) -> bytes:
        """Our access point, at the places of rp2040py's."""
        result = bytearray(super()._build_scan_result_bytes())
        name = self.wifi.ssid.encode()[:32]
        result[20:26] = bytes.fromhex(self.wifi.bssid.replace(":", ""))
        result[30:63] = bytes([len(name)]) + name.ljust(32, b"\0")
        result[84:86] = self.wifi.channel.to_bytes(2, "little")
        result[90:92] = self.wifi.rssi.to_bytes(2, "little", signed=True)
        return bytes(result)

    def _queue_join_events(self) -> None:
        """SET_SSID: the name alone."""
        self._associate(self.wifi.present and self._name == self.wifi.ssid.encode())

    def _join(self, payload: bytes) -> None:
        """The variable `join`: name and BSSID (wl_join_params)."""
        length = int.from_bytes(payload[:4], "little")
        name, bssid = payload[4 : 4 + min(length, 32)], payload[56:62]
        right = name == self.wifi.ssid.encode() and bssid == bytes.fromhex(self.wifi.bssid.replace(":", ""))
        self._associate(self.wifi.present and right)

    def _associate(self, found: bool) -> None:
        wifi = self.wifi
        right = not wifi.refuses and self._passphrase == wifi.password.encode()
        self._tell("join")

        def joined() -> None:
            if not found:
                self._event(gspi.CYW43_EV_SET_SSID, _NO_NETWORK)
                return
            for event in (gspi.CYW43_EV_SET_SSID, gspi.CYW43_EV_AUTH, gspi.CYW43_EV_ASSOC):
                self._event(event, gspi.CYW43_STATUS_SUCCESS)
            self._event(gspi.CYW43_EV_LINK, gspi.CYW43_STATUS_SUCCESS, flags=int(right))
            if right:
                self.joined = True
                self._event(gspi.CYW43_EV_PSK_SUP, _KEYED)
                self._tell("wifi up")
            else:
                self._event(gspi.CYW43_EV_PSK_SUP, _HANDSHAKE_FAILED, reason=_MIC_FAILURE)

        self._later(wifi.join_ms, joined)
