"""Brokers that run on this machine: for one run on 127.0.0.1, and the trial broker that keeps its sessions.

mosquitto where it is installed, else amqtt in a child process (embedded.py). A broker that `start` returned accepts
connections, one that `stop` returned from is gone, and nothing outlives `close` but a folder that was given.
"""

import collections
import importlib.util
import itertools
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from dormouse_host import files, processes
from dormouse_host.address import BrokerAddress, own_addresses
from dormouse_host.agent import toolchain
from dormouse_host.errors import HostError

HOST = "127.0.0.1"
EMBEDDED_LISTENS = "dormouse: listening"
_ATTEMPTS = 3  # ports tried: another process may take a free one before the broker listens on it
_PORTS = range(10_000, 30_000)  # below the system's ephemeral ports
_EACH = 64  # distance between the first ports of two successive process ids
_given = itertools.count()
_claims: collections.deque[socket.socket] = collections.deque()
_CLAIMS = 256  # a process holds this many of its last ones
TRIAL_SETTINGS = (
    "autosave_interval 1",  # seconds; the default 1800 loses sessions and acknowledged messages in a kill
    "max_queued_messages 10000",  # per sleeping device; more is acknowledged and dropped
    "set_tcp_nodelay true",  # Nagle's algorithm costs a wake about one more round trip
    "log_timestamp_format %Y-%m-%dT%H:%M:%S",
)
_NO_PROGRAM = "mosquitto is not installed: apt-get install mosquitto"


def free_port() -> int:
    """A free port of 127.0.0.1 that no other process is given; HostError where there is none.

    Its UDP port of the same number stays bound here: a claim that the kernel lifts when this process ends.
    """
    for _ in _PORTS:
        port = _PORTS[(os.getpid() * _EACH + next(_given)) % len(_PORTS)]
        claim = socket.socket(type=socket.SOCK_DGRAM)
        try:
            claim.bind((HOST, port))
            with socket.socket() as probe:
                probe.bind((HOST, port))
        except OSError:  # claimed, or in use
            claim.close()
            continue
        _claims.append(claim)
        if len(_claims) > _CLAIMS:
            _claims.popleft().close()
        return port
    raise HostError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1} on {HOST}", 1)


class LocalBroker(processes.Started):
    """A broker in a child process. A context manager."""

    name: str
    _listening: str  # in its log once it accepts connections
    _start_within = 30.0  # seconds; amqtt's imports take one or two, and many times that on a busy machine

    def __init__(self, folder: Path | None = None, port: int = 0) -> None:
        """Nothing runs until `start` or `with`. `folder`, for data and log, stays; without it a temporary one is used.
        `port` 0: any free port.
        """
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="dormouse-broker-", ignore_cleanup_errors=True)
            folder = Path(self._temporary.name)
        self.folder = folder
        self.log = folder / "broker.log"
        self._port = port
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> BrokerAddress:
        """Its address; valid after the first `start`."""
        return BrokerAddress(HOST, self._port)

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._child.pid if self._child else None

    @abstractmethod
    def _argv(self, port: int) -> Sequence[str]:
        """The command that serves `port`."""

    def start(self) -> None:
        """Start it and wait until it accepts connections. HostError with the end of its log where it does not."""
        ports = itertools.repeat(self._port, _ATTEMPTS) if self._port else (free_port() for _ in range(_ATTEMPTS))
        for port in ports:
            with files.fresh(self.log) as log:
                self._child = processes.start(self._argv(port), output=log)
            if self._serves():
                self._port = port
                return
            self.stop()
        raise HostError(f"{self.name} did not start: {self._last_words()}", 1)

    def _serves(self) -> bool:
        """Does our child log in time that it listens? A connection alone could be to another process."""
        deadline = time.monotonic() + self._start_within
        while self._child and self._child.poll() is None and time.monotonic() < deadline:
            if self._listening in self.log.read_text(errors="replace"):
                return True
            time.sleep(0.01)
        return False

    def _last_words(self) -> str:
        lines = [re.sub(r"^\d+: ", "", line.strip()) for line in self.log.read_text(errors="replace").splitlines()]
        return " ".join([line for line in lines if line][-2:]) or "its log is empty"

    def stop(self) -> None:
        """End the process and wait for it; its data stays for the next `start`."""
        if self._child:
            processes.stop(self._child)
            self._child = None

    def close(self) -> None:
        """Stop it and remove its temporary folder."""
        self.stop()
        if self._temporary:
            self._temporary.cleanup()


