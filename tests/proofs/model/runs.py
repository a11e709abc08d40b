"""Playing schedules: campaigns, the shortest schedule that still fails, every fault after every step of one story."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

from proofs.model import schedules
from proofs.model.schedules import Action, Config
from proofs.model.wire import Broken
from proofs.model.world import World

Play = Callable[[Config, Sequence[Action]], str | None]
SHRINKING = 40  # seconds, at most


def play(
    cfg: Config, acts: Sequence[Action], rules: Collection[str], inject: dict[int, list[Action]] | None = None
) -> tuple[str | None, World]:
    """Play one schedule to its end. Returns what broke, None where everything held. `inject`: actions after a step."""
    w = World(cfg, rules)
    w.inject = inject or {}
    try:
        if cfg["faultfree"]:
            for _ in range(2):
                w.settle()
                w.act(("wake",))
            w.settle()
        for a in acts:
            w.settle() if a[0] == "rest" else w.act(a)
        w.length, w.inject = w.steps, {}
        w.finish()
    except Broken as e:
        return str(e), w
    return None, w


def shrink(cfg: Config, acts: list[Action], rules: Collection[str], kind: str) -> tuple[Config, list[Action]]:
    """Leave out what the failure of this kind does not need."""
    size, began = len(acts) // 2, time.monotonic()

    def fails(c: Config, a: list[Action]) -> bool:
        return (play(c, a, rules)[0] or "")[:1] == kind

    while size and time.monotonic() - began < SHRINKING:
        i, hit = 0, False
        while i < len(acts):
            if fails(cfg, acts[:i] + acts[i + size :]):
                acts, hit = acts[:i] + acts[i + size :], True
            else:
                i += size
        size = size if hit and size == 1 else size // 2
    for k in cfg:
        if cfg[k] and fails({**cfg, k: False}, acts):
            cfg = {**cfg, k: False}
    return cfg, acts


class Tally:
    """Schedules played, and those that broke a promise, by kind."""

    def __init__(self) -> None:
        self.count, self.began = 0, time.monotonic()
        self.bad: dict[str, list[tuple[Any, str]]] = defaultdict(list)

    @property
    def failed(self) -> int:
        return sum(map(len, self.bad.values()))

    def add(self, where: Any, broken: str | None) -> None:
        """One schedule was played; `where` names it."""
        self.count += 1
        if broken:
            self.bad[broken[:1] + (broken[1:18] if broken[0] == "3" else "")].append((where, broken))

    def past(self, seconds: float | None) -> bool:
        """Is the time used up?"""
        return bool(seconds) and time.monotonic() - self.began > (seconds or 0)

    def lines(self, what: str, examples: int = 3) -> list[str]:
        """The figures, and the first failures of each kind."""
        kinds = {kind: len(some) for kind, some in self.bad.items()}
        head = f"{what} {self.count}, {time.monotonic() - self.began:.0f} s, failing {self.failed} {kinds}"
        return [head] + [f"   {where}  {broken}" for some in self.bad.values() for where, broken in some[:examples]]


def campaign(
    rules: Collection[str], low: int, high: int, seconds: float | None = None, *, first: bool = False
) -> Tally:
    """Seeds `low` to `high`, for so many seconds at most; `first`: only until one fails."""
    tally = Tally()
    for seed in range(low, high):
        if tally.past(seconds) or (first and tally.bad):
            break
        tally.add(f"seed {seed}", play(*schedules.script(seed), rules)[0])
    return tally


def exhaustive(rules: Collection[str], seconds: float | None = None) -> Tally:
    """One story; every fault after every step of it, and pairs of a fault and a cut; in five configurations."""
    tally, wake = Tally(), ("wake",)
    for extra in ({}, {"puback_first": True}, {"acl": True}, {"reorder": True}, {"clock": True}):
        cfg = {**dict.fromkeys(schedules.CONFIG, False), **extra}
        top = play(cfg, schedules.STORY, rules)[1].length
        plans: list[dict[int, list[Action]]] = [
            {i: [f, wake]} for f in schedules.STORY_FAULTS for i in range(1, top + 1)
        ]
        if not extra:
            plans += [
                {i: [f, wake], j: [("cut",), wake]}
                for f in schedules.STORY_FAULTS
                for i in range(1, top + 1, 5)
                for j in range(i + 1, top + 30, 11)
            ]
        for plan in plans:
            if tally.past(seconds):
                break
            tally.add((extra, plan), play(cfg, schedules.STORY, rules, plan)[0])
    return tally
