"""The network behind the emulated access point: 10.0.0.1 is this machine, everything else is where it is.

Must stay true: the board's 127.0.0.1 is never this machine; a name is answered as `Wifi` says; frames that the board
sends after its peer is gone hurt nobody.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from rp2040py.external.cyw43 import nat, net

from dormouse_host.virtual.wifi import Wifi

HERE = "10.0.0.1"  # this machine, as the board sees it
_DNS = 53
_MULTICAST = 224  # the first octet from which on an address means several
_HANDSHAKE, _DATA = 0x16, 0x17  # types of TLS records


class Network(nat.NatBridge):
    """`send(frame)` carries a frame to the board; `tell(name, **fields)` gets the events."""

    def __init__(self, chip: Any, send: Callable[[bytes], None], wifi: Wifi, tell: Callable[..., object]) -> None:
        super().__init__(chip, send)
        self._wifi, self._tell = wifi, tell
        self._tcp._connect_fn = self._connect
        udp: Any = self._udp
        udp._relay = self._relay  # rp2040py asks a name server of the internet
        self._left: list[nat.TcpFlow] = []  # connections of boards that were reset: their peers see nothing of that
        self._handshakes: set[int] = set()  # ports whose TLS handshake is under way

    def reset(self) -> None:
        """The association or the board is gone; its peers do not learn of it."""
        for flow in self._tcp._flows.values():
            if flow.pump_task is not None:
                flow.pump_task.cancel()
        self._left += self._tcp._flows.values()
        self._tcp._flows.clear()

    def close(self) -> None:
        """End all connections."""
        self.reset()
        for flow in self._left:
            if flow.writer is not None:
                flow.writer.close()
        self._left.clear()

    def handle_outbound_ethernet_frame(self, frame: bytes) -> None:
        """A frame from the board."""
        self._look(frame)
        with contextlib.suppress(OSError, RuntimeError):  # rp2040py writes to sockets that the peer has closed
            super().handle_outbound_ethernet_frame(frame)

    def _look(self, frame: bytes) -> None:
        """Tell what matters of a frame; a new connection from a port in use replaces what was there."""
        ethernet = net.parse_ethernet(frame)
        ip = net.parse_ipv4(ethernet.payload) if ethernet and ethernet.ethertype == net.ETHERTYPE_IPV4 else None
        tcp = net.parse_tcp(ip.payload) if ip and ip.proto == net.IP_PROTO_TCP else None
        if ip is None or tcp is None:
            return
        if tcp.flags & net.TCP_SYN and not tcp.flags & net.TCP_ACK:
            flow = self._tcp._flows.pop(nat.TcpFlowKey(tcp.src_port, ip.dst_ip, tcp.dst_port), None)
            if flow is not None:  # a port of before a reset: rp2040py would never answer
                if flow.pump_task is not None:
                    flow.pump_task.cancel()
                self._left.append(flow)
            self._handshakes.discard(tcp.src_port)
            self._tell("connect", port=tcp.dst_port)
        elif tcp.payload[:1] == bytes([_HANDSHAKE]) and tcp.payload[1:2] == b"\x03":
            self._handshakes.add(tcp.src_port)
        elif tcp.payload[:1] == bytes([_DATA]) and tcp.src_port in self._handshakes:
            self._handshakes.discard(tcp.src_port)
            self._tell("handshake done")

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._place(host, port)
        reader, writer = await asyncio.open_connection(host, port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tell("connected", port=port)
        return reader, writer

    def _place(self, host: str, port: int) -> tuple[str, int]:
        host, port = self._wifi.place(host, port)
        return ("127.0.0.1" if host == HERE else host), port

    # ---- names

    async def _relay(
        self, mac: bytes, guest: bytes, port: int, query: bytes, place: tuple[str, int], source: bytes, source_port: int
    ) -> None:
        """A datagram from the board: a question for a name, or one to be carried on."""
        if source_port == _DNS and source == nat.GATEWAY_IP:
            answer = await self._resolve(query)
            if answer is not None:
                datagram = net.pack_udp(source, guest, source_port, port, answer)
                packet = net.pack_ipv4(source, guest, net.IP_PROTO_UDP, datagram)
                self._queue_ethernet_frame(net.pack_ethernet(mac, nat.GATEWAY_MAC, net.ETHERTYPE_IPV4, packet))
            return
        if source[0] >= _MULTICAST:
            return  # mDNS and broadcasts stay on the board's own network
        await nat.UdpRelay._relay(self._udp, mac, guest, port, query, self._place(*place), source, source_port)

    async def _resolve(self, query: bytes) -> bytes | None:
        """The answer to a question of one name (RFC 1035, 4.1); None: no answer ever."""
        if self._wifi.dns == "never" or len(query) < 17:
            return None
        labels, at = [], 12
        while at < len(query) and query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
            at += 1 + query[at]
        question = query[12 : at + 5]
        address = await self._address(".".join(labels))
        head = query[:2] + (b"\x81\x80" if address else b"\x81\x83") + b"\0\1" + (b"\0\1" if address else b"\0\0")
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + address if address else b""
        return head + b"\0\0\0\0" + question + record

    async def _address(self, name: str) -> bytes | None:
        if self._wifi.dns == "lies":
            return socket.inet_aton(self._wifi.portal)
        if name in self._wifi.names or any(known.startswith(name + ":") for known in self._wifi.names):
            return nat.GATEWAY_IP
        if self._wifi.dns != "works":
            return None
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, None, family=socket.AF_INET)
        except OSError:
            return None
        address = str(found[0][4][0])
        return nat.GATEWAY_IP if address.startswith("127.") else socket.inet_aton(address)
