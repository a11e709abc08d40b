"""The relay's loop: wait, store, acknowledge, claim, publish.

Must stay true: what came in is committed before it is acknowledged, and "publishing" before the first byte leaves;
between two steps nothing lives in memory that the ledger does not have and the broker believes delivered, so that a
kill at any point loses nothing; no error of broker or database ends the loop, they make it connect again, later each
time (but for a ledger's file that is gone); a database that is busy costs no connection, the next turn tries again.
"""

import math
import random
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from dormouse import protocol
from dormouse_host.address import BrokerAddress
from dormouse_host.broker.access import relay_of
from dormouse_host.errors import HostError
from dormouse_host.ledger.contention import Busy
from dormouse_host.ledger.database import Gone
from dormouse_host.ledger.outbound import ALIVE, Ack
from dormouse_host.ledger.store import Incoming, Ledger
from dormouse_host.processes import Stop
from dormouse_host.relay import log
from dormouse_host.relay.beside import AT_ONCE, BACKLOG, FEW, Aside, Beside, Note
from dormouse_host.relay.connection import Connection, Lost
from dormouse_host.relay.rival import SETTLED, Rival
from dormouse_host.relay.share import LOOK, Others, Share

_POLL = 0.1  # seconds between two looks at the ledger while nothing comes in
_SHORTEST, _LONGEST = 0.5, 30.0  # seconds before connecting again
_CATCH_UP = 5.0  # seconds that a new connection takes in at most before it publishes
_FIRST, _ROUNDS = 1.0, 4  # seconds, and times the connection's making, that the first message of those may take
_HELD, _HELD_COUNT = 4 << 20, 5000  # bytes and messages that wait for a busy ledger; the broker keeps the others
_ROLL = 1.0  # seconds between two looks at the rollouts
_NAMED = 20  # messages of one batch that are named in the log
_LAST_ACKS = 5.0  # seconds that an orderly end waits for PUBACKs


def client_id(name: str) -> str:
    """What a relay is called at the broker."""
    return f"dormouse-relay-{name}"


@dataclass
class _Work:
    """What one connection has in hand, and what it did, for its last line in the log."""

    session: str
    others: Others  # the messages that are left to other relays
    came: list[tuple[int, Incoming]] = field(default_factory=list)  # neither stored nor acknowledged yet
    more: bool = False  # came something in this turn?
    acks: list[Ack] = field(default_factory=list)
    stored: int = 0
    published: int = 0
    asides: list[tuple[int, Aside]] = field(default_factory=list)  # neither stored nor acknowledged yet
    busy: bool = False  # the ledger was, in this turn


