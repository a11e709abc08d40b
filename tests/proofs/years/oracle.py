"""The judge: what was ordered, what happened, and what the ledger says of it.

Must stay true: it shares no code with agent, relay or ledger. It knows orders, effects and samples from the world, and
reads the ledger by SQL of its own. A failure's text begins with the number of the promise that is broken:
1 nothing lost, 2 nothing twice, 3 never stuck, 4 asleep at the earliest, 5 the ledger lies.
"""

from dataclasses import dataclass, field
from typing import Any

TRIES = 3  # of a repeatable command
_BUDGET = 20.0 + 5 + 3  # seconds awake: the wake's budget, `patience`, and what comes after
_HANDLERS = {"slow": 3.1, "long": 7.2, "hang": 5.0}  # … and of these handlers each its own
_TOTAL = 605.0
_WATCHDOG = 30.0  # … and what it takes to end a program that hangs
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
    begun: int = 0
    effects: int = 0
    lost: bool = False  # it went with a ledger that an older copy took the place of
    wiped: bool = False  # its device was wiped, or its ledger restored, while it was open
    disturbed: bool = False  # something happened to its device that may interrupt


@dataclass
class Samples:
    """Of one device: what its reading returned."""

    last: int = 0
    kept: dict[int, float] = field(default_factory=dict)  # on flash for certain, with the time


class Oracle:
    """`ask(sql, arguments)` reads the ledger."""

    def __init__(self, ask: Any) -> None:
        self._ask = ask
        self.orders: dict[int, Order] = {}
        self.names: dict[str, Order] = {}
        self.open: dict[str, Order] = {}
        self.samples: dict[str, Samples] = {}
        self.restored = False  # without a word to the ledger
        self.checks = 0
        self._spent: dict[str, float] = {}  # by handlers, in this wake

    # ---- what happens

    def ordered(self, order: Order) -> None:
        """A command entered the ledger."""
        self.orders[order.k] = self.names[order.name] = self.open[order.name] = order

    def begun(self, k: int) -> None:
        """A handler begins."""
        order = self.orders[k]
        order.begun += 1
        self._spent[order.device] = self._spent.get(order.device, 0.0) + _HANDLERS.get(order.kind, 0.01)
        if order.begun > (TRIES if order.kind == "again" else 1):
            raise Broken(f"2: {order.kind} {k} {order.name} began {order.begun} times")

    def effect(self, k: int) -> None:
        """It has its effect."""
        order = self.orders[k]
        order.effects += 1
        if order.effects > (TRIES if order.kind == "again" else 1):
            raise Broken(f"2: the effect of {order.kind} {k} {order.name} happened {order.effects} times")
        if order.after and not order.lost and order.after in self.names:
            status = self._ask("SELECT status FROM commands WHERE name = ?", (order.after,))
            if status and status[0][0] not in _FINAL and not self.restored:
                raise Broken(f"5: {order.name} ran before {order.after}, which is {status[0][0]}, was settled")

    def wiped(self, device: str) -> None:
        """A device's flash was wiped."""
        for order in self.open.values():
            order.wiped = order.wiped or order.device == device
        self.samples[device].kept.clear()

    def went_back(self, told: bool) -> None:
        """The ledger is an older copy of itself."""
        there = {name for (name,) in self._ask("SELECT name FROM commands")}
        for order in self.orders.values():
            order.wiped = True
            order.lost = order.lost or order.name not in there
        self.open = {name: order for name, order in self.names.items() if not order.lost}
        self.restored = self.restored or not told

    def disturbed(self, device: str) -> None:
        """A wake of this device did not go as it should."""
        for order in self.open.values():
            order.disturbed = order.disturbed or order.device == device

    # ---- what is judged

    def woke(self, device: str, seconds: float, how: str) -> None:
        """A wake has ended after so long; `how`: "cut", "failed" or "slept"."""
        self.checks += 1
        allowed = min(_BUDGET + self._spent.pop(device, 0.0), _TOTAL) + _WATCHDOG * (how == "cut")
        if seconds > allowed:
            raise Broken(f"3: {device} was awake for {seconds:.1f} s, and may be for {allowed:.1f}")
        if self.open:
            self.look(list(self.open.values()))

    def look(self, orders: list[Order]) -> None:
        """What the ledger says of these commands now."""
        for start in range(0, len(orders), 500):
            some = orders[start : start + 500]
            marks = ",".join("?" * len(some))
            query = f"SELECT name, status, open, provisional, value, why FROM commands WHERE name IN ({marks})"
            for name, status, still, provisional, value, why in self._ask(query, [order.name for order in some]):
                order = self.names[name]
                if not still:
                    self._judge(order, status, bool(provisional), value, why)
                    if not provisional:
                        self.open.pop(name, None)

    def _judge(self, order: Order, status: str, provisional: bool, value: str | None, why: str | None) -> None:
        what = f"{order.kind} {order.k} {order.name} of {order.device} is {status} ({why}), effects {order.effects}"
        if provisional:
            return
        if status == "succeeded" and (not order.effects or order.kind in ("fail", "long", "hang", "quits")):
            raise Broken(f"5: {what}")
        if status == "succeeded" and value not in (None, f'{{"k":{order.k}}}'):
            raise Broken(f"5: {what}, with the value {value}")
        if status == "failed" and (not order.effects or order.kind not in ("fail", "quits")):
            raise Broken(f"5: {what}")
        if status in ("expired", "cancelled", "rejected") and order.effects and not self.restored:
            raise Broken(f"5: {what}")
        if status == "rejected" and not order.wiped:
            raise Broken(f"5: {what}")
        if status == "interrupted" and not order.disturbed and order.kind not in ("long", "hang"):
            raise Broken(f"5: {what}, and nothing disturbed it")
        if status == "unknown" and not order.wiped:
            raise Broken(f"5: {what}, and nothing was wiped or restored")

    def settled(self, before: float) -> None:
        """Everything has had its time: nothing is open, no sample of before that time is missing."""
        there = {}
        for name, status, still, provisional, value, why in self._ask(
            "SELECT name, status, open, provisional, value, why FROM commands"
        ):
            there[name] = status
            order = self.names.get(name)
            if order is None:
                continue
            if still:
                raise Broken(f"1: {order.kind} {order.k} {name} of {order.device} is {status} for ever")
            self._judge(order, status, bool(provisional), value, why)
            if provisional and status in ("expired", "cancelled") and order.effects and not self.restored:
                raise Broken(f"5: {order.kind} {order.k} {name} is called {status}, effects {order.effects}")
        gone = [order.name for order in self.orders.values() if not order.lost and order.name not in there]
        if gone:
            raise Broken(f"1: {gone} left the ledger")
        for device in self.samples:
            self._telemetry(device, before)

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
        missing = [n for n, at in samples.kept.items() if n not in seen and at < before]
        dropped = self._ask("SELECT coalesce(sum(dropped), 0) FROM telemetry_streams WHERE device = ?", (device,))
        if len(missing) > dropped[0][0]:
            raise Broken(f"1: samples {missing[:9]} of {device} are missing, and {dropped[0][0]} counted as dropped")

    def probe(self, orders: list[Order]) -> None:
        """Fresh commands at the end, of which each one succeeds."""
        for order in orders:
            status = self._ask("SELECT status, why FROM commands WHERE name = ?", (order.name,))
            if not status or status[0][0] != "succeeded" or order.effects != 1:
                raise Broken(f"3: locked out: a fresh command for {order.device} is {status}, effects {order.effects}")
