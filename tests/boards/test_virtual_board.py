"""Virtual boards as a person and a program meet them: the unmodified mpremote, resets, sleep, power cuts, the image."""

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dormouse_host.errors import HostError
from dormouse_host.virtual.board import VirtualBoard, Wifi
from dormouse_host.virtual.console import Console
from dormouse_host.virtual.kind import load
from support.needs import need_micropython

KINDS = ["ESP32_GENERIC", "ESP32_GENERIC_C3", "ESP32_GENERIC_S3", "RPI_PICO2_W", "RPI_PICO_W"]
TWO = pytest.mark.parametrize("kind", ["ESP32_GENERIC", "RPI_PICO_W"])
Maker = Callable[..., VirtualBoard]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Maker]:
    """Makes boards that have started, and ends them."""
    need_micropython()
    boards: list[VirtualBoard] = []

    def new(kind: str, **options) -> VirtualBoard:
        board = VirtualBoard(kind, tmp_path / f"board{len(boards)}", **options)
        boards.append(board)
        board.start().wait_boot()
        return board

    yield new
    for board in boards:
        board.close()


def put(board: VirtualBoard, tmp_path: Path, program: str, name: str = "main.py") -> None:
    """Copy a program to the board with mpremote and reset it."""
    source = tmp_path / "program.py"
    source.write_text(program)
    board.mpremote("cp", str(source), f":{name}", "+", "reset")


def run(board: VirtualBoard, code: str) -> str:
    """What the code prints on the board, without a soft reset before it."""
    return board.mpremote("resume", "exec", code).strip()


@pytest.mark.parametrize("kind", KINDS)
def test_unmodified_mpremote_works_on_every_kind(make, tmp_path, kind):
    """exec, cp there and back, ls, sha256sum, rm, reset over the pty; what lies on the image is read from outside."""
    board = make(kind)
    port = load(kind).port
    told = board.mpremote("exec", "import sys; print(sys.platform, sys.implementation._build, sys.path)")
    assert told.split()[:2] == [port, kind]
    assert told.split(maxsplit=2)[2].strip() == "['', '.frozen', '/lib']"
    sent = tmp_path / "sent.bin"
    sent.write_bytes(bytes(range(256)) * 40)
    back = tmp_path / "back.bin"
    board.mpremote("mkdir", ":d", "+", "cp", str(sent), ":d/x.bin", "+", "cp", ":d/x.bin", str(back))
    assert back.read_bytes() == sent.read_bytes() == board.read_file("/d/x.bin")
    assert "/d/x.bin" in board.files()
    assert "10240 x.bin" in board.mpremote("ls", ":d")
    before = len(board.events)
    board.mpremote("reset")
    board.wait_event("reset", after=before)
    board.wait_boot(after=before)
    board.mpremote("rm", ":d/x.bin")
    assert "/d/x.bin" not in board.files()
    with pytest.raises(HostError, match="not on the board"):
        board.read_file("/d/x.bin")


def test_mpremote_works_over_tcp(make):
    """socket://host:port is the same line."""
    board = make("ESP32_GENERIC")
    argv = [sys.executable, "-m", "mpremote", "connect", board.url, "exec", "print(6 * 7)"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "42"), done.stderr


def test_esp32_deep_sleep_is_true_and_keeps_clock_and_memory(make, tmp_path):
    """The process is gone while it sleeps; cause, wake reason, retained memory and clock are as on the chip."""
    board = make("ESP32_GENERIC", speed=100)
    program = (
        "import machine, time\n"
        "m = machine.RTC()\n"
        "c = machine.reset_cause()\n"
        "print('cause', c, machine.wake_reason(), time.time(), m.memory() if c == 4 else len(m.memory()))\n"
        "m.memory(b'kept')\n"
        "if c == 2: machine.deepsleep(100000)\n"
    )
    before = len(board.events)
    put(board, tmp_path, program)
    board.wait_event("asleep", after=before)
    assert board.state == "asleep"
    at = board.wait_console("cause 4 4 ")
    board.wait_console("\n", after=at)
    seconds, memory = board.console[at:].split()[:2]
    assert int(seconds) >= 100  # counted from 2000, at the power-on of this test
    assert memory == "b'kept'"


