"""The agent on this machine under CPython: one wake per call, or staying in memory between wakes.

One state folder has one agent at a time, held by a lock that ends with the process. SIGTERM never cuts a wake short,
which its budget bounds, and ends a pause at once. The device's own plan, backoff included, is kept over processes.
"""

import fcntl
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from dormouse import agent as wake
from dormouse.errors import ConfigError
from dormouse.ports import posix
from dormouse_host import written
from dormouse_host.agent import toolchain
from dormouse_host.errors import HostError
from dormouse_host.processes import Stop

_DUE = "due"  # in the folder: Unix seconds of the planned next wake
_SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
)  # they end the process after the running wake; a second one does not hurry it
_EARLY = 1.0  # seconds that a wake may come early: timers and clocks differ by some


class Port(posix.Port):
    """This machine as a port, with the configuration in memory; `slept` is the sleep that the wake requested, in ms."""

    def __init__(self, folder: Path, files: Mapping[str, bytes], cause: str, emit: Callable[[str], None]) -> None:
        super().__init__(str(folder))
        self._files = files
        self._cause = cause
        self._emit = emit
        self.slept = 0

    def config(self) -> tuple[bytes, bytes]:
        """config.json and secrets.json, as on a board."""
        return self._files["config.json"], self._files["secrets.json"]

    def file(self, name: str) -> bytes | None:
        """CA, certificate and key: from where `dormouse provision` puts them, as they are on a board after a flash."""
        found: bytes | None = self._files.get(name) or super().file(name)
        return found

    def cause(self) -> str:
        """The cause of this wake."""
        return self._cause

    def emit(self, line: str) -> None:
        """Print a log line. One that cannot be written does not end the wake."""
        with suppress(OSError):
            self._emit(line)

    def reset(self) -> None:
        """Request the next wake at once."""
        self.slept = 0

    def sleep(self, ms: int) -> None:
        """End the wake and request a sleep."""
        self.slept = ms


class Agent:
    """`app` on this machine; `folder` holds its state, its lock and the time of its next wake."""

    def __init__(
        self, app: Path, folder: Path, files: Mapping[str, bytes], connect_every: float, emit: Callable[[str], None]
    ) -> None:
        """`files`: config.json and secrets.json, with certificates and keys; `connect_every`: s to the first wake."""
        if app.suffix != ".py" or not app.stem.isidentifier():
            raise HostError(f"{app}: expected a Python file whose name is a valid module name", 2)
        if not app.is_file():
            raise HostError(f"{app}: no such program: dormouse init makes one, app.py", 2)
        written.text(app)  # CPython takes more than a board does
        self._app = app.resolve()
        self._folder = folder
        self._files = files
        self._emit = emit
        self._stopped = Stop()
        self._cause = "power"
        self._sleep = int(connect_every * 1000)  # ms until the next wake, as planned by the last one

    def once(self, *, timer: bool) -> int:
        """Run one wake, which no signal cuts short. The exit code: 0 finished, 1 network or broker, 2 configuration.

        `timer`: started by a timer; does nothing before the time that the last wake has planned.
        """
        with locked(self._folder), self._stopped.on(_SIGNALS):
            if timer:
                if self._left() > _EARLY:
                    return 0
                self._cause = "timer"
            try:
                return self._wake()
            except OSError as error:
                raise HostError(self._words(error)) from None

    def stay(self) -> int:
        """Run wake after wake until SIGTERM or Ctrl-C. The exit code: 0 stopped, 2 configuration."""
        with locked(self._folder), self._stopped.on(_SIGNALS):
            while not self._stopped.is_set():
                try:
                    if self._wake() == 2:
                        return 2
                except OSError as error:  # above all a full disk
                    said = {"kind": type(error).__name__, "stage": "state", "why": self._words(error)}
                    with suppress(OSError):
                        self._emit(f"dormouse 0 error {json.dumps(said)}")
                self._cause = "timer"
                self._stopped.wait(self._sleep / 1000)
            return 0

    def _wake(self) -> int:
        """Run one wake and return its exit code. OSError where the state folder cannot be written."""
        toolchain_path(str(self._app.parent))
        port = Port(self._folder, self._files, self._cause, self._emit)
        failure = wake.Agent(port).run(self._app.stem)
        self._sleep = port.slept
        due = self._folder / f"{_DUE}~"
        due.write_text(json.dumps(time.time() + port.slept / 1000))
        due.replace(self._folder / _DUE)
        return 0 if failure is None else 2 if isinstance(failure, ConfigError) else 1

    def _words(self, error: OSError) -> str:
        return f"{error.filename or self._folder}: {error.strerror or error}"

    def _left(self) -> float:
        """Seconds until the planned wake."""
        try:
            return float((self._folder / _DUE).read_text()) - time.time()
        except (OSError, ValueError):
            return 0.0


def default_id() -> str:
    """This machine's name as a device's id. HostError where it has none."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().partition(".")[0])
    if not name.strip("-"):
        raise HostError("this machine has no host name: use --device", 2)
    return name


def toolchain_path(*folders: str) -> None:
    """Put umqtt.simple and `folders` on the import path."""
    for folder in (str(toolchain.umqtt_folder()), *folders):
        if folder not in sys.path:
            sys.path.insert(0, folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock `folder`, created if missing. HostError when another agent holds it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(f"{error.filename or folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise HostError(f"{folder}: another agent runs on this state (process {holder})") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
