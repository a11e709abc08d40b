"""A world: plays a plan, and tells the oracle what happens.

Must stay true: one seed and one plan give one run, to the byte: `digest` is over all that every device logged and all
that the oracle was told.
"""

import contextlib
import hashlib
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from dormouse_host.agent import toolchain
from dormouse_host.errors import HostError
from dormouse_host.ledger import entry
from proofs.years import program
from proofs.years.board import EPOCH, Board, Cut
from proofs.years.broker import Broker
from proofs.years.host import Host, RelayProcess, stand_ins
from proofs.years.hub import Hub
from proofs.years.oracle import Broken, Oracle, Order, Samples
from proofs.years.plan import HANGING, QUIET, Act, Plan
from proofs.years.stores import InMemory, OnDisk, Store, Template
from proofs.years.universe import Sources
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
        self._oracle, self._wire = Oracle(store.ask), Wire(store.ask)
        pads = any(act[1] == "order" and sum(act[6:]) for act in plan.acts)
        self._oracle.cramped = pads or "inbox" in plan.settings
        self._host.on_publish = self._published
        self._host.on_end = self._relay_ended
        self._moods: dict[str, tuple[str, float]] = {}
        self._count = 0
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
        if "rejected" in line and '"id"' not in line:  # a program that is left out has no such command
            self._oracle.excused(board.name)
        self._note(f"{self.hub.now + board.lag:.3f} {board.name} {line}")

    def _note(self, line: str) -> None:
        self._digest.update(line.encode())
        if self._keep:
            self._outcome.log.append(line)
            if len(self._outcome.log) > 2 * self._keep:
                del self._outcome.log[: self._keep]

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
        self._guarded(self._wire.published, topic, payload, self._quiet)

    def _relay_ended(self, relay: RelayProcess) -> None:
        confirmed = list(relay.confirmed)
        relay.confirmed.clear()
        if not self._failed:
            self._guarded(self._wire.stored, confirmed)

    def begun(self, board: Board, k: int) -> None:
        """A handler begins."""
        now = self.hub.now if board.rtc == 0.0 else 0.0
        self._guarded(self._oracle.begun, k, now, self._quiet and not self._plan.traits["reorder"])

    def effect(self, board: Board, k: int, kind: str) -> None:
        """A command has its effect."""
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
            self._oracle.disturbed(board.name)
        elif not self.mood(board):
            samples = self._oracle.samples[board.name]
            if samples.is_new:
                samples.kept[samples.last] = self.hub.now
        self._oracle.samples[board.name].is_new = False
        if self._quiet and board.how == "slept" and not board.busy and len(board.lines) == 1 and not board.loss:
            trips = 0 if self._plan.traits["acl"] else board.lines[0].trips(self.hub.now - board.booted - board.writing)
            self._guarded(self._oracle.quiet, board.name, trips)
        if "sample_every" not in self._plan.settings:
            every = self._plan.settings["connect_every"]
            self._guarded(self._oracle.slept, board.name, board.how, board.sleeps, every)
        hung = board.bitten and self.mood(board) in HANGING
        self._guarded(self._oracle.woke, board.name, self.hub.now - board.booted, board.how, hung)

    def _guarded(self, check, *args) -> None:
        """The world ends with the first broken promise, wherever the stack stands."""
        try:
            check(*args)
        except Broken as broken:
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
        out.orders = self._count
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
        self._settle()
        for last in (False, True):  # the first may be the one that finds out
            probes = [self._send(board, "do", None, None) for board in self._boards]
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
        """Quiet wakes, until everything is settled or has had its time: a piece of the program is left out for 32 h."""
        every = self._plan.settings["connect_every"]
        for last in [False] * (2 + int(_LONGEST_SKIP / every / CALM)) + [True]:
            self._wait(CALM)
            try:
                self._oracle.settled(self.hub.now - 3 * every)
                return
            except Broken as broken:
                if last or broken.args[0][0] != "1":
                    raise

    def _wait(self, wakes: int) -> None:
        self._until(self.hub.now + wakes * self._plan.settings["connect_every"] * 1.06)

    def _send(self, board: Board, kind: str, expires: int | None, after: str | None, pad: int = 0) -> Order:
        self._count += 1
        k = self._count
        args = f'{{"k":{k}}}' if not pad else f'{{"k":{k},"pad":"{pad * "x"}"}}'
        unix = None if expires is None else int(self._host.clock()) + expires
        order = entry.Order(board.name, kind, args, unix, after)
        name = self._host.ledger.enter([order])[0]
        made = Order(k, name, board.name, kind, self.hub.now, after)
        if expires is not None:
            made.expires = self.hub.now + self._host.offset + expires
        self._oracle.ordered(made)
        self._note(f"{self.hub.now:.3f} order {k} {name} {board.name} {kind} {expires} {after}")
        self._host.touch()
        if expires is not None:
            self.hub.at(self.hub.now + expires + 1, self._host.touch)
        return made

    def _plain(self, board: Board, pad: int) -> None:
        """A command without an id, as mosquitto_pub sends it."""
        self._count += 1
        k = self._count
        payload = f'{{"do":"do","args":{{"k":{k},"pad":"{pad * "x"}"}}}}'
        if not self.mood(board) and self._broker.put(f"dormouse/{board.name}/down/cmd", payload.encode()):
            self._oracle.put(Order(k, "", board.name, "do", self.hub.now, plain=True))

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
                last = [o.name for o in self._oracle.open.values() if o.device == board.name]
                self._send(board, x[1], x[2], last[-1] if x[3] and last else None, *x[4:])
            case "plain":
                self._plain(board, x[1])
            case "cancel":
                if len(names := list(self._oracle.open)) > x[0]:
                    with contextlib.suppress(HostError):
                        host.ledger.cancel(names[-1 - x[0]])
                    host.touch()
            case "power":
                self._oracle.disturbed(board.name)
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
                self._oracle.wiped(board.name)
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
                    host.touch()
            case "hostclock":
                host.offset += x[0]
            case "prune":
                host.ledger.prune(EPOCH, dry=True, on_progress=lambda *_: None)