def test_pico_w_forgets_everything_over_sleep(make, tmp_path):
    """Two causes, 2021 at every boot, no retained memory, and a deep sleep that ends in a reset by the watchdog."""
    board = make("RPI_PICO_W", speed=100)
    program = (
        "import machine, time\n"
        "print('cause', machine.reset_cause(), time.localtime()[:3], hasattr(machine.RTC(), 'memory'))\n"
        "f = open('n', 'a'); f.write('x'); f.close()\n"
        "if len(open('n').read()) == 1: machine.deepsleep(60000)\n"
    )
    before = len(board.events)
    put(board, tmp_path, program)
    board.wait_event("asleep", after=before)
    awake = board.wait_event("awake", after=before)
    board.wait_event("boot", after=awake.number)
    board.wait_console("cause 3 (2021, 1, 1) False\r\ncause 3 (2021, 1, 1) False")


@TWO
def test_power_cut_is_a_kill_and_flash_stays(make, tmp_path, kind):
    """What was flushed is there after it; the boot that follows is a power-on, and the ESP32's memory is no longer."""
    board = make(kind)
    put(board, tmp_path, "open('kept', 'w').write('x' * 1000)\nimport time\nprint('at work')\ntime.sleep(60)\n")
    board.wait_console("at work")
    board.power_cut()
    assert board.state == "off"
    assert not Path(board.port).exists()
    before = len(board.events)
    board.power_on()
    assert board.wait_boot(after=before).fields == {"cause": "power"}


def test_pico_w_watchdog_bites_during_a_copy(make, tmp_path):
    """It can't be stopped: not by a soft reset, not by mpremote."""
    board = make("RPI_PICO_W")
    put(board, tmp_path, "import machine\nif machine.reset_cause() == 1: machine.WDT(timeout=3000)\nprint('armed')\n")
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(400_000))
    board.power_cycle()
    armed = board.wait_event("watchdog armed")
    with pytest.raises(HostError):
        board.mpremote("cp", str(big), ":big.bin")
    bite = board.wait_event("watchdog", after=armed.number)
    assert bite.at - armed.at >= 2.9
    assert board.wait_event("boot", after=bite.number).fields == {"cause": "watchdog"}


@TWO
def test_watchdog_limit_is_the_boards(make, kind):
    """More than the chip can count is an error on a Pico, and none on an ESP32."""
    board = make(kind)
    told = run(
        board, "import machine\ntry:\n machine.WDT(timeout=8389); print('armed')\nexcept ValueError as e: print(e)"
    )
    assert told == ("armed" if kind == "ESP32_GENERIC" else "timeout exceeds 8388")


def test_pico_w_rejects_sleep_above_71_minutes(make):
    """2^32 microseconds are all that its timer has."""
    board = make("RPI_PICO_W")
    told = run(board, "import machine\ntry: machine.deepsleep(4294968)\nexcept ValueError as e: print(e)")
    assert told == "sleep too long"


def test_pico_w_light_sleep_returns_at_once_with_an_event_pending(make):
    """The Wi-Fi chip has something to say; the second sleep lasts."""
    board = make("RPI_PICO_W", speed=100)
    join(board)
    code = (
        "import machine, time\n"
        "for _ in range(2):\n"
        " t = time.ticks_ms(); machine.lightsleep(20000); print(time.ticks_diff(time.ticks_ms(), t) >= 20000)"
    )
    before = len(board.events)
    board.type("\x03\x01" + code + "\x04")
    board.wait_event("sleep returned at once", after=before)
    board.wait_event("awake", after=before)
    board.wait_console("False\r\nTrue\r\n")


def test_native_usb_port_is_gone_while_the_board_sleeps(make, tmp_path):
    """An ESP32-C3 speaks USB itself; an ESP32 sits behind a bridge that stays."""
    sleeper = "import machine\nif machine.reset_cause() != 4: machine.deepsleep(60000)\n"
    for kind, stays in (("ESP32_GENERIC_C3", False), ("ESP32_GENERIC", True)):
        board = make(kind, speed=20)
        before = len(board.events)
        put(board, tmp_path, sleeper)
        board.wait_event("asleep", after=before)
        assert Path(board.port).exists() is stays
        board.wait_event("awake", after=before)
        board.wait_boot(after=before + 3)
        assert board.mpremote("exec", "print(1)").strip() == "1"


