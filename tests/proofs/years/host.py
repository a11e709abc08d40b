"""The host's side: one ledger's file, and the processes of relays on it, which may die between any two steps.

Must stay true: the relay's loop and the ledger are those that ship; what is put in their place is time, chance, paho
and the process's stop, by name in `stand_ins`, and nothing of what they decide.
"""

import random
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from dormouse_host.address import BrokerAddress
from dormouse_host.errors import HostError
from dormouse_host.ledger import outbound
from dormouse_host.ledger.store import Ledger
from dormouse_host.relay import connection, rival
from dormouse_host.relay import relay as loop
from proofs.years.broker import Broker, Message
from proofs.years.client import Client, Peer
from proofs.years.hub import Hub, Task
from proofs.years.stores import Store
from proofs.years.swap import swapped

_POLL = 0.1  # seconds: what the relay's loop waits in one turn
_HOT = 40.0  # seconds after a relay's end in which the others look as often as ever: its leases run out
_LONG = 86400.0
_ROLLS = 30.0  # … where a rollout waits for devices that are overdue
_CALLS = (
    *("register", "release", "keep_alive", "relays"),
    *("take", "stored", "acknowledged", "claim", "step_rollouts"),
)
_SLOW = 3.0
_ROLLING = "SELECT 1 FROM rollouts WHERE status = 'running' LIMIT 1"


class Killed(BaseException):
    """The process is gone."""


class Stop:
    """processes.Stop on simulated time."""

    def __init__(self, process: "RelayProcess") -> None:
        self._process, self._asked = process, False

    def set(self) -> None:
        """Ask for the end."""
        self._asked = True
        self._process.notify()

    def is_set(self) -> bool:
        """Is it asked for?"""
        return self._asked

    def wait(self, seconds: float) -> bool:
        """Wait for it."""
        until = self._process.hub.now + seconds
        while not self._asked and self._process.hub.now < until:
            self._process.hub.wait(until)
        return self._asked


