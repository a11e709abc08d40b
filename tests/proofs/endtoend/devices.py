"""A device of the proof: a folder like a board's flash, processes that are its wakes, and what it truly did.

Must stay true: the truth (`effects`, `readings`) lies outside the folder that the agent writes to, survives a wipe,
and is read only after the process is gone; a process that outlives its time fails the run.
"""

import json
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dormouse.ports.storage import Storage
from dormouse.records import Telemetry
from dormouse_host import processes
from dormouse_host.agent import mpy, process

BOARD = Path(__file__).parent / "board"
HUNG = 60.0  # seconds; a wake has 5
CONFIG = {"budget": 5, "total": 30, "patience": 1500}


class Hung(Exception):
    """A wake did not end."""


@dataclass
class Truth:
    """What a device did. `order` holds the lines of `effects`; `readings` counts those that were taken."""

    begun: Counter[int] = field(default_factory=Counter)
    effects: Counter[int] = field(default_factory=Counter)
    ended: Counter[int] = field(default_factory=Counter)
    order: list[tuple[str, int]] = field(default_factory=list)
    readings: int = 0


class Device:
    """`kind` is its interpreter. `agent` contains the package `dormouse`, the project's own by default."""

    def __init__(self, folder: Path, kind: process.Kind, broker: str, agent: Path) -> None:
        self.id = folder.name
        self.folder = folder
        self.kind: process.Kind = kind
        self.clock = "0"
        self.cuts = 0
        self.wakes = 0
        self.streams: dict[str, int] = {}  # of wiped states: the number of the newest record
        self._library = mpy.library(agent) if kind == "micropython" else agent
        self._child: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        shutil.copyfile(BOARD / "effects_app.py", folder / "app.py")
        self._config: dict[str, Any] = {"id": self.id, "broker": broker, **CONFIG}
        self.configure()

    def configure(self, **changed: object) -> None:
        """Write its configuration, with these keys changed for good."""
        self._config.update(changed)
        (self.folder / "config.json").write_text(json.dumps(self._config))

    def pad(self, size: int) -> None:
        """From now on its records are longer by so many characters."""
        (self.folder / "pad").write_text("x" * size)

    # ---- wakes

    def start(self, cause: str = "power", wakes: int = 1) -> None:
        """Begin a wake, or several in a row in one process."""
        arguments = [str(BOARD / "wakes.py"), str(self.folder), str(wakes), self.clock]
        argv, environment = process.interpreter(self.kind, arguments, [self._library])
        with (self.folder / "log").open("ab") as log:
            self._child = processes.start(argv, output=log, env={**environment, "DORMOUSE_CAUSE": cause})
        self.wakes += wakes

    def end(self) -> None:
        """Wait for the end of what was started."""
        if self._child:
            try:
                self._child.wait(HUNG)
            except subprocess.TimeoutExpired:
                self.close()
                raise Hung(f"{self.id} neither sleeps nor dies") from None
            self._child = None

    def cut(self) -> None:
        """The power goes, wherever it is."""
        if self._child:
            self.cuts += self._child.poll() is None
        self.close()

    def cut_at_work(self, after: float) -> None:
        """The power goes so many seconds after a handler has begun, or when the wake is over."""
        begun = len(self._lines("effects"))
        deadline = time.monotonic() + HUNG
        while self._child and self._child.poll() is None and time.monotonic() < deadline:
            if len(self._lines("effects")) > begun:
                time.sleep(after)
                break
            time.sleep(0.001)
        self.cut()

    def close(self) -> None:
        """Nothing of it runs any more."""
        if self._child:
            self._child.kill()
            self._child.wait()
            self._child = None

    def wipe(self) -> None:
        """The flash is erased; what the device did stays done."""
        self.close()
        if (self.folder / "state").exists():
            self.streams[self.state] = self.stored()
            shutil.rmtree(self.folder / "state")

    # ---- the truth

    @property
    def _storage(self) -> Storage:
        return Storage(str(self.folder / "state"))

    @property
    def state(self) -> str:
        """The random name that this flash has."""
        from dormouse.inbox import Inbox

        return str(Inbox(self._storage, bytes, 64, lambda name: None).state)

    def stored(self) -> int:
        """The number of the newest record on its flash."""
        return int(Telemetry(self._storage, 0).last)

    def truth(self) -> Truth:
        """What it did so far."""
        truth = Truth()
        kinds = {"begin": truth.begun, "effect": truth.effects, "end": truth.ended}
        for line in self._lines("effects"):
            word, k = line.split()
            kinds[word][int(k)] += 1
            truth.order.append((word, int(k)))
        truth.readings = len(self._lines("readings"))
        return truth

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def tracebacks(self) -> int:
        """How often the agent died of an error of its own."""
        path = self.folder / "log"
        return path.read_text(errors="replace").count("Traceback") if path.exists() else 0