def test_what_is_written_just_before_the_port_goes_is_read(tmp_path):
    """The line that says how the wake ended is the last before a Pico's reset, which takes the port with it."""
    for _ in range(300):
        console = Console(tmp_path / "port")
        console.plug()
        reader = os.open(tmp_path / "port", os.O_RDWR | os.O_NOCTTY)
        console.write(b"asleep\n")
        console.unplug()
        assert os.read(reader, 100) == b"asleep\n"
        console.flush()
        assert not console.ending
        os.close(reader)
        console.close()


def test_rp2040_locks_up_when_its_watchdog_expires_in_sleep(make):
    """Only a power cut helps; the RP2350 resets."""
    for kind, state in (("RPI_PICO_W", "locked"), ("RPI_PICO2_W", "running")):
        board = make(kind, speed=100)
        board.type("\x03\x01import machine; machine.WDT(timeout=5000); machine.lightsleep(60000)\x04")
        bite = board.wait_event("watchdog")
        time.sleep(0.3)
        assert board.state == state
        board.power_cycle()
        board.wait_boot(after=bite.number)


def join(board: VirtualBoard, password: str = "virtual-password", more: str = "") -> str:
    """Join on the board; the last status."""
    return run(
        board,
        "import network, sys, time\nw = network.WLAN(network.STA_IF); w.active(True)\n"
        "if sys.platform == 'esp32': w.config(reconnects=0)\n"
        f"w.connect('virtual', {password!r}{more})\n"
        "for _ in range(300):\n"
        " time.sleep_ms(10)\n"
        " if w.status() not in (0, 1, 2, 1000, 1001): break\n"
        "print(w.status(), w.isconnected())",
    )


@TWO
def test_wifi_follows_its_script(make, kind):
    """Right, wrong password, no access point: each with the port's own number."""
    esp = kind == "ESP32_GENERIC"
    board = make(kind)
    assert join(board) == ("1010 True" if esp else "3 True")
    assert join(board, "wrong") == ("202 False" if esp else "-3 False")
    board.wifi.present = False
    assert join(board) == ("201 False" if esp else "-2 False")


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


def test_a_call_that_the_board_lacks_fails(make):
    """`channel` is the Pico's, not the ESP32's; what only this machine has cannot be imported."""
    board = make("ESP32_GENERIC")
    tries = (
        "import network\n"
        "try: network.WLAN(0).connect('a', 'b', channel=1)\n"
        "except TypeError: print('no channel')\n"
        "for name in ('ffi', 'termios', 'rp2', 'vb_link'):\n"
        " try: __import__(name); print(name)\n"
        " except ImportError: pass\n"
        "import os; print(hasattr(os, 'system'), hasattr(os, 'getenv'))"
    )
    assert run(board, tries).splitlines() == ["no channel", "False False"]


def test_wake_pin_ends_deep_sleep(make, tmp_path):
    """And the wake reason says so."""
    board = make("ESP32_GENERIC")
    program = (
        "import esp32, machine\n"
        "p = machine.Pin(33, machine.Pin.IN)\n"
        "print('woke', machine.wake_reason())\n"
        "esp32.wake_on_ext0(p, 1)\n"
        "if machine.reset_cause() != 4: machine.deepsleep(3600000)\n"
    )
    before = len(board.events)
    put(board, tmp_path, program)
    board.wait_event("asleep", after=before)
    board.set_pin(33, 1)
    assert board.wait_event("awake", after=before).fields == {"by": "pin"}
    board.wait_console("woke 2")


def test_battery_voltage_comes_through_the_adc(make):
    """The Pico measures a third of VSYS; with the radio on the line is the Wi-Fi chip's, and the figure nonsense."""
    board = make("RPI_PICO_W", battery=3.3)
    run(board, "import machine; machine.Pin(25, machine.Pin.OUT, value=1)")
    read = "import machine; print(machine.ADC(29).read_u16() * 3 * 3.3 / 65535)"
    assert abs(float(run(board, read)) - 3.3) < 0.01
    board.battery = 2.4
    assert abs(float(run(board, read)) - 2.4) < 0.01
    join(board)
    assert len({run(board, read) for _ in range(3)}) > 1


