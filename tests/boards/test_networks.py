"""Networks of virtual boards: several Wi-Fis, Ethernet, fixed addresses, hidden and other Wi-Fis, portals, resolvers.

Must stay true: real MicroPython, sockets and mosquitto; what the simulation decides is the access point's, the cable's
and the resolver's part alone.
"""

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dormouse_host.virtual.board import VirtualBoard, Wifi
from support.board_device import fields, install
from support.device_folder import Host
from support.needs import need_micropython
from support.sampling import each_board

Maker = Callable[..., tuple[VirtualBoard, int]]
BARN = Wifi(ssid="barn", password="hay-and-straw", bssid="02:00:00:d0:12:06", channel=11)
ALSO = (("attic", "spiders!"), ("barn", "hay-and-straw"))
OLIMEX = "OLIMEX_ESP32_POE"
LAN = "phy_type=LAN8720 phy_addr=0 mdc=23 mdio=18 power=12 ref_clk=17 ref_clk_mode=OUT"


@pytest.fixture
def make(tmp_path: Path, mosquitto) -> Iterator[Maker]:
    """Makes boards with the agent on them, and ends them."""
    need_micropython()
    boards: list[VirtualBoard] = []

    def new(kind: str, wifi: Wifi, host: str = "127.0.0.1", port: int | None = None, **how) -> tuple[VirtualBoard, int]:
        board = VirtualBoard(kind, tmp_path / f"board{len(boards)}", wifi=wifi, speed=600)
        boards.append(board)
        board.start().wait_boot()
        broker = f"mqtt://{host}:{port or mosquitto.address.port}"
        return board, install(board, tmp_path / f"files{len(boards)}", broker, **how)

    yield new
    for board in boards:
        board.close()


def wake(board: VirtualBoard, after: int) -> int:
    """Wait for the end of a wake. The position of the console behind it."""
    return board.wait_console(" asleep ", 60, after=after)


def failure(board: VirtualBoard, after: int) -> tuple[str, str]:
    """Stage and reason of the first error of a wake."""
    wake(board, after)
    error = fields(board, "error", after)[0]
    return error["stage"], error["why"]


@each_board
def test_second_choice_is_joined_after_one_scan_then_without_and_the_first_again_when_it_is_back(kind, make):
    """On a real board's ways: one scan, then the fast way; after an hour a scan that finds the better one."""
    wifi = Wifi(present=False, scan_ms=1500, also=[BARN])
    board, said = make(kind, wifi, also=ALSO, connect_every=1000)
    first = wake(board, said)
    wifi.present = True
    second = wake(board, first)
    waits = [entry["ms"] for entry in fields(board, "asleep", said)]
    assert waits[0] > 1500 > waits[1], board.console[said:]
    at = second
    for _ in range(6):  # an hour and more in wakes of a quarter; each goes to the network that answers
        at = wake(board, at)
        if fields(board, "asleep", second)[-1]["ms"] > 1500:
            break
    else:
        pytest.fail("it never looked for a better network")
    at = wake(board, at)
    assert fields(board, "asleep", second)[-1]["ms"] < 1500, "the better one is remembered"
    assert not fields(board, "error", said)


@each_board
def test_a_wrong_password_in_one_network_and_silence_in_another_leave_time_for_the_third(kind, make):
    """All within the budget of a wake."""
    attic = Wifi(ssid="attic", password="another one", bssid="02:00:00:d0:12:07", channel=1)
    board, said = make(kind, Wifi(present=False, also=[attic, BARN]), also=ALSO)
    wake(board, said)
    (asleep,) = fields(board, "asleep", said)
    assert (asleep["drained"], fields(board, "error", said)) == (True, [])
    assert asleep["ms"] < 20000


@each_board
def test_a_hidden_network_and_one_with_wpa3_alone_are_joined(kind, make):
    """A Pico W is told of WPA3 once nothing else gets it in, and remembers that."""
    board, said = make(kind, Wifi(hidden=True, security="wpa3"))
    end = wake(board, said)
    wake(board, end)
    assert [entry["drained"] for entry in fields(board, "asleep", said)[:2]] == [True, True]
    assert not fields(board, "error", said)


