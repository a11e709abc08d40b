"""One board: its port, its life from boot to boot, and the faults that are armed for its next wake.

Must stay true: an instant at which power may go lies before and after each change of flash, each write to the network
and each effect, and inside each wait; after it nothing of that wake happens any more. The watchdog bites when it has
not been fed, also where the program hangs.
"""

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from proofs.years import universe
from proofs.years.broker import Broker
from proofs.years.flash import Flash
from proofs.years.hub import Hub, Task
from proofs.years.net import JOIN, Line, Net
from proofs.years.releases import BASE

EPOCH = 1_700_000_000


class Cut(BaseException):
    """This wake is over: `cause` is that of the next boot, `after` the seconds until then."""

    def __init__(self, cause: str, after: float) -> None:
        super().__init__(cause)
        self.cause, self.after = cause, after


class Board:
    """A device. `watch` is told what it does: `ended(board, how)`, `effect(…)` (world.py)."""

    def __init__(self, hub: Hub, broker: Broker, sources: universe.Sources, watch: Any, name: str, seed: str) -> None:
        self.hub, self.broker, self.watch, self.name = hub, broker, watch, name
        self.rng = random.Random(seed)
        self.flash = Flash(self.operation)
        self.lag = 0.0  # seconds that the device is ahead of the hub
        self.latency, self.loss = self.rng.choice((0.02, 0.05, 0.15, 0.4)), self.rng.choice((0.0, 0.0, 0.02, 0.1))
        self.calm = False  # does it always find its access point?
        self.fault: tuple[str, int] | None = None  # of the next connection
        self.cut: tuple[str, int, Cut] | None = (
            None  # (kind of operation, or "slot", how many are still let by, what follows)
        )
        self.cut_when_busy = False  # in a wake that takes commands, from the first of them on
        self.busy = False  # has this wake taken any?
        self.bitten = False  # was it ended by its own watchdog?
        self.writing = 0.0  # seconds that flash has taken in this wake
        self.rtc: float | None = None  # error of its clock in seconds, None while that is not known
        self.drift = self.rng.uniform(-0.002, 0.002)
        self.task: Task | None = None
        self.lines: list[Line] = []
        self.booted = 0.0
        self.wakes = 0
        self.asleep_until = 0.0
        self.boots = 0  # calls off a planned boot that something came before
        self.dead: Cut | None = None
        self.program: Callable[[Board], Any] | None = None
        self.settings: dict[str, Any] = {}
        self.failure: Exception | None = None
        given = self._given()
        self.universe = universe.Universe(sources, given, lambda: self.program and self.program(self))
        self.universe.modules["dormouse.ports.storage"].__dict__.update(_MICRO=True, open=self.flash.open)
        self.universe.modules["dormouse.guard"].__dict__.update(open=self.flash.open)
        self.universe.keep()
        self._agent = self.universe.modules["dormouse.agent"]
        self._guard = self.universe.modules["dormouse.guard"]
        self.slot = "a"  # the one that runs
        BASE.install(self.flash)

    def _given(self) -> dict[str, Any]:
        import binascii
        import socket
        import struct

        net = Net(self)
        return {
            "gc": SimpleNamespace(collect=lambda: 0),
            "os": self.flash,
            "vfs": self.flash,
            "sys": universe.interpreter(),
            "socket": net,
            "select": net,
            "usocket": socket,
            "ustruct": struct,
            "ubinascii": binascii,
        }

    # ---- time and power

    def operation(self, kind: str, ms: float) -> bool:
        """Power may go here. True: half of it is done first."""
        if self.dead:
            raise self.dead
        self.lag += ms / 1000
        self.writing += ms / 1000
        if self.cut and (self.busy or not self.cut_when_busy):
            wanted, left, what = self.cut
            if wanted == kind or (wanted == "any" and kind != "half") or (wanted == "slot" and self._of_slots(kind)):
                if left > 0:
                    self.cut = wanted, left - 1, what
                elif kind == "half":
                    self.cut = "after", 0, what
                    return True
                else:
                    self.cut = None
                    self.dead = what
                    raise what
        return False

    def _of_slots(self, kind: str) -> bool:
        """Is this before or after a change of a release, or of what is known of releases?"""
        path = self.flash.path
        return kind in ("before", "after") and path.startswith(("/a/", "/b/", "/state/slot", "/state/update"))

    def catch_up(self) -> None:
        """What it took the device until now has passed."""
        if self.lag > 0:
            until, self.lag = self.hub.now + self.lag, 0.0
            while self.hub.now < until:
                self._wait(until)

    def idle(self, until: float) -> bool:
        """Wait; True where something was heard before."""
        self.operation("wait", 0)
        return self._wait(until)

    def _wait(self, until: float) -> bool:
        if self.dead:
            raise self.dead
        heard = self.hub.wait(min(until, self.bites))
        if self.hub.now >= self.bites:
            self.bitten = True
            self.dead = Cut("watchdog", 1)
            raise self.dead
        return heard

    def heard(self) -> None:
        """Something arrived."""
        if self.task:
            self.task.notify()

    def hang(self) -> None:
        """The program never returns."""
        while True:
            self.catch_up()
            self._wait(self.bites)

    @property
    def awake(self) -> bool:
        """Is it?"""
        return self.task is not None

    def power_cut(self, cause: str, after: float) -> None:
        """Now, whether it is awake or asleep."""
        what = Cut(cause, after)
        if self.task:
            self.dead = what
            self.task.kill(what)
        else:
            self.plan(after, cause)
        if cause == "power":
            self.rtc = None

    def plan(self, seconds: float, cause: str) -> None:
        """Boot then, and not when it was planned before."""
        self.boots += 1
        self.asleep_until = self.hub.now + seconds
        self.hub.at(self.asleep_until, self._boot, self.boots, cause)

    def _boot(self, number: int, cause: str) -> None:
        if number == self.boots and not self.task:
            self.task = self.hub.start(lambda: self._wake(cause), self._ended)

    def _wake(self, cause: str) -> None:
        self.dead, self.busy, self.bitten = None, False, False
        self.lag, self.writing, self.bites = 0.0, 0.0, float("inf")
        self.booted = self.hub.now
        self.wakes += 1
        self.sleeps, self.next_cause = 3600.0, "timer"
        self.failure = None
        how = "cut"
        try:
            self.universe.boot()
            slots = self._guard.Slots("/", cause == "watchdog")  # as ports/boot.py does
            self.slot, self.busy = slots.slot, slots.phase != 0
            cause = "reset" if slots.went_back or slots.phase == self._guard.TRIAL else cause
            self.failure = self._agent.Agent(_Port(self, cause, slots)).run("app")
            self.catch_up()
            how = "failed" if self.failure else "slept"
        except Cut as cut:
            self.sleeps, self.next_cause = cut.after, cut.cause
            if cut.cause == "power":
                self.rtc = None
            for line in self.lines:
                line.vanish()
        self.how = how

    def _ended(self) -> None:
        self.task, self.fault = None, None
        self.cut = self.cut if self.cut_when_busy else None
        self.plan(self.sleeps, self.next_cause)
        self.watch.woke(self)
        self.lines = []

    def unix(self) -> float:
        """Seconds that its clock shows where it is right."""
        return EPOCH + self.hub.now + self.lag

    def config(self) -> dict[str, Any]:
        """Its config.json."""
        return {"id": self.name, "broker": "mqtt://broker", **self.settings}


