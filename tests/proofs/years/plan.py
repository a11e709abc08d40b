"""Schedules: from a seed what kind of world it is, and a list of what happens in it, each (second, kind, arguments…).

Must stay true: everything that a person, the weather or a fault does is an entry of the list, so that a shorter list is
a smaller world; an entry that can do nothing where it stands does nothing.
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from proofs.years.program import KINDS
from proofs.years.releases import BAD, GOOD

DAY = 86400.0
Act = tuple[Any, ...]
FAULTS = ("cut", "net", "prog", "clock", "wipe", "broker", "lose", "rkill", "roff", "restore", "hostclock", "half")
MOODS = (
    "import raises",
    "import hangs",
    "safe_state hangs",
    "reading raises",
    "reading hangs",
    "handler hangs",
)
HANGING = ("import hangs", "safe_state hangs", "reading hangs")
QUIET = (  # what is no fault
    *("order", "flood", "plain", "cancel", "save", "prune"),
    *("update", "rollout", "rollout of", "withdraw"),
)
_BREAKING = ("cut", "power", "flash", "wipe", "update", "rollout")  # … and what may end a wake before it has
_LEDGERS = 4
_CUTS = ("before", "half", "after", "send", "sent", "wait", "effect", "any")
_STEPS = ("before", "after", "take", "claim", "acknowledged", "publish", "confirm", "keep_alive")


class Plan(NamedTuple):
    """A world and what happens in it."""

    seed: int
    days: float
    devices: int
    relays: int
    traits: dict[str, Any]
    settings: dict[str, Any]
    acts: list[Act]

    @property
    def blameless(self) -> bool:
        """Is there nothing that breaks a wake by a program's fault, but in its handlers?"""
        return not any(act[1] in _BREAKING or (act[1] == "prog" and act[3] in HANGING) for act in self.acts)


def make(seed: int, days: float | None = None) -> Plan:
    """The plan of this seed."""
    g = random.Random(f"plan {seed}")
    traits = {
        "reorder": g.random() < 0.2,
        "puback_first": g.random() < 0.5,
        "acl": g.random() < 0.08,
        "window": g.choice((1, 5, 20, 20, 20, 100)),
        "queue": g.choice((4, 20, 100, 1000, 1000, 1000)),
    }
    settings: dict[str, Any] = {"connect_every": g.choice((300, 900, 900, 900, 1800))}
    if g.random() < 0.15:
        settings["inbox"] = g.choice((1, 3, 8))
    if g.random() < 0.15:
        settings["retain"] = False
    if g.random() < 0.1:
        settings["clock"] = "none"
    if g.random() < 0.2:
        settings["sample_every"] = settings["connect_every"] // g.choice((2, 3))
    days = days or g.choice((2, 3, 4, 5, 20))
    devices, relays = g.choice((1, 1, 2, 3)), g.choice((1, 1, 2))
    faults = [fault for fault in FAULTS if g.random() < 0.35] if g.random() > 0.08 else []
    acts = _acts(g, days * DAY, devices, relays, faults)
    updates = _updates(random.Random(f"updates {seed}"), days * DAY, devices, relays)
    acts += updates + _aimed(random.Random(f"aimed {seed}"), updates, devices)
    acts += _flash(random.Random(f"flash {seed}"), days * DAY, devices)
    acts += _floods(random.Random(f"floods {seed}"), days * DAY, devices, relays)
    acts += _plains(random.Random(f"plains {seed}"), days * DAY, devices)
    acts += _repeats(random.Random(f"repeats {seed}"), days * DAY, devices)
    return Plan(seed, days, devices, relays, traits, settings, sorted(acts, key=lambda act: act[0]))