def test_wpa_enterprise_is_told(make):
    """By the scan of an ESP32: no try, no guess."""
    board, said = make("ESP32_GENERIC", Wifi(security="enterprise"))
    assert failure(board, said) == ("join", "MicroPython has no WPA Enterprise")


@each_board
def test_a_fixed_address_needs_no_dhcp(kind, make):
    """Nor does a wake with it wait for one."""
    own = {"address": "192.168.4.77/24", "gateway": "192.168.4.1"}
    board, said = make(kind, Wifi(dhcp_ms=None), **own)
    end = wake(board, said)
    wake(board, end)
    assert [entry["drained"] for entry in fields(board, "asleep", said)[:2]] == [True, True]


# ---- Ethernet


def test_ethernet_is_joined_like_wifi_without_an_access_point(make, mosquitto):
    """And the report has no signal strength, the radio is never on."""
    board, said = make(OLIMEX, Wifi(present=False), ssid="", lan=LAN)
    with Host(mosquitto.address) as host:
        end = wake(board, said)
        report = host.wait("up/wake")
    wake(board, end)
    assert "rssi" not in report
    assert not fields(board, "error", said)
    assert [entry["drained"] for entry in fields(board, "asleep", said)[:2]] == [True, True]


def test_failures_of_ethernet_are_told_apart(make):
    """No cable, no address, settings that are none; and a fixed address helps where none is given."""
    board, said = make(OLIMEX, Wifi(cable=False), ssid="", lan=LAN, budget=3)
    assert failure(board, said) == ("join", "no Ethernet link: is the cable in?")
    board.close()
    board, said = make(OLIMEX, Wifi(dhcp_ms=None), ssid="", lan=LAN, budget=3)
    assert failure(board, said) == ("address", "no address from the network")
    board.close()
    board, said = make(OLIMEX, Wifi(dhcp_ms=None), ssid="", lan=LAN, address="192.168.4.77/24")
    wake(board, said)
    assert fields(board, "asleep", said)[0]["drained"]
    board.close()
    board, said = make(OLIMEX, Wifi(), ssid="", lan="phy_type=LAN9999 mdc=23")
    stage, why = failure(board, said)
    assert (stage, why.startswith("config: lan: ")) == ("join", True), why


# ---- what stands between board and broker


class Portal(socketserver.BaseRequestHandler):
    """What answers every connection as a captive portal's web server does."""

    def handle(self) -> None:
        self.request.settimeout(5)
        self.request.recv(1)
        self.request.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n")
        time.sleep(0.1)


@pytest.fixture
def portal() -> Iterator[tuple[str, int]]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Portal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host, port = server.server_address[:2]
        yield str(host), int(port)
        server.shutdown()


@each_board
def test_a_portal_is_told_from_a_broker_and_a_resolver_of_ones_own_gets_past_a_lie(kind, make, mosquitto, portal):
    """A resolver that has the portal's address for every name; nothing of the queue is lost meanwhile."""
    broker = (mosquitto.address.host, mosquitto.address.port)
    names = {"10.9.9.9:1883": portal, "broker.example:1883": broker}
    board, said = make(kind, Wifi(dns="lies", names=names), "broker.example", 1883)
    stage, why = failure(board, said)
    assert (stage, "captive portal" in why) == ("connack", True), why
    board.wifi.names["10.9.9.9:1883"] = ("127.0.0.1", 9)  # nobody listens there
    at = len(board.console)
    stage, why = failure(board, board.wait_console(" boot ", 60, after=at))
    assert (stage, why) == ("connect", "refused at 10.9.9.9"), why
    board.close()
    board, said = make(kind, Wifi(dns="lies", names=names), "broker.example", 1883, dns="9.9.9.9")
    wake(board, said)
    assert fields(board, "asleep", said)[0]["drained"]


@each_board
def test_a_broker_whose_address_has_changed_is_found_at_the_next_wake(kind, make, mosquitto):
    """No address is kept from wake to wake: the resolver is asked each time."""
    board, said = make(kind, Wifi(names={"broker.example:1883": ("127.0.0.1", 9)}), "broker.example", 1883)
    assert failure(board, said)[0] == "connect"
    board.wifi.names["broker.example:1883"] = (mosquitto.address.host, mosquitto.address.port)
    end = len(board.console)
    wake(board, board.wait_console(" connected ", 60, after=end))
    assert fields(board, "asleep", end)[-1]["drained"]
