"""Home Assistant: what it is told and when, and the commands that come from there.

Must stay true: a message is published where it differs from the last one, and all of them after each connection; a
device is `online` while it is not overdue as `dormouse status --overdue` has it, also asleep; a command is in the
ledger before its message is acknowledged, and once however often that comes; one that is older than `expires`, or is
none of the device's catalogue, is refused; an update is ordered again once, and never one that nobody has ordered.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dormouse_host import orders
from dormouse_host.desk import entities
from dormouse_host.desk.config import Home
from dormouse_host.errors import HostError
from dormouse_host.ledger.contention import Busy
from dormouse_host.ledger.database import Gone
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.home import Mark
from dormouse_host.ledger.lateness import GRACE
from dormouse_host.ledger.offers import Program
from dormouse_host.ledger.queries import DeviceView
from dormouse_host.ledger.store import Ledger
from dormouse_host.ledger.watching import LATE
from dormouse_host.relay import log
from dormouse_host.relay.beside import Aside, Note

ONLINE, OFFLINE = b"online", b"offline"
_AHEAD = 300.0  # seconds by which the clock of Home Assistant may be ahead
_SLICE = 40  # devices in one transaction
_PAUSE = 0.02  # seconds between two slices
_WALK = 15.0  # seconds between two looks at who is overdue
_BIGGEST = 4096  # bytes of a command's message


class Homes:
    """What Home Assistant knows of a ledger's devices, through a relay's connection."""

    def __init__(self, ledger: Ledger, wanted: Home, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._wanted = wanted
        self._clock = clock
        self.places = entities.Places(wanted.prefix)
        self.will = Note(self.places.relay, OFFLINE)
        self.topics = (self.places.relay, self.places.orders)
        self._known: dict[str, dict[str, str]] = {}
        self._sent: dict[str, int] = {}  # topic -> hash of the payload
        self._marks: dict[str, Mark] = {}
        self._queue: dict[str, None] = {}
        self._changing: dict[str, bool] = {}  # changed at the last look; was it then, too?
        self._programs: dict[str, Program] = {}
        self._events = 0.0
        self._updates = 0  # the key of the newest event of an update
        self._walked = 0.0
        self._fresh = True

    def begin(self) -> None:
        """Tell everything again: the connection is new, or another relay has told it meanwhile."""
        self._fresh = True

    # ---- what it is told

    @property
    def has_more(self) -> bool:
        """Is there more to tell that is known already?"""
        return bool(self._queue)

    def look(self, room: int, *, again: bool = True) -> list[Note]:
        """What is to be published now: so many messages, or some more. `again`: look for what has changed, too. A
        device that changes is told once it has not changed from one such look to the next, or at the third in a row:
        so a wake is told once.
        """
        try:
            return self._look(room, again=again)
        except HostError:
            self._fresh = True  # of what was made of it until then nothing goes out
            raise

    def _look(self, room: int, *, again: bool) -> list[Note]:
        if self._fresh:
            self._begin()
        if again:
            self._find_changes()
        notes: deque[Note] = deque()
        if time.monotonic() - self._walked >= _WALK:
            self._walked = time.monotonic()
            notes += self._availability()
        while self._queue and len(notes) < room:
            some = [self._queue.popitem()[0] for _ in range(min(_SLICE, len(self._queue)))]
            notes += self._tell(some)
            time.sleep(_PAUSE)
        return list(notes)

    def _begin(self) -> None:
        self._known = self._ledger.home_known()
        self._events = self._ledger.newest_event()
        _, self._updates = self._ledger.home_updating(self._updates)
        self._programs = self._ledger.home_programs()
        self._sent, self._marks, self._changing, self._fresh = {}, {}, {}, False
        every = self._ledger.members(None)
        self._queue = dict.fromkeys([*every, *self._known])
        self._walked = 0.0

    def _find_changes(self) -> None:
        newest = self._ledger.newest_event()
        changed = set()
        for device, found in self._ledger.home_changes(self._clock() - LATE, self._events).items():
            mark = found.after(self._marks.get(device))
            if self._marks.get(device) != mark:
                self._marks[device] = mark
                changed.add(device)
        self._events = newest
        settled = [device for device, before in self._changing.items() if before or device not in changed]
        self._queue.update(dict.fromkeys(settled))
        self._changing = {device: device in self._changing for device in changed.difference(settled)}
        updating, self._updates = self._ledger.home_updating(self._updates)
        for device, program in self._ledger.home_programs(updating).items() if updating else ():
            if self._programs.get(device) != program:
                self._programs[device] = program
                self._queue[device] = None

    def _tell(self, some: list[str]) -> list[Note]:
        found = {standing.view.id: standing for standing in self._ledger.home_standings(some)}
        notes: list[Note] = []
        news: dict[str, dict[str, str] | None] = {}
        for device in some:
            standing = found.get(device)
            if standing is None:
                if self._known.pop(device, None) is not None:
                    news[device] = None
                    notes += self._forget(device)
                continue
            standing = replace(standing, program=self._programs.get(device))
            known = self._known.get(device, {})
            message, components = entities.describe(self.places, standing, known)
            notes += self._new(self.places.of(device, "availability"), _availability(standing.view, self._clock()))
            notes += self._new(self.places.config(device), message)
            notes += self._new(self.places.of(device, "state"), entities.state(standing, components))
            if components != known:
                news[device] = self._known[device] = components
        if news:
            self._ledger.home_told(news)
        return notes

    def _forget(self, device: str) -> list[Note]:
        """The device is no more."""
        topics = (self.places.config(device), *(self.places.of(device, leaf) for leaf in ("availability", "state")))
        return [Note(topic, b"") for topic in topics]

    def _availability(self) -> list[Note]:
        now = self._clock()
        notes: list[Note] = []
        there = set()
        for view in self._ledger.all_due():
            there.add(view.id)
            if view.id in self._known:
                notes += self._new(self.places.of(view.id, "availability"), _availability(view, now))
        for device in self._known.keys() - there:
            self._queue[device] = None
        return notes

    def _new(self, topic: str, payload: bytes) -> list[Note]:
        if self._sent.get(topic) == hash(payload):
            return []
        self._sent[topic] = hash(payload)
        return [Note(topic, payload)]

    # ---- what comes from there

    def hear(self, message: Aside) -> list[Note]:
        """Take a message of our topics; what is to be published for it. Busy or Gone where the ledger takes nothing."""
        if message.topic == self.places.relay:
            return [Note(self.places.relay, ONLINE)] if message.payload == OFFLINE else []
        try:
            name = self._enter(message)
        except (Busy, Gone):
            raise
        except (HostError, ValueError) as error:
            log.warning("order refused", topic=message.topic, why=error)
        else:
            if name is not None:
                log.info("order", command=name)
        return []

    def _enter(self, message: Aside) -> str | None:
        said = _read(message.payload)
        device = said.get("device")
        if not isinstance(device, str) or message.topic != self.places.of(device, "set"):
            raise ValueError("the topic is not the device's")
        if isinstance(again := said.get("install"), str):
            return self._ledger.home_install(device, again)
        do, args, at = _order(said)
        now = self._clock()
        if not now - self._wanted.expires < at <= now + _AHEAD:
            raise ValueError("it is too old, or from the future")
        found = self._ledger.views(device)
        if not found:
            raise ValueError("no such device")
        command = entities.commands(found[0].catalogue).get(do)
        if command is None or set(args) != ({command.argument} if command.argument else set()):
            raise ValueError("not a command of the device's catalogue for Home Assistant")
        expires = int(at + self._wanted.expires) + 1
        text, _ = orders.check(found[0], do, args, expires)
        digest = hashlib.sha256(message.topic.encode() + b"\n" + message.payload).hexdigest()
        return self._ledger.home_order(digest, Order(device, do, text, expires))


def _availability(view: DeviceView, now: float) -> bytes:
    heard = view.seen is not None and not view.revoked
    return ONLINE if heard and view.missed(now) <= GRACE else OFFLINE


def _read(payload: bytes) -> dict[str, Any]:
    """The fields of a message. ValueError where it has none."""
    if len(payload) > _BIGGEST:
        raise ValueError("too long")
    try:
        said = json.loads(payload)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(said, dict):
        raise ValueError("not an object")
    return said


def _order(said: dict[str, Any]) -> tuple[str, dict[str, Any], float]:
    """Command, arguments and time of a message. ValueError where it is none."""
    do, args, at = (said.get(key) for key in ("do", "args", "at"))
    if not isinstance(do, str) or not isinstance(args, dict):
        raise ValueError("expected device, do, args and at")
    if isinstance(at, bool) or not isinstance(at, int | float) or not abs(at) < 1 << 53:
        raise ValueError("expected device, do, args and at")
    return do, args, float(at)