class Mosquitto(LocalBroker):
    """mosquitto with persistence and its default limits; `settings` are further lines of its configuration."""

    _listening = " running"

    def __init__(
        self,
        program: Path,
        settings: Sequence[str] = (),
        *,
        folder: Path | None = None,
        port: int = 0,
        host: str | None = HOST,
    ) -> None:
        """`host` None: listen on every address of this machine."""
        super().__init__(folder, port)
        self._program = program
        self._settings = settings
        self._host = host
        self.name = self._version()

    def _version(self) -> str:
        """`mosquitto 2.0.11`, as the program prints it."""
        try:
            done = subprocess.run([self._program, "-h"], capture_output=True, text=True, timeout=5, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return "mosquitto"
        words = done.stdout.partition("\n")[0].split()
        return f"mosquitto {words[2]}" if len(words) > 2 else "mosquitto"

    def _argv(self, port: int) -> Sequence[str]:
        lines = [
            f"listener {port} {self._host or ''}".rstrip(),
            "persistence true",
            f"persistence_location {self.folder}/",
            # else root's mosquitto becomes user mosquitto, who cannot write here and whom pdeathsig does not reach
            *(["user root"] if os.geteuid() == 0 else []),
            *(() if any(s.startswith("allow_anonymous") for s in self._settings) else ["allow_anonymous true"]),
            *self._settings,
        ]
        conf = self.folder / "mosquitto.conf"
        files.write(conf, "".join(f"{line}\n" for line in lines))
        return [str(self._program), "-c", str(conf)]


class Embedded(LocalBroker):
    """amqtt, for a machine without mosquitto. It keeps sessions in memory only, which is enough for the demo."""

    name = "embedded amqtt"
    _listening = EMBEDDED_LISTENS

    def __init__(self) -> None:
        if importlib.util.find_spec("amqtt") is None:
            raise HostError(
                "no broker to start: neither mosquitto (apt-get install mosquitto) nor amqtt "
                "(pip install 'dormouse-mqtt[embedded-broker]') is installed"
            )
        super().__init__()

    def _argv(self, port: int) -> Sequence[str]:
        return [sys.executable, "-m", "dormouse_host.broker.embedded", HOST, str(port)]


def trial_folder(port: int) -> Path:
    """The data folder of the trial broker on that port."""
    import platformdirs

    return platformdirs.user_data_path("dormouse", appauthor=False) / f"broker-{port}"


class TrialBroker(Mosquitto):
    """mosquitto on `port`, for this machine or for its network, without credentials.

    Its sessions outlive an orderly end and, but for the last second, a kill.
    """

    def __init__(self, port: int, *, lan: bool) -> None:
        """HostError where mosquitto is missing, the port is taken or the folder cannot be created."""
        program = toolchain.mosquitto()
        if program is None:
            raise HostError(_NO_PROGRAM)
        folder = trial_folder(port)
        _require_free(port, None if lan else HOST)
        super().__init__(program, TRIAL_SETTINGS, folder=files.folder(folder), port=port, host=None if lan else HOST)
        self._lan = lan

    @property
    def urls(self) -> list[str]:
        """Its URLs, for config.json or DORMOUSE_BROKER."""
        return [f"mqtt://{ip}:{self._port}" for ip in (own_addresses() if self._lan else [HOST])]

    def serve(self, stopped: Callable[[float], bool]) -> None:
        """Serve until `stopped(seconds)`, which waits, returns True. HostError where the broker ends by itself."""
        while not stopped(0.2):
            if self._child is None or self._child.poll() is not None:
                raise HostError(f"{self.name} ended: {self._last_words()}")


def _require_free(port: int, host: str | None) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host or "", port))
        except OSError as error:
            raise HostError(f"port {port}: {error.strerror}; choose another --port") from None
