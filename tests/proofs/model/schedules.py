"""Seeded schedules: a configuration and a list of actions. Seeds from HEAVY on carry heavy load, from ATTACKED on
the world has a device that lies to the ledger, a broker that repeats and withholds, or both; from OVERTAKEN on live
messages overtake stored ones.
"""

import random
from typing import Any

Action = tuple[Any, ...]
Config = dict[str, bool]

HEAVY, ATTACKED, OVERTAKEN = 10**6, 2 * 10**6, 3 * 10**6
CONFIG = (
    "broker_expiry",
    "acl",
    "reorder",
    "puback_first",
    "clock",
    "short",
    "two_ledgers",
    "two_relays",
    "relay_dies",
    "patience",
    "faultfree",
    "overtakes",
)
FAULTS: dict[str, list[Any]] = {
    "cut": [("cut", 3)],
    "net": [("net", 1)],
    "wipe": [("wipe", 0.5)],
    "crash": [("snap", 2), ("crash", 0.8)],
    "lose": [("lose", 0.8)],
    "rkill": [("rkill", 1.5)],
    "roff": [("roff", 1.5)],
    "restore": [("backup", 1), ("restore", 0.8)],
    "app": [("app", 0.7)],
    "out": [("out", 1.5)],
    "forget": [("forget", 1)],
    "lease": [("lease", 2)],
}
ATTACKS: dict[str, list[Any]] = {
    "liar": [("lie", 3), ("other", 2)],
    "echo": [("hold", 1.5), ("late", 2), ("prune", 0.7), ("wipe", 0.7)],
}
LOAD: dict[str, list[Any]] = {"cancel": [("cancel", 4)], "expiry": [], "after": []}


def script(seed: int, steps: int = 220) -> tuple[Config, list[Action]]:
    """A configuration and a random list of actions."""
    g = random.Random(seed)
    on = {k for k in {**FAULTS, **LOAD} if g.random() < 0.35}
    on = on if g.random() > 0.12 else on - set(FAULTS)
    odds = {
        "broker_expiry": 0.6,
        "acl": 0.12,
        "reorder": 0.25,
        "puback_first": 0.4,
        "clock": 0.5,
        "short": 0.25,
        "two_ledgers": 0.25,
        "two_relays": 0.25,
        "relay_dies": 0.4,
        "patience": 0.5,
    }
    cfg = {k: g.random() < odds.get(k, 0) for k in CONFIG[:-1]}
    cfg["overtakes"] = seed >= OVERTAKEN
    cfg["faultfree"] = not on & set(FAULTS) and not cfg["acl"] and not cfg["reorder"]
    if cfg["faultfree"]:
        cfg.update(patience=True, relay_dies=False)
    if seed >= ATTACKED:  # nor is a broker without faults whose queues are out of order
        cfg["faultfree"] = False
    menu: list[Any] = [("dev", 60), ("brk", 70), ("relay", 70), ("wake", 8), ("send", 9), ("time", 3), ("dead", 3)]
    menu += [("rest", 3)] if cfg["faultfree"] else [] if cfg["patience"] else [("timeout", 3)]
    if HEAVY <= seed < ATTACKED and not cfg["faultfree"]:  # heavy: more than a window, more names than slots
        on |= set(
            g.choice(
                [
                    ("restore", "forget"),
                    ("expiry", "roff"),
                    ("restore", "expiry", "cancel"),
                    ("wipe", "cancel"),
                    ("cut",),
                ]
            )
        )
        steps = 400
        menu += [("send", 35), ("time", 6), ("wake", 6)] + [("restore", 4), ("forget", 4)] * ("restore" in on)
    if seed >= OVERTAKEN:
        menu += [("trickle", 30)]
    elif seed >= ATTACKED:
        menu += [m for k in g.choice([("liar",), ("echo",), ("liar", "echo")]) for m in ATTACKS[k]]
    menu += [m for k in sorted(on) for m in {**FAULTS, **LOAD}[k]]
    acts, pick = [], g.choice
    for k in g.choices(*zip(*menu, strict=False), k=steps):
        a: Action = (k,)
        if k in ("brk", "dead", "trickle"):
            a = (k, pick(["dev", "dev", "r0", "r0", "r1", "rB"]))
        elif k == "relay":
            a = (k, pick([0, 0, 1, 2]), pick(["in", "out"]))
        elif k == "send":
            a = (
                k,
                pick([0, 0, 1]),
                g.random() < 0.35,
                "failed" if g.random() < 0.2 else "succeeded",
                pick([2, 5, 9]) if "expiry" in on and g.random() < 0.5 else 0,
                "after" in on and g.random() < 0.4,
                int("app" in on and g.random() < 0.3),
                pick([1, 2, 3, 4]),
            )
        elif k == "time":
            a = (k, pick([1, 3]))
        elif k == "cancel":
            a = (k, pick([1, 1, 2, 3]))
        elif k == "crash":
            a = (k, pick([0, 1, 1, 2, 3]))
        elif k == "lose":
            a = (k, pick(["dev", "r0"]))
        elif k in ("rkill", "lease"):
            a = (k, pick([0, 0, 1, 2]))
        elif k == "lie":
            a = (k, pick(["end", "forgotten", "crc"]), pick(range(8)))
        elif k == "other":
            a = (k, pick([0, 0, 1]))
        elif k == "late":
            a = (k, g.random())
        elif k == "roff":
            a = (k, pick([0, 1]), g.random() < 0.5)
        acts += [a] * (pick([1, 1, 2, 4, 8]) if k in ("dev", "brk", "relay") else 1)
    return cfg, acts


def _send(repeatable: bool, outcome: str = "succeeded", exp: int = 0, after: bool = False, arg: int = 1) -> Action:
    return ("send", 0, repeatable, outcome, exp, after, 0, arg)


_REST, _WAKE = ("rest",), ("wake",)
STORY: list[Action] = [
    *(_REST, _WAKE, _REST, ("snap",), ("backup",)),
    *(_send(False), _send(True, "failed"), _send(False, arg=2), ("cancel", 1), _send(False, exp=3)),
    *(_REST, _WAKE, _REST, _send(False, after=True, arg=3), ("snap",), _REST, ("cancel", 1), ("time", 4)),
    *(_WAKE, _REST, _send(True, arg=4), _REST, _WAKE, _REST),
]
STORY_FAULTS: list[Action] = [
    *(("cut",), ("net",), ("crash", 0), ("crash", 1), ("crash", 2)),
    *(("lose", "dev"), ("lose", "r0"), ("rkill", 0), ("wipe",), ("restore",)),
    *(("lie", "end", 0), ("lie", "forgotten", 0), ("lie", "crc", 1), ("hold",), ("late", 0.0), ("late", 0.5)),
]
