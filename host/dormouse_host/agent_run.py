"""The agent on this machine: CPython as a target, once per wake or staying in memory between wakes.

Must stay true: one state folder has one agent at a time, held by a lock that ends with the process however it ends;
SIGTERM never cuts a wake short, which is bounded by its budget, and ends a pause at once; what the device plans
itself, backoff included, is kept over processes.
"""

import fcntl
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from dormouse.agent import run as run_agent
from dormouse.errors import ConfigError
from dormouse.ports import posix
from dormouse_host import toolchain
from dormouse_host.errors import HostError
from dormouse_host.project import DeviceFiles

_DUE = "due"  # in the folder: Unix seconds of the planned next wake
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
        """One log line."""
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
        self._stopped = threading.Event()
        self._cause = "power"

    def once(self, *, timer: bool) -> int:
        """One wake; its exit code: 0 finished, 1 network or broker, 2 configuration.

        `timer`: a timer has started us, so that nothing is done before the time that the last wake has planned.
        """
        with locked(self._folder), self._signals():
            if timer:
                if self._left() > _EARLY:
                    return 0
                self._cause = "timer"
            return self._wake()[0]

    def stay(self) -> int:
        """Wake after wake, until SIGTERM or Ctrl-C; the exit code of a stop is 0, of a wrong configuration 2."""
        with locked(self._folder), self._signals():
            while not self._stopped.is_set():
                code, ms = self._wake()
                if code == 2:
                    return code
                self._cause = "timer"
                self._stopped.wait(ms / 1000)
            return 0

    def _wake(self) -> tuple[int, int]:
        """One wake: its exit code, and ms until the next."""
        toolchain_path(str(self._app.parent))
        port = Port(self._folder, self._files, self._cause, self._emit)
        failure = run_agent(self._app.stem, port)
        due = self._folder / f"{_DUE}~"
        due.write_text(json.dumps(time.time() + port.slept / 1000))
        due.replace(self._folder / _DUE)
        return (0 if failure is None else 2 if isinstance(failure, ConfigError) else 1), port.slept

    def _left(self) -> float:
        """Seconds until the planned wake."""
        try:
            return float((self._folder / _DUE).read_text()) - time.time()
        except (OSError, ValueError):
            return 0.0

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop us after the wake that runs; a second one does not hurry it."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stopped.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


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
