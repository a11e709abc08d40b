"""The network of a virtual board: Wi-Fi that follows its script, sockets, names and TLS."""

import socket
import ssl
import subprocess
import threading

import pytest

from dormouse_host.virtual.board import Wifi
from dormouse_host.virtual.script import obey
from support.virtual_boards import TWO, join, run


@TWO
def test_wifi_follows_its_script(make, kind):
    """Right, wrong password, no access point, one that refuses: each with the port's own number."""
    esp = kind == "ESP32_GENERIC"
    board = make(kind)
    assert join(board) == ("1010 True" if esp else "3 True")
    assert join(board, "wrong") == ("202 False" if esp else "-3 False")
    assert obey(board, "wifi noap") is None
    assert join(board) == ("201 False" if esp else "-2 False")
    assert obey(board, "wifi on") is None
    assert obey(board, "wifi badpw") is None
    assert join(board) == ("202 False" if esp else "-3 False")
    assert obey(board, "wifi on") is None
    assert join(board) == ("1010 True" if esp else "3 True")


def test_esp32_that_rejoins_by_itself_never_says_why_it_fails(make):
    """Unless `reconnects` is 0, its status is "connecting" for ever; and it is there again when the network is."""
    board = make("ESP32_GENERIC", wifi=Wifi(present=False))
    run(board, "import network, time; w = network.WLAN(0); w.active(True); w.connect('virtual', 'virtual-password')")
    assert run(board, "time.sleep(0.5); print(w.status())") == "1001"
    board.wifi.present = True
    board.wait_event("wifi up")
    board.wifi.drop()
    lost = board.wait_event("wifi lost")
    board.wait_event("wifi up", after=lost.number)


@TWO
def test_slow_dhcp_and_a_static_address(make, kind):
    """An address that never comes is waited for in vain, and one of one's own needs no waiting."""
    board = make(kind, wifi=Wifi(dhcp_ms=None))
    assert join(board).endswith("False")
    run(board, "w.ifconfig(('192.168.4.77', '255.255.255.0', '192.168.4.1', '192.168.4.1'))")
    assert join(board).endswith("True")
    assert run(board, "print(w.ifconfig()[0])") == "192.168.4.77"


SERVER = (
    "import socket\n"
    "s = socket.socket(); s.settimeout(2)\n"
    "try: s.connect(('127.0.0.1', {port})); print('connected')\n"
    "except OSError as e: print('error', e.errno)\n"
)


@TWO
def test_no_connection_without_wifi_and_silence_after_a_drop(make, kind):
    """Before joining there is no route; after a drop the socket is silent, and its peer hears nothing."""
    board = make(kind)
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = SERVER.format(port=server.getsockname()[1])
        assert run(board, program).startswith("error")
        join(board)
        assert run(board, program) == "connected"
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"one")
            assert run(board, "print(s.recv(10))") == "b'one'"
            board.wifi.drop()
            board.wait_event("wifi lost")
            peer.sendall(b"two")
            lost = (
                "import time\nt = time.ticks_ms()\n"
                "try: print(s.recv(10))\n"
                "except OSError as e: print(e.errno, time.ticks_diff(time.ticks_ms(), t) >= 1900)\n"
                "print(s.send(b'three'), w.isconnected())"
            )
            assert run(board, lost).splitlines() == ["110 True", "5 False"]
            peer.settimeout(0.3)
            with pytest.raises(TimeoutError):
                peer.recv(10)


def test_getaddrinfo_that_never_answers_is_ended_by_the_watchdog(make):
    """A Pico W without an address waits for ever, and one whose resolver is silent, too."""
    board = make("RPI_PICO_W")
    before = len(board.events)
    board.type(
        "\x03\x01import machine, socket; machine.WDT(timeout=500); socket.getaddrinfo('broker.example', 1883)\x04"
    )
    board.wait_event("watchdog", after=before)
    board.wait_boot(after=len(board.events) - 1)
    join(board)
    board.wifi.dns = "never"
    before = len(board.events)
    board.type(
        "\x03\x01import machine; machine.WDT(timeout=500); import socket; socket.getaddrinfo('a.example', 1)\x04"
    )
    board.wait_event("watchdog", after=before)


def test_tls_through_the_boards_sockets(make, tmp_path):
    """The interpreter's own TLS over the simulated socket: a handshake, data both ways, and a wrong CA refused."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=broker"]
    argv += ["-addext", "subjectAltName=DNS:broker", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(argv, check=True, capture_output=True)
    der = tmp_path / "ca.der"
    der.write_bytes(ssl.PEM_cert_to_DER_cert(cert.read_text()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    board = make("RPI_PICO_W")
    board.mpremote("cp", str(der), ":ca.der")
    join(board)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=echo_once, args=(server, context))
        thread.start()
        code = (
            "import socket, ssl\n"
            "c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); c.verify_mode = ssl.CERT_REQUIRED\n"
            "c.load_verify_locations(cafile='ca.der')\n"
            f"s = socket.socket(); s.connect(('127.0.0.1', {server.getsockname()[1]}))\n"
            "t = c.wrap_socket(s, server_hostname='broker')\n"
            "t.write(b'hello'); print(t.read(5))"
        )
        assert run(board, code) == "b'HELLO'"
        thread.join(30)


def echo_once(server: socket.socket, context: ssl.SSLContext) -> None:
    """One TLS connection: five bytes come back in capitals."""
    raw, _ = server.accept()
    with context.wrap_socket(raw, server_side=True) as peer:
        peer.sendall(peer.recv(5).upper())
