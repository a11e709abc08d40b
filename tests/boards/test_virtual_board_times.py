"""Virtual boards that take a board's times: what takes them, how long, and that the watchdog counts them.

Off by default; the times are those of board.toml or given ones, and change at the next boot.
"""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dormouse_host.errors import HostError
from dormouse_host.virtual.kind import load
from dormouse_host.virtual.times import NAMES, chosen
from support.certificates import Authority, server_context
from support.needs import need_micropython
from support.virtual_boards import TWO, join, put, run

_ASKS = {
    "load": "import big",
    "radio": "import network; network.WLAN(network.STA_IF).active(True)",
    "erase": "f = open('x', 'w'); f.write('x' * 5000); f.close()",
    "program": "f = open('x', 'w'); f.write('x' * 5000); f.close()",
}
_UNTIMED = 300  # ms that each of them takes at most on this machine


def took(board, name: str) -> int:
    """Milliseconds that a board says one of them takes."""
    return int(run(board, f"import time\nt = time.ticks_ms()\n{_ASKS[name]}\nprint(time.ticks_ms() - t)"))


def test_import_that_takes_time_finds_what_it_finds_without(make, tmp_path):
    """The board's own modules stand before this machine's, also below another module and under their older names."""
    board = make("RPI_PICO_W", timed={"load": 50})
    board.wait_boot(after=put(board, tmp_path, "import umachine, time, usocket\n", "inner.py"))
    assert run(board, "import inner, machine; print(inner.umachine is machine, machine.reset_cause())") == "True 3"
    assert "no module" in run(board, "try: import ffi\nexcept ImportError as e: print(e)")


@pytest.mark.parametrize(("name", "ms", "least"), [("load", 100, 800), ("radio", 900, 900), ("erase", 500, 500)])
@TWO
def test_each_time_passes_where_the_board_takes_it(make, tmp_path, kind, name, ms, least):
    """8 KiB of module, one start of the radio, at least one erase: timed only where that was asked for."""
    board = make(kind)
    board.wait_boot(after=put(board, tmp_path, "#" * 8191 + "\n", "big.py"))
    assert took(board, name) < _UNTIMED
    board.timed = {"boot": 0, "load": 0, "radio": 0, "handshake": 0, "erase": 0, "program": 0, name: ms}
    before = len(board.events)
    board.press_reset()
    board.wait_boot(after=before)
    assert least <= took(board, name) < 20 * ms


def test_radio_starts_once_until_it_is_switched_off_for_good(make):
    """The Wi-Fi chip keeps its own firmware over active(False), and loses it with deinit()."""
    board = make("RPI_PICO_W", timed={"radio": 500})
    assert took(board, "radio") >= 500
    again = _ASKS["radio"] + "; network.WLAN(network.STA_IF).active(False)"
    run(board, again)
    assert took(board, "radio") < 300
    run(board, "network.WLAN(network.STA_IF).deinit()")
    assert took(board, "radio") >= 500


def test_program_of_many_pages_takes_the_time_of_each(make):
    """5000 bytes are 20 pages of 256."""
    board = make("RPI_PICO_W", timed={"erase": 0, "program": 30})
    assert took(board, "program") >= 20 * 30


def test_main_begins_after_the_time_to_boot(make, tmp_path):
    """It counts from the reset, so a program reads it from its own ticks."""
    board = make("RPI_PICO_W")
    put(board, tmp_path, "import time; print('ticks', time.ticks_ms())\n")
    board.wait_console("ticks ")
    board.timed = {"boot": 900}
    at = len(board.console)
    board.press_reset()
    board.wait_console("\n", after=board.wait_console("ticks ", after=at))
    assert 900 <= int(board.console[at:].split("ticks ")[1].split()[0]) < 1500


@contextmanager
def broker(folder: Path) -> Iterator[tuple[int, bytes]]:
    """A TLS server that answers each client with its own first five bytes: its port, and its CA's certificate."""
    authority = Authority(folder)
    context = server_context(authority.sign("127.0.0.1"))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    raw, _ = server.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(raw, server_side=True) as peer:
                        peer.sendall(peer.recv(5))
                except OSError:
                    pass  # the board was reset

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], authority.der
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


