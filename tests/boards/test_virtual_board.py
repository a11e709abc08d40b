"""Virtual boards as a person and a program meet them: the unmodified mpremote, the heap, the image, Ctrl-C."""

import contextlib
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dormouse_host.errors import HostError
from dormouse_host.virtual.board import VirtualBoard
from dormouse_host.virtual.console import Console
from dormouse_host.virtual.kind import load
from dormouse_host.virtual.script import HELP
from support.needs import need_micropython
from support.virtual_boards import KINDS, TWO, join, put, run


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


def test_two_boards_do_not_share_a_flash(tmp_path):
    """The second one is refused and takes nothing away; once the first one has ended the folder is free."""
    with VirtualBoard("RPI_PICO_W", tmp_path) as first:
        first.wait_boot()
        with pytest.raises(HostError, match="a board runs there already"):
            VirtualBoard("RPI_PICO_W", tmp_path).start()
        assert first.mpremote("exec", "print(1)").strip() == "1"
    with VirtualBoard("RPI_PICO_W", tmp_path) as next_one:
        next_one.wait_boot()


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
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stdin
        assert running.stdout
        try:
            port = json.loads(running.stdout.readline())["port"]
            assert json.loads(running.stdout.readline())["event"] == "power on"
            mpremote = [sys.executable, "-m", "mpremote", "connect", port, "exec", "print(1)"]
            assert subprocess.run(mpremote, capture_output=True, timeout=60, check=True).stdout == b"1\r\n"
            running.stdin.write("help\ncut\n")
            running.stdin.flush()
            names = []
            while "cut" not in names:
                names.append(json.loads(running.stdout.readline())["event"])
            assert running.stderr
            said = [running.stderr.readline() for _ in HELP.splitlines()]
            assert said[0].startswith("dormouse: cut "), said
            assert said[-1].startswith("dormouse: speed TIMES"), said
            assert not any("\\n" in line for line in said)
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
    reset = put(
        board,
        tmp_path,
        "import machine\n"
        "if machine.reset_cause() == 1:\n"
        "    for n in range(50):\n"
        "        with open('log', 'a') as f: f.write('%04d' % n + 'x' * 996)\n"
        "        print('wrote', n)\n",
    )
    board.wait_boot(after=reset)
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


@pytest.mark.parametrize("point", ["", "5", "0:torn", "5:off", "torn"])
def test_a_cut_that_could_never_happen_is_refused(tmp_path, point):
    """A test with it passed, and no power was cut."""
    with contextlib.closing(VirtualBoard("RPI_PICO_W", tmp_path)) as board, pytest.raises(HostError, match="NUMBER"):
        board.cut_at(point)


# ---- packages of a program

PACKAGE = {
    "__init__.py": "from .core import x\nfrom . import core, other\nfrom .deep import y\n",
    "core.py": "x = 5\n",
    "other.py": "from .core import x as z\nimport dht\n",
    "deep/__init__.py": "from ..core import x\nfrom .leaf import y\n",
    "deep/leaf.py": "y = 7\n",
    "deep/wrong.py": "from ..core import x\nfrom .... import pkg\n",
}


@pytest.mark.parametrize("timed", [False, True])
@TWO
def test_a_package_imports_its_own_modules_as_on_a_board(make, tmp_path, kind, timed):
    """It failed with `can't perform relative import`; aioble is such a package."""
    board = make(kind, timed=timed)
    words = ["mkdir", ":pkg", "+", "mkdir", ":pkg/deep"]
    for name, text in PACKAGE.items():
        file = tmp_path / name.replace("/", "_")
        file.write_text(text)
        words += ["+", "cp", str(file), f":pkg/{name}"]
    board.mpremote(*words)
    code = "import pkg.deep.leaf as leaf, pkg; print(pkg.x, pkg.y, pkg.other.z, pkg.core.x, leaf.y, pkg.deep.x)"
    assert board.mpremote("exec", code).split() == ["5", "7", "5", "5", "7", "5"]
    with pytest.raises(HostError, match="ImportError: can't perform relative import"):
        board.mpremote("exec", "import pkg.deep.wrong")
    with pytest.raises(HostError, match="ImportError: no module named 'pkg.nothing'"):
        board.mpremote("exec", "import pkg.nothing")


# ---- what was never started

WRONG = [{"timed": {"soon": 1}}, {"micropython": "new"}, {"speed": 0}]


def test_a_board_that_never_runs_leaves_nothing_open(tmp_path, recwarn):
    """A test whose settings are wrong left a pipe and a socket behind, each time."""
    before = sorted(os.listdir("/proc/self/fd"))
    VirtualBoard("RPI_PICO_W", tmp_path).close()
    for options in WRONG:
        with pytest.raises(HostError):
            VirtualBoard("RPI_PICO_W", tmp_path, **options)  # type: ignore[arg-type]
    gc.collect()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert [str(warning.message) for warning in recwarn.list] == []


def test_a_speed_out_of_range_is_refused_and_the_board_goes_on(make):
    board = make("RPI_PICO_W")
    with pytest.raises(HostError, match="speed 0: expected 1 to 1000"):
        board.speed = 0
    board.check()
    board.speed = 1000


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
