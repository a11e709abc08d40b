"""One row: a device that was well, the program that comes onto it, and its wakes from then on.

Must stay true: the device is a virtual board or real processes, its broker a mosquitto of its own, its session there
older than the program; nothing of the agent is replaced. Whoever starts a process here is what a service manager is:
it ends one that takes too long, and starts the next.
"""

import json
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from dormouse_host.agent import process
from dormouse_host.agent.log import parse
from dormouse_host.broker.local import Mosquitto
from dormouse_host.errors import HostError
from dormouse_host.virtual.board import VirtualBoard
from proofs.unruly.oracle import Asker, Told, answered, has_told, judge, queue
from proofs.unruly.program import HEAD, Program
from support.board_device import install
from support.device_folder import COMES, Device, DeviceInterpreter, Host
from support.needs import need_mosquitto
from support.on_device import MEMORY

BUDGET, TOTAL, WATCHDOG = 5, 12, 10  # s
HOLD = 5  # the pin that keeps a board at its prompt while the program comes
CONFIG: dict[str, Any] = {
    **{"budget": BUDGET, "total": TOTAL, "watchdog": WATCHDOG, "connect_every": 60, "clock": "none"},
    "hold_pin": HOLD,
}
AWAKE = 3 + 2 * TOTAL + WATCHDOG + 9 + 5  # s: window, handlers, watchdog and a Pico's second one, a busy machine
SPEED = 1000
BOOTS = 14  # after which a row is red
SECONDS = 150  # … and so long after the program came
COPIES = 3  # tries of mpremote
KILLED = 20  # s after which a process is ended: TimeoutStartSec
MEMORY_LIMIT = 512 << 20  # bytes of a process
WELL = HEAD + "    pass\n"
OUTPUT = 200_000  # characters of a process's output that are kept


@dataclass
class Row:
    """What a program came to on a port."""

    program: Program
    port: str
    faults: list[str]
    wakes: int = 0
    seconds: float = 0.0
    awake: float = 0.0
    output: str = ""
    told: str = ""


@dataclass
class World:
    """What all rows share: on each port a device that was well once."""

    folder: Path
    states: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def golden(self, port: str) -> Path:
        """The folder of the device that is well on `port`, made at the first call."""
        with self.lock:  # compiling is not for several threads at once
            folder = self.folder / port
            if port not in self.states:
                self.states[port] = (_well_process if port == "posix" else _well_board)(port, folder)
            return folder


@contextmanager
def new_world() -> Iterator[World]:
    """A world that ends with the `with` block."""
    with tempfile.TemporaryDirectory(prefix="dormouse-unruly-", dir=MEMORY) as folder:
        yield World(Path(folder))


def _well_board(port: str, folder: Path) -> str:
    """A board whose first wake went well, switched off; its state's name."""
    with Mosquitto(need_mosquitto()) as broker, VirtualBoard(port, folder / "board", speed=SPEED) as board:
        board.start().wait_boot()
        with Host(broker.address) as host:
            said = install(board, folder / "files", f"mqtt://127.0.0.1:{broker.address.port}", WELL, **CONFIG)
            board.wait_console(" asleep ", 60, after=said)
            return str(host.wait("up/wake")["state"])


def _well_process(port: str, folder: Path) -> str:
    """The same as a process."""
    folder.mkdir(parents=True)
    with Mosquitto(need_mosquitto()) as broker, Host(broker.address) as host:
        device = Device(folder / "device", DeviceInterpreter("cpython"), broker.address.url, WELL, **CONFIG)
        device.secrets()
        device.wake()
        return str(host.wait("up/wake")["state"])


def _subscribe(broker: Mosquitto) -> None:
    """The device has been there: its session is known."""
    ready = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, "dev", clean_session=False)
    client.on_connect = lambda client, *_: client.subscribe("dormouse/dev/down/#", 1)
    client.on_subscribe = lambda *_: ready.set()
    client.connect(broker.address.host, broker.address.port)
    client.loop_start()
    assert ready.wait(COMES)
    client.disconnect()
    client.loop_stop()


def run(world: World, program: Program, port: str) -> Row:
    """The row; what goes wrong in the row itself is a fault, too."""
    row = Row(program, port, [])
    began = time.monotonic()
    try:
        golden = world.golden(port)
        state = world.states[port]
        with (
            tempfile.TemporaryDirectory(prefix="row-", dir=world.folder) as name,
            Mosquitto(need_mosquitto()) as broker,
        ):
            _subscribe(broker)
            with Host(broker.address, keep=True) as host:
                host.send(*queue(program, state))
                player = _Processes if port == "posix" else _Board
                player(row, golden, Path(name), broker, host, state).play()
                row.told = "\n".join(f"{leaf} {json.dumps(value)}" for leaf, value, _ in host.messages)
    except Exception as error:
        row.faults.append(f"{type(error).__name__}: {error}")
    row.seconds = time.monotonic() - began
    return row


class _Player:
    """Lets a device wake until it has answered and slept, or for too long."""

    def __init__(self, row: Row, golden: Path, folder: Path, broker: Mosquitto, host: Host, state: str) -> None:
        self.row, self.golden, self.folder, self.broker, self.host = row, golden, folder, broker, host
        self.asker = Asker(host, state, row.program.later)

    @property
    def late(self) -> int:
        """As for `judge`."""
        return min(1, self.asker.sent)

    def is_over(self, boots: list[Told]) -> bool:
        """Has it told what was at fault, or had as many wakes as it may take?"""
        program = self.row.program
        woken = sum(boot.connects for boot in boots)
        return has_told(program, self.host, self.late) or woken >= program.wakes + self.late

    def judge(self, boots: list[Told], asleep: bool, awake: float) -> None:
        """Fill in the row."""
        self.row.wakes, self.row.awake = sum(boot.connects for boot in boots), awake
        bound = AWAKE + self.row.program.window
        self.row.faults += judge(self.row.program, self.host, boots, asleep, awake, bound, self.late)