class _Port:
    """The porting contract (device/dormouse/ports/__init__.py)."""

    def __init__(self, board: Board, cause: str, slots: Any) -> None:
        import json

        self._board, self._cause, self.slots = board, cause, slots
        self._texts = json.dumps(board.config()).encode(), b"{}"
        self.storage = board.universe.modules["dormouse.ports.storage"].Storage("/state")
        self._limit = 0.0

    def config(self):
        return self._texts

    def file(self, name):
        return None

    def start(self, config):
        pass

    def ms(self):
        board = self._board
        return int((board.hub.now + board.lag - board.booted) * 1000)

    def pause(self, ms):
        board = self._board
        board.catch_up()
        until = board.hub.now + ms / 1000
        while board.hub.now < until:
            board.idle(until)

    def time(self):
        rtc = self._board.rtc
        return None if rtc is None else int(self._board.unix() + rtc)

    def clock(self):
        return None if self._board.rtc is None else "kept"

    def pretend(self, when):
        return False

    def shaking(self, begins):
        pass

    def random(self, n):
        return self._board.rng.randbytes(n)

    def cause(self):
        return self._cause

    def join(self, config, secrets, deadline):
        board = self._board
        if board.rng.random() < 0.01 and not board.calm:
            self.pause(2000)
            raise board.universe.modules["dormouse.errors"].LinkError("no access point", "ap")
        board.lag += JOIN
        if board.rtc is None and board.rng.random() < 0.7:
            board.rtc = 0.0

    def forget(self):
        pass

    def rssi(self):
        return -60

    def battery(self):
        return 3.7

    def arm(self, ms):
        self._limit = ms / 1000
        self.feed()

    def feed(self):
        board = self._board
        if board.dead:
            raise board.dead
        board.bites = board.hub.now + board.lag + self._limit

    def free(self):
        return 100000

    def firmware(self):
        return "simulated"

    def blink(self, times):
        pass

    def emit(self, line):
        self._board.watch.log(self._board, line)

    def reset(self):
        self._board.sleeps, self._board.next_cause = 0.5, "reset"
        self._left = True

    def sleep(self, ms):
        board = self._board
        if board.next_cause != "reset":
            board.sleeps = ms / 1000 * (1 + board.drift)