class Relay:
    """A relay between one ledger and one broker. `name` is part of its client id."""

    def __init__(
        self,
        ledger: Ledger,
        address: BrokerAddress,
        root: str,
        name: str,
        *,
        accept_new: bool | None = None,
        waiting: int = protocol.WINDOW,
        beside: Beside | None = None,
    ) -> None:
        """Nothing runs until `run`. `accept_new`: do ids that are not registered become devices? By default where the
        broker asks for no credential, so that nobody has registered them there either. `waiting`: how many commands
        may wait at the broker for one device. `beside`: what runs with it.
        """
        self._beside = beside
        free = address.user is None and address.cert is None
        self._accept_new = free if accept_new is None else accept_new
        self._waiting = min(waiting, protocol.WINDOW)
        self._ledger = ledger
        self._address = address
        self._root = root
        self._name = name
        self._mqtt5 = True
        self._stop = Stop()
        self._rival = Rival(address)
        self._connected = math.inf  # time.monotonic() at which the connection was made
        self._signed = 0.0  # and of the last sign of life
        self._rolled = 0.0  # … and of the last look at the rollouts
        self._share = Share(name)

    @property
    def connected(self) -> bool:
        """Has it its session at the broker, so that what devices say from now on reaches it?"""
        return self._connected != math.inf

    def stop(self) -> None:
        """End `run` in order; from whatever thread."""
        self._stop.set()

    def stopped_by(self, numbers: Iterable[int]) -> AbstractContextManager[None]:
        """Meanwhile these signals do, too."""
        return self._stop.on(numbers)

    def run(self) -> None:
        """Relay until `stop`. HostError where another relay has this name, the broker refuses the credentials or the
        ledger's file is gone.
        """
        instance = self._ledger.register(self._name)
        self._signed = time.monotonic()
        try:
            log.info("started", relay=self._name, ledger=self._ledger.database.name, broker=self._address)
            self._look_for_others()
            if self._beside:
                self._beside.start(instance)
            self._run(instance)
        finally:
            if self._beside:
                self._beside.stop()
            self._release(instance)
        log.info("stopped", relay=self._name)

    def _run(self, instance: str) -> None:
        pause, wait = _SHORTEST, 0.0
        while not self._stop.is_set():
            self._connected = math.inf
            cut = False
            try:
                self._wait(wait, instance)
                if self._stop.is_set():
                    break
                self._serve(instance)
            except Lost as error:
                self._mqtt5 = not error.older
                why, cut = str(error), error.cut
            except HostError as error:
                if error.code == 2 or isinstance(error, Gone):
                    raise
                why = str(error)
            if self._stop.is_set():
                break
            held = time.monotonic() - self._connected  # long enough, and the next break is a new one
            self._look_for_a_rival(held, cut)
            pause = _SHORTEST if held > 2 * pause else min(2 * pause, _LONGEST)
            wait = pause * random.uniform(0.5, 1)
            log.warning("disconnected", why=why, again_in=f"{wait:.1f}")

    def _wait(self, seconds: float, instance: str) -> None:
        """Before connecting again: however long the broker is away, the name stays this relay's."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stop.wait(min(left, ALIVE / 3)):
            self._stay_alive(instance)

    def _release(self, instance: str) -> None:
        try:
            self._ledger.release(self._name, instance)
        except Gone:  # why this relay ends
            pass
        except HostError as error:  # what it had runs out by itself
            log.warning("not released", why=error)

    def _look_for_a_rival(self, held: float, cut: bool) -> None:
        """Each of two relays would take the session back for ever: HostError for the one that came later."""
        if self._rival.wins(held, cut=cut):
            raise HostError(self._rival_told(), 2)
        if self._rival.times > 1:
            log.warning("another client may use this name", client=client_id(self._name), times=self._rival.times)

    def _rival_told(self) -> str:
        """Who the other client is. A broker of `dormouse broker init` makes the user's name the client id."""
        name, user = client_id(self._name), self._address.user
        another = f"the broker has another client called {name}, of another ledger: choose another --name"
        if relay_of(user) is None:
            return another
        own = "each relay needs a credential of its own: dormouse broker add-relay"
        shared = f"another client logs in as {user}: {own}"
        return shared if user != name else f"{another}; or {shared}"

    def _serve(self, instance: str) -> None:
        self._stay_alive(instance)
        began = time.monotonic()
        more = (self._beside.topics, self._beside.will) if self._beside else ((), None)
        name = client_id(self._name)
        connection = Connection(self._address, name, self._root, mqtt5=self._mqtt5, topics=more[0], will=more[1])
        work = _Work(secrets.token_hex(8), Others(self._share))
        self._connected = time.monotonic()
        log.info("connected", mqtt=5 if self._mqtt5 else "3.1.1", session_present=connection.present)
        try:
            self._rival.connected()
            self._catch_up(connection, work, self._connected - began)
            if self._beside:
                self._beside.connected()
            for topic in connection.refused:
                log.warning("subscription refused", topic=topic)
            while not self._stop.is_set():
                self._turn(connection, instance, work)
            self._finish(connection, work)
        finally:
            connection.drop()
            if self._beside:
                self._beside.lost()
            log.info("connection over", stored=work.stored, published=work.published)

    def _turn(self, connection: Connection, instance: str, work: _Work) -> None:
        """What comes in, a sign of life, what goes out. Of one turn the ledger may keep the broker waiting once."""
        self._receive(connection, LOOK if work.others else _POLL, work)
        came = len(work.came) + len(work.acks)
        with self._unless_busy(work):
            self._stay_alive(instance)
            self._store(connection, work)
            self._roll_out()
            came += self._publish(connection, work)
            if self._beside:
                self._turn_aside(self._beside, connection, work, came)

    def _turn_aside(self, beside: Beside, connection: Connection, work: _Work, came: int) -> None:
        """What runs beside, in a turn in which so much `came` or was published."""
        if work.asides:
            beside.heard([message for _, message in work.asides])
            connection.confirm(mid for mid, _ in work.asides)
            work.asides = []
        self._tell_noted(beside, connection)
        most = min(FEW if came else AT_ONCE, connection.room // 4) - connection.noted
        if came < BACKLOG and most > 0:
            connection.note(beside.notes(most))

    def _tell_noted(self, beside: Beside, connection: Connection) -> None:
        taken: list[Note] = []
        refused: list[Note] = []
        for note, was_taken in connection.told():
            (taken if was_taken else refused).append(note)
        if taken or refused:
            beside.told(taken, refused)

    def _roll_out(self) -> None:
        """Go on with rollouts, now and then: they wait for devices that sleep."""
        if time.monotonic() - self._rolled >= _ROLL:
            self._rolled = time.monotonic()
            self._ledger.step_rollouts()

    @contextmanager
    def _unless_busy(self, work: _Work) -> Iterator[None]:
        try:
            yield
            work.busy = False
        except Busy as error:
            if not work.busy:  # one line for each time, however long
                log.warning("ledger busy", why=error)
            work.busy = True

    def _catch_up(self, connection: Connection, work: _Work, took: float) -> None:
        """Take what the broker kept, before anything is published: by a report of before, a ledger that is an older
        copy of itself finds out, and no command that was answered meanwhile goes again. `took`: seconds that it took
        to connect, by which a slow broker is known. Who may have to give this session up publishes nothing at first.
        """
        stored, wait = -1, max(_FIRST, _ROUNDS * took)
        least = SETTLED if self._rival.times else 0.0
        while not self._stop.is_set() and (held := time.monotonic() - self._connected) < _CATCH_UP:
            if stored == work.stored and held >= least and not work.came and not work.others:
                break
            stored = work.stored
            self._receive(connection, min(wait, _CATCH_UP), work)
            with self._unless_busy(work):
                self._store(connection, work)
            wait = max(LOOK if work.others else _POLL, took)

    def _stay_alive(self, instance: str) -> None:
        """A sign of life where it is time for one. HostError where another relay has the name by now."""
        if time.monotonic() - self._signed < ALIVE / 3:
            return
        if not self._ledger.keep_alive(self._name, instance):
            raise HostError(f"another relay has taken the name {self._name}", 2)
        self._signed = time.monotonic()
        self._look_for_others()

    def _look_for_others(self) -> None:
        """Which relays share the work?"""
        alive = [relay.name for relay in self._ledger.relays() if relay.alive]
        if self._share.update(alive, time.monotonic()):
            log.info("shares the devices", relays=", ".join(sorted({*alive, self._name})))

    def _receive(self, connection: Connection, wait: float, work: _Work) -> None:
        held = sum(len(message.payload) for _, message in work.came)
        came, acks = connection.wait(wait, hold=held >= _HELD or len(work.came) >= _HELD_COUNT)
        work.more = bool(came)
        work.came += work.others.sort(came, time.monotonic())
        work.acks += acks
        work.asides += connection.asides()

    def _store(self, connection: Connection, work: _Work) -> None:
        done, left = work.others.look(self._ledger.stored, time.monotonic(), more=work.more)
        connection.confirm(done)
        work.stored += len(done)
        work.came += left
        if work.came:
            came = [message for _, message in work.came]
            wrong = self._ledger.take(came, work.session, accept_new=self._accept_new)
            for what in wrong[:_NAMED]:
                log.warning("not understood", what=what)
            if len(wrong) > _NAMED:
                log.warning("not understood", more=len(wrong) - _NAMED)
            connection.confirm(mid for mid, _ in work.came)
            work.stored += len(work.came)
            work.came = []
        if work.acks:  # after the reports that came with them: judged too late costs a wake, too early a repetition
            self._ledger.acknowledged(work.acks)
            for ack in work.acks:
                if not ack.taken:
                    log.warning("refused by the broker", command=ack.key)
            work.acks = []

    def _publish(self, connection: Connection, work: _Work) -> int:
        """Publish what is due. Returns how many that were."""
        room = connection.room - connection.flying
        if 2 * room < connection.room:  # many in one transaction, and not a few for each PUBACK
            return 0
        outgoing = self._ledger.claim(self._name, work.session, room, self._waiting)
        connection.publish(outgoing)
        work.published += len(outgoing)
        return len(outgoing)

    def _finish(self, connection: Connection, work: _Work) -> None:
        """Wait for what is under way, so that nothing stays "publishing" without need."""
        deadline = time.monotonic() + _LAST_ACKS
        if self._beside:
            connection.note(self._beside.last())
        while (connection.flying or work.acks) and time.monotonic() < deadline:
            self._receive(connection, _POLL, work)
            with self._unless_busy(work):
                self._store(connection, work)
                if self._beside:
                    self._tell_noted(self._beside, connection)
        connection.close()
