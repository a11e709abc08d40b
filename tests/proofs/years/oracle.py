"""The judge: what was ordered, what happened, and what the ledger says of it.

Must stay true: it shares no code with agent, relay or ledger. It knows orders, effects and samples from the world, and
reads the ledger by SQL of its own. A failure's text begins with the number of the promise that is broken:
1 nothing lost, 2 nothing twice, 3 never stuck, 4 asleep at the earliest, 5 the ledger lies.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TRIES = 3  # of a repeatable command
_BUDGET = 20.0 + 5 + 3  # seconds awake: the wake's budget, `patience`, and what comes after
_HANDLERS = {"slow": 3.1, "long": 7.2, "hang": 5.0}  # … and of these handlers each its own
_TOTAL = 605.0
_WATCHDOG = 30.0  # … and what it takes to end a program that hangs
_HOUR = 3600.0
_LATE = 30.0  # seconds after its end that a command may still begin
_FAILED, _LONGER = 3, 3.0  # from so many failed wakes on the next comes so many times later
_QUIET = 5.0  # round trips of a wake without a command, each up to 1.3 times its shortest
_FULL = 64  # commands that an inbox holds
_HANGS = 2  # wakes in a row that one piece of the program may cost
_IN_AN_HOUR = 6  # … and wakes in an hour: the same piece is tried again an hour later
_FINAL = ("succeeded", "failed", "rejected", "interrupted", "expired", "cancelled", "unknown")
_REST = {"succeeded", "interrupted"}


class Broken(Exception):
    """A promise is broken."""


@dataclass
class Order:
    """One command."""

    k: int
    name: str
    device: str
    kind: str
    at: float
    after: str | None = None
    expires: float = float("inf")
    begun: int = 0
    effects: int = 0
    lost: bool = False  # it went with a ledger that an older copy took the place of
    wiped: bool = False  # its device was wiped while it was open, or before the ledger knew, or its ledger restored
    rewound: bool = False  # its ledger was restored: it may be on its way by what that knows no more
    tells: int | None = None  # the number that it tells in the place of `k`: the same on each device of a rollout
    plain: bool = False  # it has no id, and the ledger knows nothing of it
    disturbed: bool = False  # something happened to its device that may interrupt


@dataclass
class Samples:
    """Of one device: what its reading returned."""

    last: int = 0
    is_new: bool = False  # was the last taken in this wake?
    kept: dict[int, float] = field(default_factory=dict)  # on flash for certain, with the time


class Oracle:
    """`ask(sql, arguments)` reads the ledger."""

    def __init__(self, ask: Any) -> None:
        self._ask = ask
        self.orders: dict[int, Order] = {}
        self.names: dict[str, Order] = {}
        self.open: dict[str, Order] = {}
        self.samples: dict[str, Samples] = {}
        self.cramped = False  # has the inbox too little room to keep what waits for a program that is left out?
        self.blameless = False  # has no program of this world any fault but in its handlers?
        self.restored = False  # without a word to the ledger
        self.checks = 0
        self._spent: dict[str, float] = {}  # by handlers, in this wake
        self._plain: dict[int, Order] = {}  # not run yet
        self._pruned = 0.0
        self._wiped: dict[str, str | None] = {}  # and the state that the ledger knew then
        self._crowded: set[str] = set()  # whose inbox may have been full: what waited for the program made room
        self._last: dict[str, int] = {}  # command that each device began
        self._failed: dict[str, int] = {}  # wakes in a row without a connection
        self._hung: dict[str, int] = {}  # wakes in a row that the program kept from ending
        self._hangs: dict[str, list[float]] = {}  # when it did
        self._wakes: dict[str, tuple[str, int]] = {}  # state and wake of each device, as the ledger knows them

    # ---- what happens

    def ordered(self, order: Order) -> None:
        """A command entered the ledger."""
        self.expected(order)
        order.wiped = order.device in self._wiped and self._state(order.device) == self._wiped[order.device]
        self.names[order.name] = self.open[order.name] = order
        if sum(other.device == order.device for other in self.open.values()) >= _FULL:
            self._crowded.add(order.device)

    def expected(self, order: Order) -> None:
        """A command will enter the ledger, by a rollout: then it is `ordered`."""
        self.orders[order.k] = order

    def pruned(self, prune: Callable[[], object], before: float) -> None:
        """The ledger is pruned: what is older may have gone from it, but for what is open."""
        still = set(self._ask("SELECT name FROM commands WHERE open = 1"))
        prune()
        there = set(self._ask("SELECT name FROM commands"))
        if gone := still - there:
            raise Broken(f"1: {gone} was open, and left the ledger")
        self.open = {name: order for name, order in self.open.items() if (name,) in there}
        self._pruned = before

    def put(self, order: Order) -> None:
        """A command without an id is in its device's queue at the broker."""
        self.orders[order.k] = self._plain[order.k] = order

    def excused(self, device: str | None = None) -> None:
        """The broker or the program has a reason to lose what has no id, of this device or of all."""
        self._plain = {k: order for k, order in self._plain.items() if device and order.device != device}

    def told(self, device: str, line: str) -> None:
        """A line of a device's log."""
        if "rejected" in line and '"id"' not in line:  # a program that is left out has no such command
            self.excused(device)
        if self.blameless and "import left out: cut off" in line:
            raise Broken(f"3: the program of {device} is left out, and only handlers were at fault")

    def begun(self, k: int, now: float, in_order: bool) -> None:
        """A handler begins. `now`: 0 where the device does not know it; `in_order`: nothing may have overtaken it."""
        order = self.orders[k]
        order.begun += 1
        if order.begun == 1 and order.expires + _LATE < now:
            raise Broken(f"5: {order.kind} {k} {order.name} began {now - order.expires:.0f} s after it had expired")
        if in_order and order.begun == 1 and not order.plain and not order.after and order.tells is None:
            if k < self._last.get(order.device, 0):
                raise Broken(f"5: {order.kind} {k} {order.name} began after {self._last[order.device]}")
            self._last[order.device] = k
        self._spent[order.device] = self._spent.get(order.device, 0.0) + _HANDLERS.get(order.kind, 0.01)
        if order.begun > (TRIES if order.kind == "again" else 1) and not order.plain and not self._unknowable(order):
            raise Broken(f"2: {order.kind} {k} {order.name} began {order.begun} times")

    def effect(self, k: int) -> None:
        """It has its effect."""
        order = self.orders[k]
        order.effects += 1
        self._plain.pop(k, None)
        if order.effects > (TRIES if order.kind == "again" else 1) and not order.plain and not self._unknowable(order):
            raise Broken(f"2: the effect of {order.kind} {k} {order.name} happened {order.effects} times")
        if order.after and not order.lost and order.after in self.names:
            status = self._ask("SELECT status FROM commands WHERE name = ?", (order.after,))
            rewound = self.restored or order.rewound or self.names[order.after].rewound  # then it was unknown a while
            if status and status[0][0] not in _FINAL and not rewound:
                raise Broken(f"5: {order.name} ran before {order.after}, which is {status[0][0]}, was settled")

    def _state(self, device: str) -> str | None:
        ((state,),) = self._ask("SELECT state FROM devices WHERE id = ?", (device,))
        return state  # type: ignore[no-any-return]

    def _unknowable(self, order: Order) -> bool:
        """Its device was wiped and the ledger put back without a word: what both forgot nobody can know."""
        return self.restored and order.device in self._wiped

    def wiped(self, device: str) -> None:
        """A device's flash was wiped."""
        self._wiped[device] = self._state(device)
        for order in self.open.values():
            order.wiped = order.wiped or order.device == device
        self.samples[device].kept.clear()
        self._failed[device] = 0
        self.forgets(device)
        self.excused(device)

    def forgets(self, device: str) -> None:
        """A device can't know what has hung until now: its flash was wiped, or refuses to keep it."""
        self._hangs[device] = []

    def went_back(self, told: bool) -> None:
        """The ledger is an older copy of itself."""
        there = {name for (name,) in self._ask("SELECT name FROM commands")}
        for order in self.orders.values():
            order.wiped = order.rewound = True
            order.lost = order.lost or order.name not in there
        self.open = {name: order for name, order in self.names.items() if not order.lost}
        self.restored = self.restored or not told
        self._wakes.clear()

    def disturbed(self, device: str) -> None:
        """A wake of this device did not go as it should."""
        for order in self.open.values():
            order.disturbed = order.disturbed or order.device == device

    # ---- what is judged

    def woke(self, device: str, now: float, booted: float, how: str, hung: bool) -> None:
        """A wake has ended; `how`: "cut", "failed" or "slept"; `hung`: the program would not end."""
        self.checks += 1
        hung = hung and device not in self._spent
        self._hung[device] = self._hung.get(device, 0) + 1 if hung else 0
        if self._hung[device] > _HANGS:
            raise Broken(f"3: the program of {device} has kept {self._hung[device]} wakes in a row from ending")
        if hung:
            of_late = [at for at in self._hangs.get(device, []) if now - at < _HOUR] + [now]
            self._hangs[device] = of_late
            if len(of_late) > _IN_AN_HOUR:
                raise Broken(f"3: the program of {device} has kept {len(of_late)} wakes of an hour from ending")
        self._hear(device)
        allowed = min(_BUDGET + self._spent.pop(device, 0.0), _TOTAL) + _WATCHDOG * (how == "cut")
        if now - booted > allowed:
            raise Broken(f"3: {device} was awake for {now - booted:.1f} s, and may be for {allowed:.1f}")
        if self.open:
            self.look(list(self.open.values()))

    def slept(self, device: str, how: str, seconds: float, every: float) -> None:
        """After a wake it sleeps for so long; `every`: it is to connect so often."""
        self._failed[device] = self._failed.get(device, 0) + 1 if how == "failed" else 0
        if self._failed[device] >= _FAILED and seconds < _LONGER * every:
            raise Broken(f"3: {device} failed {self._failed[device]} times, and sleeps for {seconds:.0f} s")

    def quiet(self, device: str, trips: float) -> None:
        """A wake in which nothing went wrong and nothing was to be done has taken so many round trips."""
        if trips > _QUIET:
            raise Broken(f"4: {device} was awake for {trips:.1f} round trips, with nothing to do")

    def _hear(self, device: str) -> None:
        ((state, wake),) = self._ask("SELECT state, wake FROM devices WHERE id = ?", (device,))
        before = self._wakes.get(device, (state, wake))
        if state == before[0] and wake < before[1]:
            raise Broken(f"5: {device} was at wake {before[1]} of {state}, and the ledger is back at {wake}")
        self._wakes[device] = state, wake

    def look(self, orders: list[Order]) -> None:
        """What the ledger says of these commands now."""
        for start in range(0, len(orders), 500):
            some = orders[start : start + 500]
            marks = ",".join("?" * len(some))
            final = f"open = 0 AND provisional = 0 AND name IN ({marks})"
            query = f"SELECT name, status, value, why FROM commands WHERE {final}"
            for name, status, value, why in self._ask(query, [order.name for order in some]):
                self._judge(self.names[name], status, value, why)
                self.open.pop(name, None)

    def _judge(self, order: Order, status: str, value: str | None, why: str | None) -> None:
        what = f"{order.kind} {order.k} {order.name} of {order.device} is {status} ({why}), effects {order.effects}"
        if status == "succeeded" and (not order.effects or order.kind in ("fail", "long", "hang", "quits")):
            raise Broken(f"5: {what}")
        if status == "succeeded" and value not in (None, f'{{"k":{order.tells or order.k}}}'):
            raise Broken(f"5: {what}, with the value {value}")
        if status == "failed" and (not order.effects or order.kind not in ("fail", "quits")):
            raise Broken(f"5: {what}")
        if status in ("expired", "cancelled", "rejected") and order.effects and not self.restored:
            raise Broken(f"5: {what}")
        unknown = why in (None, f"unknown command {order.kind}") and (self.cramped or order.device in self._crowded)
        if status == "rejected" and not (order.wiped or self.restored or unknown):
            raise Broken(f"5: {what}")
        if status == "interrupted" and not order.disturbed and order.kind not in ("long", "hang"):
            raise Broken(f"5: {what}, and nothing disturbed it")
        if status == "unknown" and not (order.wiped or self.restored):
            raise Broken(f"5: {what}, and nothing was wiped or restored")

    def settled(self, before: float) -> None:
        """Everything has had its time: nothing is open, no sample of before that time is missing."""
        there = {}
        for name, status, still, value, why in self._ask("SELECT name, status, open, value, why FROM commands"):
            there[name] = status
            order = self.names.get(name)
            if order is None:
                continue
            if still:
                raise Broken(f"1: {order.kind} {order.k} {name} of {order.device} is {status} for ever")
            self._judge(order, status, value, why)  # what is provisional now stays so
        known = [order for order in self.names.values() if not order.lost]
        gone = [order.name for order in known if order.name not in there and order.at > self._pruned]
        if gone:
            raise Broken(f"1: {gone} left the ledger")
        for order in self._plain.values():
            raise Broken(f"1: {order.k} of {order.device}, which has no id, never ran")
        for device in self.samples:
            self._telemetry(device, before)
        self._left()

    def _telemetry(self, device: str, before: float) -> None:
        samples = self.samples[device]
        seen: dict[int, tuple[str, int]] = {}
        query = "SELECT state, number, record FROM telemetry WHERE device = ? ORDER BY state, number"
        for state, number, record in self._ask(query, (device,)):
            if record.startswith('{"n":'):
                n = int(record[5:-1])
                if n in seen:
                    raise Broken(f"2: sample {n} of {device} is record {seen[n]} and {(state, number)}")
                seen[n] = state, number
        if self.restored:
            return
        missing = [n for n, at in samples.kept.items() if n not in seen and self._pruned < at < before]
        dropped = self._ask("SELECT coalesce(sum(dropped), 0) FROM telemetry_streams WHERE device = ?", (device,))
        if len(missing) > dropped[0][0]:
            raise Broken(f"1: samples {missing[:9]} of {device} are missing, and {dropped[0][0]} counted as dropped")

    def _left(self) -> None:
        """What was confirmed to a device before its flash was wiped is there, or counted."""
        if self._pruned > 0:
            return
        query = (
            "SELECT l.device, l.state, max(json_extract(e.record, '$.acked')) FROM states_left l"
            " JOIN ends e ON e.device = l.device AND e.state = l.state GROUP BY l.device, l.state"
        )
        for device, state, acked in self._ask(query):
            of = device, state
            there = "SELECT count(*) FROM telemetry WHERE device = ? AND state = ? AND number <= ?"
            ((count,),) = self._ask(there, (*of, acked))
            gone = "SELECT coalesce(sum(dropped), 0) FROM telemetry_streams WHERE device = ? AND state = ?"
            ((dropped,),) = self._ask(gone, of)
            if count + dropped < acked:
                raise Broken(f"1: of {acked} records of {device} under {state} {count} are there, {dropped} dropped")

    def probe(self, orders: list[Order]) -> None:
        """Fresh commands at the end, of which each one succeeds."""
        for order in orders:
            status = self._ask("SELECT status, why FROM commands WHERE name = ?", (order.name,))
            if not status or status[0][0] != "succeeded" or order.effects != 1:
                raise Broken(f"3: locked out: a fresh command for {order.device} is {status}, effects {order.effects}")