@TWO
def test_heap_is_the_boards(make, kind):
    """What a program finds free at the prompt is what board.toml says, within 2 %."""
    free = int(make(kind).mpremote("exec", "import gc; gc.collect(); print(gc.mem_free())"))
    wider = need_micropython().bits // 32  # where only a 64-bit interpreter can be had, every object is as much bigger
    assert abs(free / wider / load(kind).heap - 1) < (0.02 if wider == 1 else 0.1)


def test_board_run_serves_mpremote_and_obeys_lines(tmp_path):
    """The command: a port, events as JSON, and a cut by a line on stdin."""
    need_micropython()
    argv = [sys.executable, "-m", "dormouse_host.cli", "board", "run", "RPI_PICO_W", "--dir", str(tmp_path), "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as running:
        assert running.stdin
        assert running.stdout
        try:
            port = json.loads(running.stdout.readline())["port"]
            assert json.loads(running.stdout.readline())["event"] == "power on"
            mpremote = [sys.executable, "-m", "mpremote", "connect", port, "exec", "print(1)"]
            assert subprocess.run(mpremote, capture_output=True, timeout=60, check=True).stdout == b"1\r\n"
            running.stdin.write("cut\n")
            running.stdin.flush()
            names = []
            while "cut" not in names:
                names.append(json.loads(running.stdout.readline())["event"])
        finally:
            running.terminate()
            running.wait(30)
    assert not Path(port).exists()


@TWO
def test_timers_run_while_the_program_waits(make, kind):
    """In sleep and in poll; a deinit ends them."""
    board = make(kind)
    code = (
        "import machine, time, select\n"
        "n = []\n"
        "t = machine.Timer(0 if kind else -1, period=20, mode=machine.Timer.PERIODIC, callback=lambda t: n.append(1))\n"
        "def ticks(wait, count, before=0):\n"
        "    for _ in range(300):\n"
        "        wait(100)\n"
        "        if len(n) > before + count: break\n"
        "    return len(n)\n"
        "a = ticks(time.sleep_ms, 3); b = ticks(select.poll().poll, 3, a)\n"
        "t.deinit(); c = len(n); time.sleep_ms(100)\n"
        "print(a > 3, b > a + 3, len(n) == c)"
    ).replace("kind", str(int(kind == "ESP32_GENERIC")))
    assert run(board, code) == "True True True"


def test_unknown_board_is_refused():
    """With the names of those that there are."""
    with pytest.raises(HostError, match="RPI_PICO_W"):
        load("ESP8266_GENERIC")


def test_flash_cut_at_an_operation_leaves_what_was_flushed(make, tmp_path):
    """The power goes in the middle of an erase or a program; the file system mounts, and the boot is a power-on."""
    board = make("ESP32_GENERIC")
    put(
        board,
        tmp_path,
        "import machine\n"
        "if machine.reset_cause() == 1:\n"
        "    for n in range(50):\n"
        "        with open('log', 'a') as f: f.write('%04d' % n + 'x' * 996)\n"
        "        print('wrote', n)\n",
    )
    board.wait_boot(after=len(board.events) - 1)
    board.power_cut()
    board.cut_at("137:torn")
    before = len(board.events)
    at = len(board.console)
    board.power_on()
    board.wait_event("cut", after=before)
    wrote = board.console[at:].count("wrote")
    assert 3 < wrote < 50
    text = board.read_file("/log")
    assert len(text) >= 1000 * wrote
    assert [text[n : n + 4] for n in range(0, 1000 * wrote, 1000)] == [b"%04d" % n for n in range(wrote)]
    again = len(board.events)
    board.power_on()
    assert board.wait_boot(after=again).fields == {"cause": "power"}


def test_retained_memory_is_garbage_after_power_loss(make):
    """And differs from one loss to the next; a Pico W has none at all."""
    board = make("ESP32_GENERIC")
    found = set()
    for _ in range(3):
        found.add(run(board, "import machine; print(machine.RTC().memory())"))
        board.power_cycle()
        board.wait_boot(after=len(board.events) - 1)
    assert len(found) == 3


def test_five_reset_causes_of_an_esp32(make, tmp_path):
    """Power-on, machine.reset, watchdog, deep sleep, soft reset: each is told apart."""
    board = make("ESP32_GENERIC", speed=1000)
    put(
        board,
        tmp_path,
        "import machine\n"
        "c = machine.reset_cause()\n"
        "print('cause', c)\n"
        "if c == 2: machine.deepsleep(5000)\n"
        "if c == 4:\n"
        "    machine.WDT(timeout=300)\n"
        "    while True: pass\n"
        "if c == 3: machine.soft_reset()\n",
    )
    board.wait_console("cause 5")
    board.power_cycle()
    board.wait_console("cause 1")
    assert re.findall(r"cause (\d)", board.console) == ["2", "4", "3", "5", "1"]


def test_esp32_watchdog_can_be_armed_again_with_another_time(make):
    """The later one counts: a second watchdog is the first with its time changed."""
    board = make("ESP32_GENERIC")
    board.type("\x03\x01import machine, time; machine.WDT(timeout=5000); machine.WDT(timeout=60000); time.sleep(7)\x04")
    board.wait_event("watchdog armed", where=lambda event: event.fields == {"ms": 60000})
    time.sleep(6)
    assert "watchdog" not in [event.name for event in board.events]
    board.type("\x03\x01machine.WDT(timeout=300); time.sleep(30)\x04")
    board.wait_event("watchdog")


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


def test_clock_runs_on_over_deep_sleep_as_fast_as_sleep_does(make, tmp_path):
    """An hour asleep is an hour on the clock, whatever the speed, and also when the speed changes on the way."""
    board = make("ESP32_GENERIC", speed=1000)
    put(
        board,
        tmp_path,
        "import machine, time\nprint('now', time.time())\nif machine.reset_cause() == 2: machine.deepsleep(3600000)\n",
    )
    board.wait_event("asleep")
    board.speed = 500
    board.wait_event("awake")
    at = board.wait_console("now", after=board.wait_console("now"))
    board.wait_console("\n", after=at)
    first, second = map(int, re.findall(r"now (\d+)", board.console))
    assert 3600 <= second - first < 3660, "what it is awake passes at this machine's speed"


def test_reset_button_is_a_power_on(make):
    """On all of these boards the button resets the whole chip."""
    board = make("ESP32_GENERIC")
    before = len(board.events)
    board.press_reset()
    assert board.wait_boot(after=before).fields == {"cause": "power"}


# ---- Ctrl-C

PRESSED = """
import time
count = 0
print("begun")
while count < 100:
    try:
        while True:
            with open("note", "w") as file:
                file.write(str([bytes(30) for _ in range(40)]))
            time.sleep_ms(1)
    except KeyboardInterrupt:
        count += 1
        print("pressed", count)
print("done", len([bytes(30) for _ in range(40)]))
"""


def test_ctrl_c_a_hundred_times_over_files_and_allocations_leaves_the_interpreter_whole(make):
    """This machine's signal would raise it inside a locked heap or a file system's write."""
    board = make("ESP32_GENERIC")
    board.type("\x01" + PRESSED + "\x04")
    end = board.wait_console("begun")
    for count in range(1, 101):
        board.type("\x03")
        end = board.wait_console(f"pressed {count}", after=end)
    board.wait_console("done 40", after=end)


def test_ctrl_c_ends_what_computes_and_never_waits(make):
    board = make("RPI_PICO_W")
    board.type("\x01print('beg' + 'un')\nwhile True: pass\x04")
    end = board.wait_console("begun")
    board.type("\x03")
    board.wait_console("KeyboardInterrupt", after=end)


def test_what_was_written_before_a_reset_is_read_before_the_port_ends(make):
    """A Pico's last words come in the instant in which its port goes, and the reader may be busy just then."""
    board = make("RPI_PICO_W")
    reader = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
    try:
        before = len(board.events)
        board.type("\x01import machine; print('last ' + 'words'); machine.reset()\x04")
        board.wait_event("reset", after=before)
        time.sleep(0.3)
        read = b""
        with contextlib.suppress(OSError):
            while data := os.read(reader, 4096):
                read += data
    finally:
        os.close(reader)
    assert b"last words" in read
