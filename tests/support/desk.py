"""A ledger in which some days have passed: wakes, commands, readings, a silence, faults, and a device with bad words.

Must stay true: everything goes in as the relay brings it, on a clock that is moved by hand, so that the same call makes
the same life; only names that the ledger makes up are random.
"""

import json
from binascii import crc32

from dormouse import protocol
from dormouse_host.fleet import Fleet
from dormouse_host.ledger.store import Incoming

BEGIN = 1_790_000_000.0
HOUR = 3600
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>{{7*7}}'\"`"
EVIL = "evil"  # the id of the device whose words these are
CATALOGUE = {
    "commands": [
        ["water", [["s", "int"], ["zone", ["str", "bed"]], ["dry", ["bool", False]]], 60, False],
        [HOSTILE[:40], [[HOSTILE[:20], "str"]], 60, False],
    ],
    "telemetry": [],
}


class Time:
    """A clock that is moved by hand."""

    def __init__(self, begin: float) -> None:
        self.now = begin

    def __call__(self) -> float:
        return self.now


class Desk:
    """A fleet whose hours pass with `hour`. A context manager."""

    def __init__(self, where: str, devices: int = 4, begin: float = BEGIN) -> None:
        self.where = where
        self.time = Time(begin)
        self.fleet = Fleet(where, clock=self.time)
        self.names = [f"bed-{n + 1:02}" for n in range(devices)]
        self.wakes = dict.fromkeys([*self.names, EVIL], 0)
        self.fleet.add(*self.names, EVIL)
        self.fleet.group("garden", self.names[:2])

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, *_: object) -> None:
        self.fleet.close()

    def hour(self, *silent: str) -> None:
        """An hour passes: each device but the silent ones wakes, takes its commands and answers them."""
        self.time.now += HOUR
        awake = [name for name in self.wakes if name not in silent]
        self.fleet.ledger.take([self.report(name) for name in awake], "c0")
        self.fleet.ledger.take([self.records(name) for name in awake], "c0")
        due = self.fleet.ledger.claim("r", "c0", 100)
        answers = []
        for out in due:
            asked = json.loads(out.payload)
            if "do" not in asked or out.device in silent:
                continue
            self.time.now += 0.5
            said = {"id": asked["id"], "crc": crc32(out.payload), "status": "succeeded", "value": {"ran": 1}}
            if asked["do"] == "describe":
                said["value"] = CATALOGUE
            elif out.device == EVIL:
                said |= {"status": "failed", "why": HOSTILE, "value": {HOSTILE: HOSTILE}}
            answers.append(Incoming(out.device, protocol.RESULT, json.dumps([said]).encode()))
        if answers:
            self.fleet.ledger.take(answers, "c0")

    def report(self, name: str) -> Incoming:
        """The wake report of a device."""
        self.wakes[name] += 1
        wake = self.wakes[name]
        text = json.dumps(CATALOGUE, separators=(",", ":")).encode()
        said = {"wake": wake, "state": "s1", "cause": "timer", "next": HOUR, "battery": round(4.1 - wake * 0.004, 3)}
        said |= {"rssi": -60 - wake % 7, "agent": "0.1.0", "fw": "RPI_PICO_W 1.25.0", "limit": 2048}
        said["catalogue"] = f"{crc32(text):08x}"
        phases = {"boot": 300, "join": 600, "connect": 60, "drain": 90, "confirm": 40}
        last = {"ended": "finished", "ms": 1400 + 20 * (wake % 5), "phases": phases, "up": 700, "down": 90, "erases": 2}
        if name == EVIL:
            said |= {"app": HOSTILE, "readings": {HOSTILE: HOSTILE}, "cause": HOSTILE, "agent": HOSTILE, "fw": HOSTILE}
            last["why"] = HOSTILE
            if wake % 5 == 0:
                last["ended"] = HOSTILE
            said["settings"] = {HOSTILE: [HOSTILE, HOSTILE]}
        if wake > 1:
            said["last"] = last
        return Incoming(name, protocol.WAKE, json.dumps(said).encode())

    def records(self, name: str) -> Incoming:
        """Two readings of a device; the fifth is never sent."""
        wake = self.wakes[name]
        numbers = [2 * wake - 1, 2 * wake]
        values = {"temp": 18 + wake % 9 / 2, "moist": 40 - wake % 12}
        if name == EVIL:
            values[HOSTILE] = 1
        lines = [[number, -60 * (2 - n), values] for n, number in enumerate(numbers) if number != 5]
        return Incoming(name, protocol.TELEMETRY, json.dumps({"state": "s1", "records": lines}).encode())


def lived(where: str, hours: int = 60, devices: int = 4, begin: float = BEGIN) -> Desk:
    """A fleet after some hours: `bed-02` is silent from the 20th to the 32nd, the last `bed` in the last twelve; there
    are commands of each outcome.
    """
    desk = Desk(where, devices, begin)
    for n in range(hours):
        if n % 9 == 3:
            desk.fleet.send_many(desk.names, "water", {"s": 30})
            desk.time.now += 20
        if n % 20 == 5:
            desk.fleet.send(EVIL, "water", {"s": 1})
            desk.fleet.cancel(desk.fleet.send("bed-01", "water", {"s": 9}).name)
            desk.fleet.send("bed-02", "water", {"s": 5}, expires=1800)
        desk.hour(*(["bed-02"] if 20 <= n < 32 else []), *([desk.names[-1]] if n >= hours - 12 else []))
    return desk