def _acts(g: random.Random, span: float, devices: int, relays: int, faults: list[str]) -> list[Act]:
    acts: list[Act] = []
    rate = g.choice((1, 3, 10, 40))  # commands a day and device
    pads = g.choice(((0,), (0,), (0, 0, 100, 700, 1500)))  # bytes that a command carries besides
    at = 0.0
    while (at := at + g.expovariate(rate * devices / DAY)) < span:
        count = g.choice((1, 1, 1, 2, 5, 30)) if g.random() < 0.3 else 1
        acts += [_order(g, at, g.randrange(devices), pads) for _ in range(count)]
        if g.random() < 0.002:  # as many as a device can tell apart, and more
            acts += [(at, "order", 0, "do", None, False) for _ in range(300)]
        if g.random() < 0.15:
            acts.append((at + g.expovariate(1 / 900), "cancel", g.randrange(5)))
        if g.random() < 0.1:
            acts.append((at, "plain", g.randrange(devices), g.choice(pads)))
    if faults:
        at, often = 0.0, g.choice((1, 3, 8, 24))  # bursts a day
        while (at := at + g.expovariate(often / DAY)) < span:
            if g.random() < 0.5:  # a fault where nothing is under way breaks nothing
                device, several = g.randrange(devices), g.choice((1, 1, 2, 5, 30))
                acts += [_order(g, at - g.choice((0, 60, 900)), device, pads) for _ in range(several)]
            for _ in range(g.choice((1, 1, 2, 2, 3, 6))):
                acts.append(_fault(g, at + g.choice((0, g.expovariate(1 / 900))), g.choice(faults), devices, relays))
    if "restore" in faults or "broker" in faults:
        acts += [(n * 21600 + g.random() * 9000, "save") for n in range(int(span / 21600))]
    acts += [(n * 10 * DAY, "prune") for n in range(1, int(span / DAY / 10) + 1)]
    acts = sorted((act for act in acts if act[0] < span), key=lambda act: act[0])
    names = 0  # of the ledger: with each restore one more, and a device knows four
    kept = []
    for act in acts:
        names += act[1] == "restore"
        if act[1] != "restore" or names < _LEDGERS:
            kept.append(act)
    return kept


def _order(g: random.Random, at: float, device: int, pads: Sequence[int]) -> Act:
    kind = g.choice(KINDS) if g.random() < 0.35 else "do"
    expires = round(g.choice((60, 900, 4000))) if g.random() < 0.2 else None
    return (max(at, 0.0), "order", device, kind, expires, g.random() < 0.1, g.choice(pads))


def _updates(g: random.Random, span: float, devices: int, relays: int) -> list[Act]:
    """In one world of four; a release is ordered again at times, and one that a rollout has by nobody else."""
    acts: list[Act] = []
    if g.random() > 0.25:
        return acts
    at, often, bad = 0.0, g.choice((2, 6)), g.choice((0, 0.2, 0.5))  # a day and device
    rough = g.choice(((0,), (0, 1), (2, 4, 8)))
    made = []
    while (at := at + g.expovariate(often * devices / DAY)) < span:
        one = len(acts) + 1, g.choice(BAD) if g.random() < bad else GOOD, g.choice((0, 0, 600, 3000, 9000))
        if g.random() < 0.25:
            waves = g.choice(((1, 2, 3), (1, 3), (2, 3), (3,)))
            acts.append((at, "rollout", *one, (*(n for n in waves if n < devices), devices), g.choice((0, 0.5))))
        else:
            made.append(one)
            expires = g.choice((2000, 20000)) if g.random() < 0.1 else None
            acts.append((at, "update", g.randrange(devices), *g.choice((one, one, g.choice(made))), expires))
        if g.random() < 0.15:
            count = (*(n for n in g.choice(((1, 2, 3), (1, 3), (3,))) if n < devices), devices)
            acts.append((at, "rollout of", g.choice(KINDS), count, g.choice((0, 0.5))))
        if g.random() < 0.15:
            acts.append((at + g.expovariate(1 / 1800), "withdraw", g.random() < 0.5))
        if g.random() < 0.1:
            acts.append((at + g.expovariate(1 / 1800), "rkill", g.randrange(relays), "rollouts", g.randrange(4)))
        for _ in range(g.choice(rough)):  # where a chunk, a slot or a mark is written, or chunks are under way
            acts.append(_fault(g, at + g.expovariate(1 / 2700), g.choice(("cut", "net")), devices, relays))
    return [act for act in acts if act[0] < span]


def _aimed(g: random.Random, updates: list[Act], devices: int) -> list[Act]:
    """In half of the worlds with updates: the power goes where a release or a mark is changed, the connection where its
    chunks are under way.
    """
    acts: list[Act] = []
    if g.random() < 0.5:
        return acts
    for act in updates:
        if act[1] not in ("update", "rollout") or g.random() < 0.3:
            continue
        device = act[2] if act[1] == "update" else g.randrange(devices)
        if g.random() < 0.7:
            acts.append((act[0], "cut", device, "slot", g.randrange(60), "power", g.choice((0.5, 3)), True))
        else:
            acts.append((act[0], "net", device, g.choice(("reset up", "mute up")), g.randrange(100, 2000)))
    return acts


