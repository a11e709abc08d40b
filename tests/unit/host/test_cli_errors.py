"""What goes wrong beneath a command: one line on stderr and an exit code, never a traceback; and what a device says is
no order to the terminal.
"""

import os
import select
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from dormouse_host import Fleet, terminal
from dormouse_host.agent import mpy, toolchain
from dormouse_host.cli import app
from dormouse_host.emulated.board import EmulatedBoard
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds, ports, project
from dormouse_host.flash.ports import PortInfo
from dormouse_host.terminal import Console
from dormouse_host.virtual import script
from dormouse_host.virtual.board import VirtualBoard
from support.acceptor import Acceptor

PROGRAM = [sys.executable, "-m", "dormouse_host.cli"]
FULL = "dormouse: standard output: No space left on device\n"
ORDERS = "\x1b]0;owned\x07\x1b[2Jhello"


def run(*words: str, stdout=subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("DORMOUSE", "MQTT"))}
    return subprocess.run(
        [*PROGRAM, *words], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=env
    )


# ---- the machine refuses


def test_stdout_on_a_full_disk_is_one_line_and_exit_code_1(tmp_path):
    """Whether the line leaves at once, or is written when all is done."""
    ledger = ["--db", str(tmp_path / "l.db")]
    assert run("devices", "add", "pump", *ledger).returncode == 0
    send = ["send", "pump", "ping", *ledger]
    for words in (["status", *ledger], ["status", "--json", *ledger], ["--help"], ["--version"], send):
        with Path("/dev/full").open("w") as full:
            done = run(*words, stdout=full)
        assert (done.returncode, done.stderr) == (1, FULL), words


def test_a_reader_that_has_seen_enough_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    for word in ("--help", "--version"):
        done = run(word, stdout=writer)
        assert (done.returncode, done.stderr) == (1, ""), word
    os.close(writer)


@pytest.mark.parametrize(
    "words, closed, code, said",
    [
        ("--version", ">&-", 0, ""),
        ("--version", "<&- >&- 2>&-", 0, ""),
        ("devices add pump", ">&-", 0, ""),
        ("devices add pump", "<&- >&- 2>&-", 0, ""),
        ("status nosuch", ">&-", 2, "device nosuch is not known"),
        ("status nosuch", "2>&-", 2, ""),
        ("demo --help", "2>&-", 0, "Usage:"),
    ],
)
def test_a_stream_that_is_closed_changes_no_exit_code(tmp_path, words, closed, code, said):
    Fleet(str(tmp_path / "l.db")).close()
    script = f'exec "$0" -m dormouse_host.cli {words} {closed}'
    env = {**os.environ, "DORMOUSE_DB": str(tmp_path / "l.db")}
    argv = ["sh", "-c", script, sys.executable]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == code, done.stderr
    assert said in (text := done.stdout + done.stderr)
    assert bool(text) is bool(said)
    assert text.count("dormouse: ") <= 1


@pytest.mark.parametrize(
    "words, stdout, code",
    [
        ("status nosuch", "/dev/null", 2),
        ("status", "/dev/null", 0),
        ("nosuch", "/dev/null", 2),
        ("status --json", "/dev/null", 0),
        ("--help", "/dev/full", 1),
        ("--version", "/dev/full", 1),
    ],
)
def test_a_stderr_that_takes_nothing_changes_no_exit_code(tmp_path, words, stdout, code):
    """Whether its disk is full, or its reader has gone."""
    Fleet(str(tmp_path / "l.db")).close()
    env = {**os.environ, "DORMOUSE_DB": str(tmp_path / "l.db")}
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("w") as full, Path(stdout).open("w") as out:
        for stderr in (full.fileno(), writer):
            done = subprocess.run([*PROGRAM, *words.split()], stdout=out, stderr=stderr, timeout=60, env=env)
            assert done.returncode == code
    os.close(writer)