class _Steps:
    """A Ledger whose every call is an instant at which the process may die, before and after."""

    def __init__(self, ledger: Ledger, process: "RelayProcess") -> None:
        self.database, self._process = ledger.database, process
        for name in _CALLS:
            setattr(self, name, self._step(name, getattr(ledger, name)))

    def _step(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        process = self._process

        def call(*args: Any, **how: Any) -> Any:
            process.step("before " + name)
            found = method(*args, **how)
            process.step("after " + name)
            if name == "claim":
                process.nothing_due = not found
            elif name == "step_rollouts":
                process.host.rolls = bool(process.host.store.ask(_ROLLING))
            return found

        return call


class RelayProcess:
    """One relay; `kill` is the (kind of step, how many are let by) at which it dies."""

    def __init__(self, host: "Host", name: str) -> None:
        self.host, self.hub, self.broker, self.name = host, host.hub, host.broker, name
        self.kill: tuple[str, int] | None = None
        self.task: Task | None = None
        self.client: Client | None = None
        self.ledger: Ledger | None = None
        self.relay: loop.Relay | None = None
        self.nothing_due = self.killed = self.wanted = False
        self.confirmed: deque[Message] = deque(maxlen=500)  # acknowledged to the broker, the last of all
        self.why = ""

    def start(self) -> None:
        """Start the process, unless it runs."""
        self.wanted = True
        if self.task is None and not self.host.closed:
            self.killed, self.kill, self.nothing_due = False, None, False
            self.task = self.hub.start(self._run, self._ended)

    def _run(self) -> None:
        self.ledger = self.host.store.open(self.host.clock)
        address = BrokerAddress("broker")
        self.relay = loop.Relay(
            _Steps(self.ledger, self),  # type: ignore[arg-type]
            address,
            "dormouse",
            self.name,
            accept_new=False,
            waiting=self.host.waiting,
        )
        try:
            self.relay.run()
            self.why = "stopped"
        except Killed:
            self.why = "killed"
        except HostError as error:
            self.why = str(error)

    def _ended(self) -> None:
        if self.client:
            self.client.close()
        if self.ledger:
            self.ledger.close()
        self.task = self.client = self.ledger = self.relay = None
        self.host.on_end(self)
        self.host.hot = self.hub.now + _HOT
        self.host.touch()
        if self.wanted:
            self.hub.at(self.hub.now + self.host.rng.choice((1, 5, 40, 300)), self._again)

    def _again(self) -> None:
        if self.wanted:
            self.start()

    def stop(self) -> None:
        """Stop it in order."""
        self.wanted = False
        if self.relay:
            self.relay.stop()

    def die(self) -> None:
        """Kill it, wherever it waits."""
        if self.task:
            self.killed = True
            self.task.kill(Killed())

    def step(self, kind: str) -> None:
        """It may die here."""
        if self.killed:
            raise Killed
        if self.kill and (self.kill[0] in kind):
            if self.kill[1] > 0:
                self.kill = self.kill[0], self.kill[1] - 1
            else:
                self.killed = True
                raise Killed

    def notify(self) -> None:
        """Something came for it."""
        if self.task:
            self.task.notify()

    def wait(self, timeout: float) -> None:
        """The loop waits. What is due for nobody, and comes from nobody, needs no look ten times a second."""
        if self.killed:
            raise Killed
        until = self.hub.now + timeout
        idle = self.nothing_due and _POLL / 2 < timeout < 2 * _POLL
        if idle:
            until = self.hub.now + (1.0 if self.hub.now < self.host.hot else _ROLLS if self.host.rolls else _LONG)
            self.nothing_due = False
        if self.hub.wait(until) and idle and self.host.rng.random() < self.host.slow:
            self.hub.wait(self.hub.now + _SLOW)  # a busy machine: what a wake says comes in one batch


class Host:
    """One ledger, its relays, and the person who sends."""

    def __init__(self, hub: Hub, broker: Broker, store: Store, rng: random.Random) -> None:
        self.hub, self.broker, self.store, self.rng = hub, broker, store, rng
        self.offset = 0.0  # of the host's clock
        self.waiting = 256
        self.hot = 0.0
        self.slow = 0.7
        self.closed = False
        self.rolls = False  # is a rollout under way?
        self.complaints: list[str] = []
        self.on_publish: Callable[[str, bytes], None] = lambda _topic, _payload: None
        self.on_end: Callable[[RelayProcess], None] = lambda _relay: None
        self.relays: list[RelayProcess] = []
        self.ledger = store.open(self.clock)

    def current(self) -> RelayProcess:
        """The relay whose turn it is."""
        return next(relay for relay in self.relays if relay.task is self.hub.task)

    def warned(self, event: str, **fields: object) -> None:
        """A relay's log has a warning."""
        self.complaints.append(f"{event} {fields}")

    def clock(self) -> float:
        """Unix seconds."""
        return 1_700_000_000 + self.hub.now + self.offset

    def touch(self) -> None:
        """Something in the ledger has changed that a relay may have to look at."""
        for relay in self.relays:
            relay.notify()

    def restore(self, told: bool) -> bool:
        """All relays die, the copy is put back. `told`: as docs/operating.md says, with `ledger restored`."""
        if not self.store.backed_up:
            return False
        for relay in self.relays:
            relay.die()
        self.closed = True
        self.hub.run(self.hub.now)
        self.ledger.close()
        self.store.restore()
        self.ledger = self.store.open(self.clock)
        self.rolls = True
        if told:
            self.ledger.restored()
        self.closed = False
        return True

    def close(self) -> None:
        """End everything."""
        self.closed = True
        for relay in self.relays:
            relay.wanted = False
            relay.die()
        self.hub.run(self.hub.now + 1)
        self.ledger.close()
        self.store.close()


def _witness(host: Host) -> Any:
    return SimpleNamespace(close=lambda: None, broker=host.broker, made=host.hub.now)


@contextmanager
def stand_ins(host: Host, chance: random.Random) -> Iterator[None]:
    """Meanwhile the relay's modules have simulated time, chance and paho."""
    hub = host.hub
    time = SimpleNamespace(
        monotonic=lambda: hub.now,
        sleep=lambda seconds: hub.wait(hub.now + seconds),
        time=host.clock,
    )

    def make(cid: str, **_how: Any) -> Client:
        return Client(host.current(), cid)

    clients = SimpleNamespace(Client=make, asked=lambda **_values: None)
    quiet = SimpleNamespace(info=lambda *_a, **_f: None, warning=host.warned)
    places: list[tuple[Any, str, Any]] = [
        (loop, "time", time),
        (connection, "time", time),
        (loop, "random", chance),
        (loop, "Stop", lambda: Stop(host.current())),
        (loop, "log", quiet),
        (connection, "client", clients),
        (connection, "secure", lambda *_: None),
        (connection, "socket", SimpleNamespace(socket=Peer)),
        (rival, "socket", SimpleNamespace(create_connection=lambda *_: _witness(host), socket=object)),
        (rival, "select", SimpleNamespace(select=lambda read, *_: ([], [], []))),
        (secrets, "token_bytes", chance.randbytes),
        (secrets, "token_hex", lambda count: chance.randbytes(count).hex()),
        (outbound, "socket", SimpleNamespace(gethostname=lambda: "simulated")),
    ]
    with host.store.noted(), swapped(places):
        yield