class _Processes(_Player):
    """The device as processes, one after the other."""

    def play(self) -> None:
        program = self.row.program
        folder = self.folder / "device"
        shutil.copytree(self.golden / "device", folder)
        (folder / "app.py").write_text(program.text("posix"))
        for name, text in program.files.items():
            (folder / name).write_text(text)
        config = {**json.loads((folder / "config.json").read_text()), "broker": self.broker.address.url}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "state" / "good").write_text(json.dumps(config) + "\0{}")
        boots: list[Told] = []
        awake, ended = 0.0, False
        while len(boots) < BOOTS and not (ended and answered(self.host) and self.is_over(boots)):
            told, seconds, ended = self._wake(folder)
            boots.append(told)
            awake = max(awake, seconds)
            time.sleep(0.2)  # what it has published arrives
            self.asker.look(len(boots) + 1)
        self.judge(boots, ended, awake)

    def _wake(self, folder: Path) -> tuple[Told, float, bool]:
        """What one process told, how long it took, and whether it ended by itself."""
        argv, environment = process.command("cpython", folder)
        began = time.monotonic()
        with (self.folder / "output").open("wb") as output:
            child = subprocess.Popen(
                argv,
                env={**environment, "DORMOUSE_CAUSE": "timer"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_limit,
                cwd=folder,
            )
            try:
                child.wait(KILLED)
                ended = child.returncode >= 0
            except subprocess.TimeoutExpired:
                ended = False
            finally:
                child.kill()
                child.wait()
        seconds = time.monotonic() - began
        with (self.folder / "output").open(errors="replace") as output:
            text = output.read(OUTPUT)
        self.row.output += f"{text}\n--- {seconds:.1f} s, exit code {child.returncode}\n"
        return Told([event for event in map(parse, text.splitlines()) if event]), seconds, ended


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Board(_Player):
    """The device as a virtual board."""

    def play(self) -> None:
        row, program = self.row, self.row.program
        (self.folder / "board").mkdir()
        shutil.copy(self.golden / "board" / "flash.img", self.folder / "board")
        files = {"app.py": program.text(row.port), **program.files}
        files["config.json"] = json.dumps(
            {
                **json.loads((self.golden / "files" / "config.json").read_text()),
                "broker": f"mqtt://127.0.0.1:{self.broker.address.port}",
            }
        )
        for name, text in files.items():
            (self.folder / name).write_text(text)
        with VirtualBoard(row.port, self.folder / "board", speed=SPEED) as board:
            board.set_pin(HOLD, 0)
            board.start().wait_boot()
            try:
                names = [str(self.folder / name) for name in files]
                (self.folder / "good").write_text(
                    files["config.json"] + "\0" + (self.golden / "files" / "secrets.json").read_text()
                )
                _copy(board, names, str(self.folder / "good"))
                board.set_pin(HOLD, None)
                before = len(board.events)
                board.mpremote("resume", "reset")
                first = board.wait_event("reset", 60, after=before).number
                said = len(board.console)
                asleep = self._watch(board, first, said)
            finally:
                row.output = board.console[-OUTPUT:]
            self.judge(_boots(board.console[said:]), asleep, _awake(board, first))
            row.output += "\n" + "\n".join(str(event) for event in board.events[first:])

    def _watch(self, board: VirtualBoard, first: int, said: int) -> bool:
        """Until it has answered, slept after that, and told what was at fault; False where that takes too long."""
        end = time.monotonic() + SECONDS + self.row.program.window
        slept = -1
        while time.monotonic() < end and sum(event.name == "boot" for event in board.events[first:]) < 3 * BOOTS:
            self.asker.look(sum(event.name == "boot" for event in board.events[first:]))
            if slept < 0 and answered(self.host):
                slept = len(board.events)
            if slept >= 0:
                with suppress(HostError):
                    board.wait_event("asleep", 1, after=max(first, slept - 2))
                    if self.is_over(_boots(board.console[said:])):
                        return True
            time.sleep(0.1)
        return False


def _copy(board: VirtualBoard, names: list[str], good: str) -> None:
    """The program's files, and the copy of its settings; again where a busy machine has kept mpremote from it."""
    for left in range(COPIES - 1, -1, -1):
        try:
            board.mpremote("cp", *names, ":", "+", "cp", good, ":state/good")
            return
        except HostError:
            if not left:
                raise


def _boots(console: str) -> list[Told]:
    """What each boot told: a line of `boot` begins one."""
    boots: list[Told] = []
    for line in console.splitlines():
        event = parse(line[max(line.find("dormouse "), 0) :])
        if event and event.name == "boot":
            boots.append(Told())
        if event and boots:
            boots[-1].events.append(event)
    return boots


def _awake(board: VirtualBoard, first: int) -> float:
    """Seconds of the longest time awake."""
    longest, since = 0.0, None
    for event in board.events[first:]:
        if event.name in ("boot", "awake"):
            since = event.at
        elif event.name in ("asleep", "reset", "watchdog", "cut") and since is not None:
            longest, since = max(longest, event.at - since), None
    return longest
