"""Several processes that do whatever a ledger can do, at random and all at once: do their locks have one order?

Must stay true: the ledger is real and on PostgreSQL, and each process has connections of its own; a deadlock counts
though the ledger tries again; the work depends on the seed alone, but for what the others do meanwhile.
"""

import json
import multiprocessing
import random
import time
from binascii import crc32
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

from sqlalchemy import Engine, event, select

from dormouse import protocol
from dormouse.signing import Signer
from dormouse_host.errors import HostError
from dormouse_host.ledger import rows, rules
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.outbound import Ack
from dormouse_host.ledger.store import Incoming, Ledger

DEVICES = [f"d{number}" for number in range(6)]
KEY = "5c" * 32
LEAST = 60  # steps of each process, however slow the machine is
_SPAWN = multiprocessing.get_context("spawn")  # a fork of a process with threads may inherit a lock for ever
_OPTIONS = "?options=-c%20deadlock_timeout%3D30ms%20-c%20lock_timeout%3D20s"  # a deadlock is found soon
_REFUSED = ("is not known", "no command", "is alive", "has given all its numbers")  # what a person would be told


@dataclass
class Found:
    """What one process did, how often; the SQLSTATEs that PostgreSQL answered; the errors that it was left with; and of
    each deadlock what the server says of it, with the statement.
    """

    done: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    deadlocks: list[str] = field(default_factory=list)

    def __add__(self, more: "Found") -> "Found":
        deadlocks = self.deadlocks + more.deadlocks
        return Found(self.done + more.done, self.states + more.states, self.errors + more.errors, deadlocks)


class Worker:
    """One process's work."""

    def __init__(self, url: str, seed: int, number: int, only: Sequence[str] = ()) -> None:
        """`only`: the kinds of work to do, all without."""
        self.ledger = Ledger(url)
        self.dice = random.Random(f"{seed}/{number}")
        self.name = f"r{number}"
        self.instance: str | None = None
        self.sent: list = []
        self.wakes = 1000 * number
        self.kinds: list[Callable[[], object]] = [
            *[self.send, self.take, self.claim] * 4,
            *[self.cancel, self.follow, self.new, self.gaps] * 2,
            *(self.wrong_crc, self.forgotten, self.high_windows, self.rotate),
            *(self.prune, self.group, self.key, self.remove, self.live, self.stop, self.restore),
        ]
        self.kinds = [kind for kind in self.kinds if not only or kind.__name__ in only]
        self.doing = ""
        self.first = list(dict.fromkeys(self.kinds))
        self.dice.shuffle(self.first)

    def step(self) -> str:
        """One piece of work; its name. Each kind has been done once before any is left to chance."""
        kind = self.first.pop() if self.first else self.dice.choice(self.kinds)
        self.doing = kind.__name__
        kind()
        return kind.__name__

    def some(self, most: int = 4) -> list[str]:
        return self.dice.sample(DEVICES, self.dice.randint(1, most))

    def send(self) -> None:
        self.ledger.enter([Order(device, "ping") for device in self.some()], create=self.dice.random() < 0.3)

    def follow(self) -> None:
        """Commands that wait for another's."""
        names = self.open_names()
        if names:
            after = self.dice.choice(names)
            self.ledger.enter([Order(device, "ping", after=after) for device in self.some(2)])

    def open_names(self) -> list[str]:
        with self.ledger.database.reading() as connection:
            newest = select(rows.commands.name).where(rows.commands.open).order_by(rows.commands.key.desc()).limit(20)
            return list(connection.execute(newest).scalars())

    def cancel(self) -> None:
        names = self.open_names()  # any: the newest have no followers yet
        for name in self.dice.sample(names, min(3, len(names))):
            self.ledger.cancel(name)

    def new(self) -> None:
        self.ledger.add_devices(self.some(6))

    def take(self) -> None:
        messages = [self.message(device) for device in self.some(6)]
        self.hear(messages + [self.answer() for _ in self.sent[:5]])

    def hear(self, messages: list[Incoming]) -> None:
        wrong = self.ledger.take(messages, self.name)
        assert all("is not registered" in line for line in wrong), wrong  # what was removed stays removed

    def wrong_crc(self) -> None:
        """Answers to other bytes: the ledger takes a new name with each of these devices."""
        self.hear([self.answer(other_bytes=True) for _ in self.sent[:2]])

    def forgotten(self) -> None:
        """Devices that do not know the ledger any more: a new name, too."""
        self.hear([self.answer("rejected", why=rules.FORGOTTEN) for _ in self.sent[:2]])

    def high_windows(self) -> None:
        """End records that show numbers which the ledger has not given."""
        self.hear([self.signed(device, protocol.END, self.end(windows=self.shown(device))) for device in self.some()])

    def shown(self, device: str) -> dict[str, list]:
        name = self.ledger.name(device)
        return {name: [10_000, ""]} if name else {}

    def gaps(self) -> None:
        """Records with gaps, and reports by which still more are missing: the ledger asks for them."""
        messages = []
        for device in self.some():
            records = [[number, 0, {}] for number in sorted(self.dice.sample(range(1, 300), 5))]
            messages.append(self.signed(device, protocol.TELEMETRY, {"state": "s1", "records": records}))
            end = self.end(acked=self.dice.randint(1, 400))
            said = {"wake": self.wakes, "state": "s1", "end": end}
            messages.append(self.signed(device, protocol.WAKE, said))
        self.hear(messages)

    def rotate(self) -> None:
        """What `dormouse rotate` does on the ledger: one command, whose end is waited for."""
        [view] = self.ledger.devices(self.dice.choice(DEVICES))
        [name] = self.ledger.enter([Order(view.id, "set_password", '{"password":"x"}')])
        self.ledger.command(name)

    def end(self, state: str = "s1", acked: int = 0, windows: dict[str, list] | None = None) -> dict[str, object]:
        self.wakes += 1
        flags = {"present": True, "drained": True}
        return {"wake": self.wakes - 1, "state": state, **flags, "acked": acked, "windows": windows or {}}

    def message(self, device: str) -> Incoming:
        state = "s1" if self.dice.random() < 0.98 else "s2"
        number = self.dice.randint(1, 50)
        end = self.end(state, number)
        leaf, said = self.dice.choice(
            [
                (protocol.WAKE, {"wake": self.wakes, "state": state, "catalogue": f"c{number % 3}", "end": end}),
                (protocol.TELEMETRY, {"state": state, "records": [[number, 0, {"v": 1}], [number + 1, 0, {}]]}),
                (protocol.END, end),
            ]
        )
        return self.signed(device, leaf, said)

    def answer(self, status: str | None = None, *, other_bytes: bool = False, **more: str) -> Incoming:
        one = self.sent.pop()
        payload = one.payload.partition(b"\n")[0]
        status = status or self.dice.choice(["succeeded", "failed", "running"])
        said = {"id": json.loads(payload)["id"], "status": status, "crc": crc32(payload) ^ other_bytes, **more}
        return self.signed(one.device, protocol.RESULT, [said])

    def signed(self, device: str, leaf: str, said: object) -> Incoming:
        return Incoming(device, leaf, Signer(KEY, device).sign(leaf, json.dumps(said).encode()))

    def claim(self) -> None:
        claimed = self.ledger.claim(self.name, self.name, self.dice.randint(1, 20))
        self.sent += claimed
        if claimed:
            self.ledger.acknowledged([Ack(one.key, one.times, self.dice.random() < 0.9) for one in claimed])

    def prune(self) -> None:
        self.ledger.prune(time.time() - 1, dry=self.dice.random() < 0.2, on_progress=lambda *_: None)

    def group(self) -> None:
        self.ledger.set_group(self.dice.choice(["g", "h"]), self.some())

    def key(self) -> None:
        """All have the same key, so that what one process says is true for each."""
        self.ledger.set_key(self.dice.choice(DEVICES), KEY)

    def remove(self) -> None:
        self.ledger.remove_device(self.dice.choice(DEVICES))

    def live(self) -> None:
        if self.instance is None:
            self.instance = self.ledger.register(self.name)
        self.ledger.keep_alive(self.name, self.instance)

    def stop(self) -> None:
        if self.instance is not None:
            self.ledger.release(self.name, self.instance)
            self.instance = None

    def restore(self) -> None:
        self.ledger.restored()