def _flash(g: random.Random, span: float, devices: int) -> list[Act]:
    """In one world of six: flash that is worn or full for a while."""
    acts: list[Act] = []
    if g.random() > 1 / 6:
        return acts
    at, often = 0.0, g.choice((0.5, 2))  # a day and device
    while (at := at + g.expovariate(often * devices / DAY)) < span:
        acts.append((at, "flash", g.randrange(devices), g.choice(("worn", "full")), g.choice((900, 4000, 40000))))
    return acts


def _floods(g: random.Random, span: float, devices: int, relays: int) -> list[Act]:
    """In one world of ten: more commands at once than a device can tell apart, and what may lose some of them."""
    acts: list[Act] = []
    if g.random() > 0.1:
        return acts
    at = 0.0
    while (at := at + g.expovariate(1 / DAY)) < span:
        device = g.randrange(devices)
        kind = g.choice(("do", "do", "again"))
        acts.append((at, "flood", device, kind, g.choice((70, 200, 330))))
        if g.random() < 0.3:
            acts += [(at - 1, "save"), (at + 20, "broker", 1, 0), (at + 40, "flood", device, kind, 200)]
        acts += [
            _fault(g, at + g.expovariate(1 / 1800), g.choice(("broker", "lose", "rkill", "cut")), devices, relays)
            for _ in range(g.choice((0, 2, 5)))
        ]
    return [act for act in acts if act[0] < span]


def _plains(g: random.Random, span: float, devices: int) -> list[Act]:
    """In one world of ten: commands that no ledger knows, and power cuts in the wakes that take them."""
    acts: list[Act] = []
    if g.random() > 0.1:
        return acts
    at, often = 0.0, g.choice((4, 20))  # a day and device
    while (at := at + g.expovariate(often * devices / DAY)) < span:
        device, few = g.randrange(devices), g.randrange(g.choice((3, 12)))
        acts += [(at, "plain", device, 0) for _ in range(g.choice((1, 1, 3)))]
        if g.random() < 0.7:
            what = g.choice(("before", "half", "after", "send", "sent"))
            acts.append((at, "cut", device, what, few, "power", g.choice((0.5, 3)), True))
    return acts


def _repeats(g: random.Random, span: float, devices: int) -> list[Act]:
    """In one world of ten: repeatable commands whose handlers hang for a while."""
    acts: list[Act] = []
    if g.random() > 0.1:
        return acts
    at = 0.0
    while (at := at + g.expovariate(2 * devices / DAY)) < span:
        device = g.randrange(devices)
        acts += [(at, "order", device, "again", None, False, 0), (at, "prog", device, "handler hangs", 5000)]
    return acts


def _fault(g: random.Random, at: float, kind: str, devices: int, relays: int) -> Act:
    device, relay = g.randrange(devices), g.randrange(relays)
    few = min(int(g.expovariate(1 / g.choice((2, 6, 20, 80)))), 300)
    match kind:
        case "cut" if g.random() < 0.2:
            return (at, "power", device, g.choice(("power", "unknown", "reset", "pin")), g.choice((1, 30, 4000)))
        case "cut":
            cause = g.choice(("power", "unknown", "watchdog"))
            busy = g.random() < 0.7
            return (at, "cut", device, g.choice(_CUTS), few, cause, g.choice((0.5, 3, 2000)), busy)
        case "net":
            what = g.choice(("refused", "silent", "reset up", "reset down", "mute up", "mute down"))
            return (at, "net", device, what, g.choice((0, 3, 20, 120, 600, 2000)) + g.randrange(60))
        case "prog":
            return (at, "prog", device, g.choice(MOODS), g.choice((1000, 5000, 40000)))
        case "clock":
            return (at, "clock", device, g.choice((None, -3600, 90, 86400, 1e8, -1.6e9)))
        case "wipe" | "half" if g.random() < 0.6:
            return (at, "power", device, "power", 5)
        case "wipe":
            return (at, "wipe", device)
        case "broker":
            return (at, "broker", g.choice(("restart", "forget", 1, 1, 2, 3)), g.choice((0, 5, 600, 5000)))
        case "lose":
            return (at, "lose", g.choice(("device", "device", "relay")), device, relay)
        case "rkill":
            return (at, "rkill", relay, g.choice(_STEPS), few % 7)
        case "roff":
            return (at, "roff", relay, g.choice((30, 1200, 10000)))
        case "restore":
            return (at, "restore", g.random() < 0.5)
        case "hostclock":
            return (at, "hostclock", g.choice((-3600, -20, 20, 7200)))
        case _:
            return (at, "die", relay)