_SHAKES = """
import machine, socket, time, tls
w = machine.WDT(timeout=1500)
machine.Timer(0).init(mode=machine.Timer.PERIODIC, period=100, callback=lambda _: w.feed())
time.sleep_ms(2000)
c = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
c.verify_mode = tls.CERT_REQUIRED
c.load_verify_locations(open('ca.der', 'rb').read())
seen = []
c.verify_callback = lambda der, depth: seen.append(depth) or 0
s = socket.socket()
s.connect(('127.0.0.1', %d))
w.feed()
before = time.ticks_ms()
s = c.wrap_socket(s, server_hostname='127.0.0.1')
w.feed()
print('shook', time.ticks_ms() - before, 0 in seen)
s.write(b'hello')
print(s.read(5))
while True:
    time.sleep_ms(10)
"""


@pytest.mark.parametrize(("handshake", "bitten"), [(600, False), (2600, True)])
@TWO
def test_watchdog_bites_in_a_handshake_that_takes_longer_than_it(make, tmp_path, kind, handshake, bitten):
    """A timer feeds it as on a board, and is not called in a handshake: one time is under its 1.5 s, the other over."""
    with broker(tmp_path) as (port, ca):
        board = make(kind, timed={"handshake": handshake})
        (tmp_path / "ca.der").write_bytes(ca)
        board.mpremote("cp", str(tmp_path / "ca.der"), ":ca.der")
        board.wait_boot(after=put(board, tmp_path, _SHAKES % port, "shakes.py"))
        join(board)
        before, at = len(board.events), len(board.console)
        board.type("import shakes\r")
        if bitten:
            board.wait_event("watchdog", after=before)
            assert "shook" not in board.console[at:]
            return
        board.wait_console("b'hello'", after=at)
        ms, called = board.console[at:].split("shook ")[1].split()[:2]
        assert (600 <= int(ms) < 1500, called) == (True, "True")
        assert "watchdog" not in [event.name for event in board.events[before:]]


def test_times_come_from_the_board_or_are_given_and_are_off_by_default(make):
    """What the board was measured at, the given ones over it; a wrong one is named."""
    kind = load("RPI_PICO_W")
    board = make("RPI_PICO_W")
    assert board.timed == {} == chosen(kind.times, False)
    board.timed = True
    assert board.timed == {name: getattr(kind.times, name) for name in NAMES[:4]}
    board.timed = {"handshake": 9000}
    assert board.timed == {**chosen(kind.times, True), "handshake": 9000}
    for wrong in ({"sleep": 1}, {"boot": -1}, {"boot": float("nan")}):
        with pytest.raises(HostError, match=f"time {next(iter(wrong))}"):
            board.timed = wrong


BOARD_RUN = [sys.executable, "-m", "dormouse_host.cli", "board", "run", "RPI_PICO_W", "--dir"]


def test_board_run_takes_the_times_that_it_is_given(tmp_path):
    """Over those of board.toml, which --timed alone takes."""
    need_micropython()
    argv = [*BOARD_RUN, str(tmp_path), "--timed", "--time", "radio=1500", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout
            url = json.loads(running.stdout.readline())["url"]
            code = f"import time\n{_ASKS['radio']}\nprint(time.ticks_ms())"
            exec_ = [sys.executable, "-m", "mpremote", "connect", url, "resume", "exec", code]
            done = subprocess.run(exec_, capture_output=True, text=True, timeout=60, check=True)
        finally:
            running.terminate()
            running.communicate(timeout=60)
    assert int(done.stdout) >= 1500 + load("RPI_PICO_W").times.boot


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--time", "radio=x"], "--time radio=x: expected NAME=MILLISECONDS"),
        (["--time", "session=1"], "time session: expected one of boot, load, radio, handshake, erase, program"),
        (["--timed", "--firmware", "x.uf2"], "an emulated board has its own times"),
    ],
)
def test_wrong_time_of_board_run_is_one_line(tmp_path, words, message):
    done = subprocess.run([*BOARD_RUN, str(tmp_path), *words], capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert message in done.stderr
