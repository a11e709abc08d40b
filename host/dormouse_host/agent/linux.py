"""The agent on this machine: CPython as a target, once per wake or staying in memory between wakes.

Must stay true: one state folder has one agent at a time, held by a lock that ends with the process however it ends;
SIGTERM never cuts a wake short, which is bounded by its budget, and ends a pause at once; what the device plans
itself, backoff included, is kept over processes. What stays in memory wakes again whatever the disk says.
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
from dormouse_host.agent import toolchain
from dormouse_host.errors import HostError
from dormouse_host.flash.project import DeviceFiles
from dormouse_host.stopping import Stop

_DUE = "due"  # in the folder: Unix seconds of the planned next wake
_SIGNALS = (signal.SIGTERM, signal.SIGINT)  # they end us after the wake that runs; a second one does not hurry it
_EARLY = 1.0  # seconds that a wake may come before its time: timers and clocks do not agree to the second


class Port(posix.Port):
    """This machine, with the configuration in memory; `slept` is what the wake has asked for, in ms."""

    def __init__(self, folder: Path, files: Mapping[str, bytes], cause: str, emit: Callable[[str], None]) -> None:
        super().__init__(str(folder))
        self._files = files
        self._cause = cause
        self._emit = emit
        self.slept = 0

    def config(self) -> tuple[bytes, bytes]:
        """config.json and secrets.json, as they would lie on a board."""
        return self._files["config.json"], self._files["secrets.json"]

    def cause(self) -> str:
        """Why this wake is."""
        return self._cause

    def emit(self, line: str) -> None:
        """One log line. One that can't be written costs no wake."""
        with suppress(OSError):
            self._emit(line)

    def reset(self) -> None:
        """The next wake follows at once."""
        self.slept = 0

    def sleep(self, ms: int) -> None:
        """End of the wake."""
        self.slept = ms


class Agent:
    """`app` on this machine; `folder` holds its state, its lock and the time of its next wake."""

    def __init__(self, app: Path, folder: Path, device: DeviceFiles, emit: Callable[[str], None]) -> None:
        if not app.is_file() or app.suffix != ".py" or not app.stem.isidentifier():
            raise HostError(f"{app}: a Python file is wanted, named as a module can be", 2)
        self._app = app.resolve()
        self._folder = folder
        self._files = device.contents()
        self._emit = emit
        self._stopped = Stop()
        self._cause = "power"
        self._sleep = int(device.full["connect_every"] * 1000)  # ms until the next wake, as the last one has planned

    def once(self, *, timer: bool) -> int:
        """One wake, which no signal cuts short; its exit code: 0 finished, 1 network or broker, 2 configuration.

        `timer`: a timer has started us, so that nothing is done before the time that the last wake has planned.
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
        """Wake after wake, until SIGTERM or Ctrl-C; the exit code of a stop is 0, of a wrong configuration 2."""
        with locked(self._folder), self._stopped.on(_SIGNALS):
            while not self._stopped.is_set():
                try:
                    if self._wake() == 2:
                        return 2
                except OSError as error:  # a full disk, above all
                    said = {"kind": type(error).__name__, "stage": "state", "why": self._words(error)}
                    with suppress(OSError):
                        self._emit(f"dormouse 0 error {json.dumps(said)}")
                self._cause = "timer"
                self._stopped.wait(self._sleep / 1000)
            return 0

    def _wake(self) -> int:
        """One wake: its exit code. OSError where the state folder takes nothing."""
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
    """This machine's name as a device's id. HostError where it can't be one."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().partition(".")[0])
    if not name.strip("-"):
        raise HostError("this machine has no name: give --device", 2)
    return name


def toolchain_path(*folders: str) -> None:
    """Let umqtt.simple and `folders` be imported, as on a board."""
    for folder in (str(toolchain.umqtt_folder()), *folders):
        if folder not in sys.path:
            sys.path.insert(0, folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """`folder`, made at need, is ours alone. HostError when another agent holds it."""
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