def _nothing() -> None:
    """No plant."""


def _work(
    url: str,
    seed: int,
    number: int,
    seconds: float,
    only: Sequence[str],
    plant: Callable[[], object],
    out: Connection,
    together: Barrier,
) -> None:
    found = Found()

    def note(context) -> None:
        state = getattr(context.original_exception, "sqlstate", None) or "none"
        found.states[state] += 1
        if state == "40P01":
            found.deadlocks.append(f"{worker.doing}: {context.original_exception}\n{context.statement}")

    event.listen(Engine, "handle_error", note)
    plant()
    worker = Worker(url + _OPTIONS, seed, number, only)
    together.wait(60)
    until = time.monotonic() + seconds
    steps = 0
    while steps < LEAST or time.monotonic() < until:
        steps += 1
        try:
            found.done[worker.step()] += 1
        except HostError as error:
            if not any(refused in str(error) for refused in _REFUSED):
                found.errors.append(str(error))
    out.send(found)


def run(
    url: str,
    seed: int,
    seconds: float,
    plant: Callable[[], object] = _nothing,
    only: Sequence[str] = (),
    processes: int = 3,
) -> Found:
    """So many processes at once, with all kinds of work or `only` these; `plant` is called in the first of them, before
    it begins.
    """
    with Ledger(url) as ledger:
        ledger.add_devices(DEVICES)
    children, together = [], _SPAWN.Barrier(processes)
    for number in range(processes):
        mine, theirs = _SPAWN.Pipe(duplex=False)
        work = (url, seed, number, seconds, only, plant if number == 0 else _nothing, theirs, together)
        child = _SPAWN.Process(target=_work, args=work)
        child.start()
        theirs.close()
        children.append((child, mine))
    total = Found()
    for child, mine in children:
        try:
            total += mine.recv()
        except EOFError:
            total.errors.append("a process ended with a traceback")
        child.join(60)
    return total
