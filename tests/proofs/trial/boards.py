"""The boards of the trial: for each wake a process of MicroPython, and nothing in between.

Must stay true: a board that has died has no process; the next wake begins when the sleep that the agent asked for has
passed in the trial's time, or later where this machine is busy, which is counted.
"""

import json
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from dormouse_host.agent import mpy, process, toolchain
from dormouse_host.agent.log import parse
from proofs.board_wakes import APP
from proofs.trial.clock import Clock

EVERY = 900  # seconds between two wakes
VOLTS = 4.0
BROKEN = APP + "\nimport a_module_that_nobody_has\n"
_AT_ONCE = 3  # wakes
_HUNG = 60.0  # seconds of this machine, after which a wake is one no more
_ASLEEP = "trial sleep "  # of wake.py


class Boards:
    """A context manager. `wakes` that were whole and those that `failed`, `said`: (board, n) -> times it took effect,
    `late`: the most seconds of this machine by which a wake began too late.
    """

    def __init__(self, folder: Path, broker: str, names: list[str], clock: Clock) -> None:
        self._clock = clock
        self._folder = folder
        self.wakes = self.failed = 0
        self.late = 0.0
        self.said: Counter[tuple[str, int]] = Counter()
        self.strange: list[str] = []  # wakes that failed, for a person
        self._due = {name: clock.start + 9 * at / len(names) for at, name in enumerate(names)}
        self._dead: set[str] = set()
        self._cause = dict.fromkeys(names, "power")
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._changed = threading.Condition()
        self._is_over = False
        for name in names:
            (folder / name).mkdir()
            config = {"id": name, "broker": broker, "connect_every": EVERY}
            (folder / name / "config.json").write_text(json.dumps(config))
            self.flash(name, APP)
            self.charge(name, VOLTS)
        self._library = mpy.bundle(toolchain.agent_folder())
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(_AT_ONCE)]

    def __enter__(self) -> "Boards":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_over = True
            for child in self._running.values():
                child.kill()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_HUNG)

    # ---- what happens to a board

    def flash(self, name: str, app: str) -> None:
        """Another program; its next wake has it."""
        (self._folder / name / "app.py").write_text(app)

    def charge(self, name: str, volts: float) -> None:
        """Its battery has so many volts from now on."""
        file = self._folder / name / "volts.new"
        file.write_text(str(volts))
        file.replace(self._folder / name / "volts")

    def die(self, name: str) -> None:
        """Its power is gone, in a wake or between two."""
        with self._changed:
            self._dead.add(name)
            if name in self._running:
                self._running[name].kill()

    def revive(self, name: str) -> None:
        """It has power again, and boots."""
        with self._changed:
            self._dead.discard(name)
            self._cause[name], self._due[name] = "power", time.time()
            self._changed.notify_all()

    # ---- in threads of their own

    def _work(self) -> None:
        while (name := self._next()) is not None:
            self._wake(name)

    def _next(self) -> str | None:
        """The board that is due; None at the end."""
        with self._changed:
            while not self._is_over:
                waiting = self._due.keys() - self._dead - self._running.keys()
                name = min(waiting, key=lambda each: self._due[each], default=None)
                left = 1.0 if name is None else self._due[name] - time.time()
                if name is None or left > 0:
                    self._changed.wait(min(1.0, left))
                    continue
                self.late = max(self.late, -left)
                self._running[name] = self._start(name)
                return name
        return None

    def _start(self, name: str) -> subprocess.Popen[str]:
        script = Path(__file__).with_name("wake.py")
        words = [str(script), str(self._folder / name), repr(self._clock.start), repr(self._clock.speed)]
        argv, environment = process.interpreter("micropython", words, [self._library])
        environment["DORMOUSE_CAUSE"] = self._cause[name]
        return subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def _wake(self, name: str) -> None:
        child = self._running[name]
        try:
            output, _ = child.communicate(timeout=_HUNG)
        except subprocess.TimeoutExpired:
            child.kill()
            output, _ = child.communicate()
        with self._changed:
            del self._running[name]
            slept = EVERY * 1000
            for line in output.splitlines():
                event = parse(line)
                if event is not None and event.name == "said":
                    self.said[name, event.fields["n"]] += 1
                if line.startswith(_ASLEEP):
                    slept = int(line.removeprefix(_ASLEEP))
            self._cause[name], self._due[name] = "timer", time.time() + slept / 1000 / self._clock.speed
            if child.returncode == 0:
                self.wakes += 1
            elif name not in self._dead and not self._is_over:
                self.failed += 1
                self.strange.append(f"{name}: {output.strip()[-300:]}")