@pytest.mark.parametrize(
    "error, words",
    [
        (OSError(28, "No space left on device", "/a/b"), "/a/b: No space left on device"),
        (OSError(28, "No space left on device", "/\x1b[2J"), r"/\x1b[2J: No space left on device"),
        (subprocess.TimeoutExpired(["tool"], 60), "Command '['tool']' timed out after 60 seconds"),
    ],
)
def test_what_no_command_has_foreseen_is_one_line(monkeypatch, capsys, error, words):
    def refused(**_: object) -> None:
        raise error

    monkeypatch.setattr(app, "app", refused)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"dormouse: {words}\n"


@pytest.fixture
def slow(monkeypatch):
    """Whatever program is started does not end in its time."""

    def never(argv, *, timeout, **_):
        raise subprocess.TimeoutExpired(argv, timeout)

    monkeypatch.setattr(subprocess, "run", never)


def test_programs_that_do_not_end_are_named(slow, tmp_path):
    board = VirtualBoard("ESP32_GENERIC", tmp_path)
    for work, why in (
        (lambda: mpy.cross_compile("app.py", tmp_path / "app.py", tmp_path / "app.mpy"), r"app\.py was not compiled"),
        (lambda: toolchain._download_umqtt(), "UMQTT="),
        (lambda: board.mpremote("ls", timeout=3), "mpremote ls: not done in 3 s"),
    ):
        with pytest.raises(HostError, match=why):
            work()


# ---- what was asked for cannot be


@pytest.mark.parametrize(
    "words, why",
    [
        (["bench", "--case", "²,1"], "case ²,1: expected two numbers"),
        (["bench", "--case", "1,²"], "case 1,²: expected two numbers"),
        (["bench", "--case", "10,10", "--svg", "/nope/x.svg"], "--svg /nope/x.svg: not writable"),
        (["bench", "--case", "1,1", "--svg", "x.svg"], "--svg is the timeline of the case 10,10"),
        (["board", "run", "ESP32_GENERIC", "--dir", __file__], "File exists"),
        (["broker", "init", __file__, "--name", "x"], "is not a folder"),
        (["broker", "init", "/usr", "--name", "x"], "/usr is not empty: give a new folder"),
    ],
)
def test_what_can_be_seen_beforehand_is_said_beforehand(monkeypatch, capsys, words, why):
    monkeypatch.setattr(sys, "argv", ["dormouse", *words])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


def test_a_port_that_is_taken_is_said_with_the_option_that_chooses_another(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=f"port {port}: Address already in use.*--tcp"):
            VirtualBoard("ESP32_GENERIC", tmp_path, tcp=port)


def test_the_version_is_the_distribution_s():
    done = run("--version")
    stated = (Path(__file__).parents[3] / "pyproject.toml").read_text().partition('\nversion = "')[2].partition('"')[0]
    assert (done.returncode, done.stdout) == (0, f"dormouse {stated}\n")


# ---- what a device says


