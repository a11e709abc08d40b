"""The host's side of the proof: a mosquitto that can be killed and set back, and relays that are real processes.

Must stay true: a relay is `dormouse relay` as users run it, with at most a planted bug or a full disk beside it;
what it logs is kept, and a line that is no JSON (a traceback) fails the run.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dormouse_host import processes
from dormouse_host.broker.local import Mosquitto

SESSIONS = "mosquitto.db"
TESTS = str(Path(__file__).parents[2])
_TERM = 30.0  # seconds in which a relay ends after SIGTERM


class Broker(Mosquitto):
    """A mosquitto whose end may be sudden, and whose memory may be taken away."""

    def kill(self) -> None:
        """SIGKILL: what it had not saved is gone."""
        if self._child:
            self._child.kill()
            self._child.wait()
            self._child = None

    def remember(self, copy: Path) -> bool:
        """Keep a copy of what it has saved so far. False where that is nothing yet."""
        saved = self.folder / SESSIONS
        if saved.exists():
            shutil.copyfile(saved, copy)
        return saved.exists()

    def set_back(self, copy: Path | None) -> None:
        """While it is down: it knows what it knew at that copy, or nothing."""
        (self.folder / SESSIONS).unlink(missing_ok=True)
        if copy:
            shutil.copyfile(copy, self.folder / SESSIONS)


class RelayProcess:
    """`dormouse relay`. `code`: a folder with another `dormouse_host` to import; `module`: what to run as it."""

    def __init__(self, name: str, db: str, broker: str, log: Path, code: Path | None, module: str) -> None:
        self.name = name
        self.log = log
        argv = [sys.executable, "-m", module, "relay", "--json", "--name", name]
        self._argv = [*argv, "--db", db, "--broker", broker]
        folders = [str(code)] if code else []
        folders.append(TESTS)
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
        self._child: subprocess.Popen[bytes] | None = None
        self._read = 0  # bytes of the log before the running process

    @property
    def alive(self) -> bool:
        """Is it running?"""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start it, unless it runs."""
        if not self.alive:
            self._read = self.log.stat().st_size if self.log.exists() else 0
            with self.log.open("ab") as log:
                self._child = processes.start(self._argv, output=log, env=self._environment)

    def kill(self) -> None:
        """SIGKILL."""
        if self._child:
            self._child.kill()
            self._child.wait()
            self._child = None

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        if self._child:
            self._child.terminate()
            self._child.wait(_TERM)
            self._child = None

    def events(self, since: int = 0) -> list[str]:
        """The names of what it logged, in order; a line that is no JSON as it stands."""
        with self.log.open("rb") as log:
            log.seek(since)
            return [_event(line) for line in log.read().decode(errors="replace").splitlines()]

    @property
    def connected(self) -> bool:
        """Does the running process hold a connection, by what it has said?"""
        ours = [event for event in self.events(self._read) if event in ("connected", "disconnected", "connection over")]
        return self.alive and ours[-1:] == ["connected"]

    def complaints(self) -> list[str]:
        """Lines of its log that are none of its log."""
        return [event for event in self.events() if event.startswith("?")]


def _event(line: str) -> str:
    try:
        return str(json.loads(line)["event"])
    except (ValueError, KeyError):
        return "? " + line
