"""A world: plays a plan, and tells the oracle what happens.

Must stay true: one seed and one plan give one run, to the byte: `digest` is over all that every device logged and all
that the oracle was told.
"""

import errno
import hashlib
import random
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dormouse_host.agent import toolchain
from proofs.years import program
from proofs.years.board import Board, Cut
from proofs.years.broker import Broker
from proofs.years.host import Host, RelayProcess, stand_ins
from proofs.years.hub import Hub
from proofs.years.oracle import Broken, Oracle, Samples
from proofs.years.person import Person
from proofs.years.plan import HANGING, QUIET, Act, Plan
from proofs.years.releases import BASE, Made
from proofs.years.stores import InMemory, OnDisk, Store, Template
from proofs.years.universe import Sources
from proofs.years.updates import Updates
from proofs.years.wire import Wire

CALM = 8  # quiet wakes between two looks at the end
_LONGEST_SKIP = 33 * 3600.0
_EVERY_DAY = 86400.0


@dataclass
class Outcome:
    """One run. `broken`: the oracle's words, or None."""

    seed: int
    broken: str | None = None
    wakes: int = 0
    seconds: float = 0.0  # simulated, of all devices together
    cuts: int = 0
    effects: int = 0
    orders: int = 0
    at: float = 0.0  # where it ended
    digest: str = ""
    log: list[str] = field(default_factory=list)