def test_the_monitor_shows_what_a_terminal_would_act_upon():
    """The board says it again and again: what came before the port was open is thrown away, as with any serial port."""

    def says(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while not select.select([connection], [], [], 0.2)[0]:  # until the monitor leaves
                connection.sendall(f"{ORDERS}\r\n".encode())

    board = Acceptor(says)
    board.start()
    done = run("monitor", f"socket://127.0.0.1:{board.port}", "--seconds", "6")
    board.end()
    assert (done.returncode, set(done.stdout.split("\n"))) == (0, {"\\x1b]0;owned\\x07\\x1b[2Jhello", ""})


def test_the_demo_s_lines_hold_no_orders(capsys):
    console = Console()
    console.message(ORDERS)
    console.note(ORDERS)
    console.step(ORDERS)
    said = capsys.readouterr().out
    assert said.count(r"\x1b]0;owned\x07") == 3
    assert terminal.safe(said.replace("\n", "")) == said.replace("\n", "")


# ---- which port, which broker


def test_without_a_port_the_monitor_takes_the_one_board_of_any_kind():
    pico = PortInfo("/dev/ttyACM0", kinds.load("RPI_PICO_W").usb.ids[0])
    esp = PortInfo("/dev/ttyUSB0", kinds.load("ESP32_GENERIC").usb.ids[0])
    plain = PortInfo("/dev/ttyS0")
    assert ports.choose_any([plain, pico]) == pico
    assert ports.choose_any([esp, plain]) == esp
    with pytest.raises(HostError, match="several boards found, pass --port.*ttyUSB0") as caught:
        ports.choose_any([pico, esp])
    assert caught.value.code == 2
    with pytest.raises(HostError, match="no board found.*ttyS0") as caught:
        ports.choose_any([plain])
    assert caught.value.code == 4


@pytest.mark.parametrize("port, why", [("/dev/typo", "no such port"), ("socket://127.0.0.1:9", "failed to access")])
def test_the_monitor_says_once_what_it_waits_for(port, why):
    done = run("monitor", port, "--seconds", "1")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(f"dormouse: waiting for {port}: {why}")
    assert done.stderr.count("\n") == 1


def test_a_device_s_broker_is_the_option_s_then_the_environment_s_then_the_file_s(tmp_path):
    """As everywhere; what was said for this device, or made for it, is more than what was said for all."""
    (tmp_path / "dormouse.toml").write_text('broker = "mqtt://file"\n[devices.own]\nbroker = "mqtt://own"\n')
    here, kind = project.read(tmp_path), kinds.load("POSIX")

    def host(device: str = "pump", said: str | None = None, **environment: str) -> str:
        over = {} if said is None else {"broker": said}
        return str(project.device_files(here, kind, device, over, environment).full["host"])

    assert host() == "file"
    assert host(DORMOUSE_BROKER="mqtt://env") == "env"
    assert host(said="mqtt://option", DORMOUSE_BROKER="mqtt://env") == "option"
    assert host("own", DORMOUSE_BROKER="mqtt://env") == "own"
    made = tmp_path / "devices" / "made"
    made.mkdir(parents=True)
    (made / "config.json").write_text('{"broker": "mqtt://made"}')
    assert host("made", DORMOUSE_BROKER="mqtt://env") == "made"


# ---- a virtual board's desk


def test_every_line_that_comes_in_one_piece_is_obeyed(monkeypatch, tmp_path):
    """And one that comes in two; a last one without an end is none."""
    reader, writer = os.pipe()
    obeyed = []
    monkeypatch.setattr(script, "obey", lambda board, line: obeyed.append(line))
    pieces = [b"cut\non\ncut\nbatt", b"ery 3\n" + b"x" * 9000 + b"\nreset\non"]

    def stopped() -> bool:
        if pieces:
            os.write(writer, pieces.pop(0))
        elif writer >= 0 and len(obeyed) >= 6:
            return True
        return False

    with os.fdopen(reader) as stdin, VirtualBoard("ESP32_GENERIC", tmp_path) as board:
        monkeypatch.setattr(sys, "stdin", stdin)
        script.serve(board, lambda event: None, stopped)
    os.close(writer)
    assert [line for line in obeyed if "x" not in line] == ["cut", "on", "cut", "battery 3", "reset"]


@pytest.mark.parametrize(
    "line, why",
    [
        ("adc 26", "expected adc PIN VOLTS | free"),
        ("dht 4 21", "expected dht PIN C PERCENT [DHT11]"),
        ("battery", "expected battery VOLTS"),
        ("wifi", "expected wifi off | noap | on; or wifi badpw | drop; or wifi password TEXT"),
        ("dns", "expected dns works | fails | never | lies"),
        ("adcc 26 1", "no such line; `help` on stdin lists them"),
    ],
)
def test_a_line_that_lacks_a_value_is_told_its_form(line, why, tmp_path):
    done = run("board", "run", "RPI_PICO_W", "--dir", str(tmp_path), "--line", line)
    assert (done.returncode, done.stderr) == (2, f"dormouse: --line {line}: {why}\n")


def test_an_emulated_board_has_no_sensors():
    emulated = EmulatedBoard.__new__(EmulatedBoard)
    assert script.obey(emulated, "adc 26 1.2") == script.HELP
    assert script.wrong(emulated, "adc 26 1.2") == "an emulated board has no sensors: leave out --firmware"


@pytest.mark.parametrize("line", ["battery ²", "speed ²", "battery 1.2.3"])
def test_a_number_that_is_none_is_answered(line, tmp_path):
    assert script.obey(VirtualBoard("ESP32_GENERIC", tmp_path), line) == script.HELP