class Worlds:
    """What worlds share: compiled sources, an empty ledger and a folder in memory. A context manager."""

    def __init__(self, agent: Path | None = None, *, on_disk: bool = False) -> None:
        """`on_disk`: the ledger as it ships, in a file."""
        self._on_disk = on_disk
        memory = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(prefix="years-", dir=memory if memory.is_dir() else None)
        self.folder = Path(self._folder.name)
        self.sources = Sources(agent or toolchain.agent_folder(), toolchain.umqtt_folder())
        self.template = Template(self.folder / "template.db")

    def __enter__(self) -> "Worlds":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def play(self, plan: Plan, keep: int = 0) -> Outcome:
        """Run it. `keep`: so many of the last log lines."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            store: Store = OnDisk(self.template, Path(folder)) if self._on_disk else InMemory(self.template)
            return _World(self, plan, store, keep).run()


class _World:
    def __init__(self, shared: Worlds, plan: Plan, store: Store, keep: int) -> None:
        self._plan, self._keep = plan, keep
        self._outcome = Outcome(plan.seed)
        self._digest = hashlib.sha256()
        self._chance = random.Random(f"world {plan.seed}")
        self.hub = Hub()
        self._broker = Broker(self.hub, plan.traits)
        self._host = Host(self.hub, self._broker, store, random.Random(f"host {plan.seed}"))
        self._oracle, self._wire, self._updates = Oracle(store.ask), Wire(store.ask), Updates(store.ask)
        judges = self._oracle, self._updates
        self._person = Person(self.hub, self._host, self._broker, judges, self._note)
        pads = any(act[1] == "order" and sum(act[6:]) for act in plan.acts)
        self._oracle.cramped = pads or "inbox" in plan.settings
        self._oracle.blameless = plan.blameless
        self._host.on_publish = self._published
        self._host.on_end = self._relay_ended
        self._moods: dict[str, tuple[str, float]] = {}
        self._troubled: dict[str, float] = {}  # until when a board's flash refuses some of its changes
        self._faultless = True
        self._failed: str | None = None
        self._boards = [
            Board(self.hub, self._broker, shared.sources, self, f"d{n}", f"board {plan.seed} {n}")
            for n in range(plan.devices)
        ]
        for board in self._boards:
            board.program = program.load
            board.settings = plan.settings
            self._oracle.samples[board.name] = Samples()
        self._host.relays = [RelayProcess(self._host, f"r{n}") for n in range(plan.relays)]

    # ---- what boards tell

    def log(self, board: Board, line: str) -> None:
        """A board's log line."""
        board.busy = board.busy or " command {" in line
        self._guarded(self._oracle.told, board.name, line)
        self._note(f"{self.hub.now + board.lag:.3f} {board.name} {line}")

    def _note(self, line: str) -> None:
        self._digest.update(line.encode())
        if self._keep:
            self._outcome.log.append(line)
            if len(self._outcome.log) > 2 * self._keep:
                del self._outcome.log[: self._keep]

    def begins(self, board: Board) -> str:
        """Its program begins: how it behaves by itself."""
        folder = f"/{board.slot}/"
        its_own = (folder + "release", folder + "new")
        files = board.flash.files.items()
        found = {name[len(folder) :]: data for name, data in files if name.startswith(folder) and name not in its_own}
        try:
            return self._updates.begins(board.name, found)
        except Broken as broken:
            self._breaks(broken)
            return ""

    def mood(self, board: Board) -> str:
        """How its program behaves now."""
        mood, until = self._moods.get(board.name, ("", 0.0))
        return mood if self.hub.now < until else ""

    def said(self, board: Board, topic: str, payload: bytes) -> None:
        """The broker has got this from it."""
        self._guarded(self._wire.said, board.name, topic, payload)

    @property
    def _quiet(self) -> bool:
        """Has no fault happened yet?"""
        return self._faultless and not self._broker.dropped

    def _published(self, topic: str, payload: bytes) -> None:
        in_doubt = self._plan.traits["acl"] and self._updates.ordered_any  # no fence tells that chunks are behind it
        self._guarded(self._wire.published, topic, payload, self._quiet and not in_doubt)

    def _relay_ended(self, relay: RelayProcess) -> None:
        confirmed = list(relay.confirmed)
        relay.confirmed.clear()
        if not self._failed:
            self._guarded(self._wire.stored, confirmed)

    def begun(self, board: Board, k: int) -> None:
        """A handler begins."""
        self._person.look()
        k = self._person.its_own(board, k)
        now = self.hub.now if board.rtc == 0.0 else 0.0
        self._guarded(self._oracle.begun, k, now, self._quiet and not self._plan.traits["reorder"])

    def effect(self, board: Board, k: int, kind: str) -> None:
        """A command has its effect."""
        k = self._person.its_own(board, k)
        self._note(f"{self.hub.now:.3f} {board.name} effect {k}")
        self._outcome.effects += 1
        self._guarded(self._oracle.effect, k)

    def sampled(self, board: Board) -> int:
        """A reading is taken."""
        samples = self._oracle.samples[board.name]
        samples.last += 1
        samples.is_new = True
        return samples.last

    def woke(self, board: Board) -> None:
        """A wake is over."""
        self._outcome.wakes += 1
        self._note(f"{self.hub.now:.3f} {board.name} {board.how}")
        if board.how == "cut":
            self._outcome.cuts += 1
        if board.how != "slept":
            self._faultless = False
            self._person.disturbed(board)
        elif not self.mood(board) and not self._is_troubled(board):
            samples = self._oracle.samples[board.name]
            if samples.is_new:
                samples.kept[samples.last] = self.hub.now
        self._oracle.samples[board.name].is_new = False
        if self._quiet and board.how == "slept" and not board.busy and len(board.lines) == 1 and not board.loss:
            trips = 0 if self._plan.traits["acl"] else board.lines[0].trips(self.hub.now - board.booted - board.writing)
            self._guarded(self._oracle.quiet, board.name, trips)
        if "sample_every" not in self._plan.settings:
            every = self._plan.settings["connect_every"]
            how = "slept" if self._is_troubled(board) else board.how  # how often it failed is on flash
            self._guarded(self._oracle.slept, board.name, how, board.sleeps, every)
        hung = board.bitten and self.mood(board) in HANGING
        self._person.look()
        self._guarded(self._oracle.woke, board.name, self.hub.now, board.booted, board.how, hung)
        self._guarded(self._updates.look)

    def _guarded(self, check, *args) -> None:
        """The world ends with the first broken promise, wherever the stack stands."""
        try:
            check(*args)
        except Broken as broken:
            self._breaks(broken)

    def _breaks(self, broken: Broken) -> None:
        self._failed = self._failed or str(broken)
        self.hub.halted = True

    # ---- playing

    def run(self) -> Outcome:
        """Play the plan."""
        plan, out = self._plan, self._outcome
        with stand_ins(self._host, self._chance):
            try:
                self._play(plan)
            except Broken as broken:
                self._failed = str(broken)
            finally:
                out.at = self.hub.now
                self.hub.halted = False
                self._host.close()
                self.hub.drop()
        out.broken = self._failed
        out.seconds = self.hub.now * len(self._boards)
        out.orders = self._person.count
        out.digest = self._digest.hexdigest()
        return out

    def _play(self, plan: Plan) -> None:
        self._host.ledger.add_devices([board.name for board in self._boards])
        for relay in self._host.relays:
            relay.start()
        for board in self._boards:
            board.plan(self._chance.uniform(1, 900), "power")
        for act in plan.acts:
            self._until(act[0])
            self._act(act)
        self._until(plan.days * _EVERY_DAY)
        self._end()

    def _is_troubled(self, board: Board) -> bool:
        return self.hub.now < self._troubled.get(board.name, 0.0)

    def _trouble(self, board: Board, kind: str, seconds: float) -> None:
        """Flash that is worn, or full: it refuses some changes, or all that take room."""
        until = self.hub.now + seconds
        self._troubled[board.name] = until
        full, chance = board.flash.used + 600, random.Random(f"flash {self.hub.now} {board.name}")

        def refuses(grown: int) -> int:
            self._person.disturbed(board)
            self._oracle.forgets(board.name)
            if self.hub.now >= until:
                board.flash.refuses = lambda _grown: 0
                return 0
            if kind == "full":
                return errno.ENOSPC if grown > 0 and board.flash.used + grown > full else 0
            return errno.EIO if chance.random() < 0.2 else 0

        board.flash.refuses = refuses

    def _until(self, when: float) -> None:
        self.hub.run(when)
        if self._failed:
            raise Broken(self._failed)

    def _end(self) -> None:
        self._broker.up = True
        self._host.offset = 0.0
        self._moods.clear()
        for relay in self._host.relays:
            relay.kill = None
            relay.start()
        for board in self._boards:
            board.cut = board.fault = None
            board.calm = True
            board.flash.refuses = lambda _grown: 0
        self._settle()
        for last in (False, True):  # the first may be the one that finds out
            probes = [self._person.send(board, "do", None, None) for board in self._boards]
            self._wait(4)
            try:
                self._oracle.probe(probes)
                break
            except Broken:
                if last:
                    raise
                self._settle()
        self._settle()

    def _settle(self) -> None:
        """Quiet wakes, until everything is settled or has had its time: a piece of the program is left out for 32 h. As
        long as less and less is open it goes on: a small queue at the broker may be hundreds of wakes behind.
        """
        every = self._plan.settings["connect_every"]
        left = patience = 2 + int(_LONGEST_SKIP / every / CALM)
        least = len(self._oracle.open)
        while True:
            self._wait(CALM)
            try:
                self._oracle.settled(self.hub.now - 3 * every)
                self._updates.settled()
                return
            except Broken as broken:
                left = patience if len(self._oracle.open) < least else left - 1
                least = min(least, len(self._oracle.open))
                if not left or broken.args[0][0] != "1":
                    raise

    def _wait(self, wakes: int) -> None:
        self._until(self.hub.now + wakes * self._plan.settings["connect_every"] * 1.06)

    def _act(self, act: Act) -> None:
        _, kind, *x = act
        if kind != "order":
            self._note(f"{self.hub.now:.3f} {act}")
        self._faultless = self._faultless and kind in QUIET
        host, broker = self._host, self._broker
        board = self._boards[x[0] % len(self._boards)] if x and isinstance(x[0], int) else self._boards[0]
        relay = host.relays[x[0] % len(host.relays)] if x and isinstance(x[0], int) else host.relays[0]
        match kind:
            case "order":
                before = reversed(self._oracle.open.values()) if x[3] else ()
                after = next((order.name for order in before if order.device == board.name), None)
                self._person.send(board, x[1], x[2], after, *x[4:])
            case "flood":
                self._person.flood(board, x[1], x[2])
            case "plain":
                self._person.plain(board, x[1], is_bad=bool(self.mood(board)))
            case "cancel":
                self._person.cancel(x[0])
            case "update":
                self._person.update(board, Made(*x[1:4]), x[4])
            case "rollout":
                self._person.roll_out(self._boards, Made(*x[0:3]), [n for n in x[3] if n <= len(self._boards)], x[4])
            case "rollout of":
                self._person.roll_out_command(self._boards, x[0], [n for n in x[1] if n <= len(self._boards)], x[2])
            case "withdraw":
                self._person.withdraw(rollout=x[0])
            case "flash":
                self._trouble(board, x[1], x[2])
            case "power":
                self._person.disturbed(board)
                board.power_cut(x[1], x[2])
            case "cut":
                board.cut, board.cut_when_busy = (x[1], x[2], Cut(x[3], x[4])), x[5]
            case "net":
                board.fault = x[1], x[2]
            case "prog":
                self._moods[board.name] = x[1], self.hub.now + x[2]
                self._oracle.excused(board.name)
            case "clock":
                board.rtc = x[1]
            case "wipe":
                board.power_cut("power", 3)
                self.hub.run(self.hub.now)
                board.flash.wipe()
                BASE.install(board.flash)
                self._person.wiped(board)
            case "save":
                broker.snapshot()
                host.store.back_up()
            case "broker":
                back = {"restart": None, "forget": 0}.get(x[0], x[0])
                broker.up = not x[1]
                broker.restart(back)
                if back is not None:
                    self._oracle.excused()
                self.hub.at(self.hub.now + x[1], setattr, broker, "up", True)
            case "lose":
                device = self._boards[x[1] % len(self._boards)].name
                self._oracle.excused(device)
                relay = host.relays[x[2] % len(host.relays)]
                broker.lose(device if x[0] == "device" else f"dormouse-relay-{relay.name}")
            case "rkill":
                relay.kill = x[1], x[2]
            case "die":
                relay.die()
            case "roff":
                relay.stop()
                self.hub.at(self.hub.now + x[1], relay.start)
            case "restore":
                if host.restore(x[0]):
                    self._oracle.went_back(x[0])
                    self._updates.went_back()
                    host.touch()
            case "hostclock":
                host.offset += x[0]
            case "prune":
                old = host.clock() - 8 * _EVERY_DAY
                prune = partial(host.ledger.prune, old, dry=False, on_progress=lambda *_: None)
                self._oracle.pruned(prune, self.hub.now - 2 * _EVERY_DAY)  # the host's clock may be wrong by days
