"""What runs beside a relay where dormouse.toml wants it: alerts are judged and delivered, Home Assistant is told.

Must stay true: of the relays of a ledger one does this at a time, the one that has the desk on lease; both of its
threads work on the ledger alone, so that a kill at any point loses nothing; the relay's loop never waits for either;
every wait has a deadline; no error of a database or of a channel ends a thread, but a ledger that is gone does.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence

from dormouse_host.desk import config, telling
from dormouse_host.desk.channels import Channel, channels
from dormouse_host.desk.homes import ONLINE, Homes
from dormouse_host.desk.judge import Judge
from dormouse_host.errors import HostError
from dormouse_host.ledger.alerts import CLOSED
from dormouse_host.ledger.couriers import Message
from dormouse_host.ledger.database import Gone
from dormouse_host.ledger.store import Ledger
from dormouse_host.relay import log
from dormouse_host.relay.beside import Aside, Note

LEASE = 60.0  # seconds; renewed after a third of them
SETTLE = 30.0  # seconds after the start, or a new connection, before anybody is called overdue
_TRY = 5.0  # seconds between two tries of a relay that has not the desk
_TICK = 1.0  # seconds between two turns of a thread
_HOME = 10.0  # seconds between two looks for what Home Assistant is to be told
_CALM = 10.0  # seconds since the last turn of the relay without a backlog
_ROOM = 300  # notes that wait for the relay's loop
_MQTT = 50  # messages that are claimed for the broker at once
_CLAIM = 5.0  # seconds between two looks for them, where no alert has changed
_END = 5.0  # seconds that `stop` waits for a thread


class Desk:
    """Alerts and Home Assistant beside one relay (relay/beside.py's Beside)."""

    def __init__(self, ledger: Ledger, wanted: config.Wanted, root: str, *, settle: float = SETTLE) -> None:
        """HostError where a channel can't be used. `root`: first levels of the topics; `settle`: SETTLE."""
        self._ledger = ledger
        self._root = root
        self._settle = settle
        self._alerts = wanted.alerts
        self._channels: list[Channel] = channels(wanted.alerts) if wanted.alerts else []
        self._judge = Judge(ledger, wanted.alerts.rules) if wanted.alerts else None
        self._homes = Homes(ledger, wanted.home) if wanted.home else None
        self.topics: Sequence[str] = self._homes.topics if self._homes else ()
        self.will: Note | None = self._homes.will if self._homes else None
        self._outbox: deque[Note] = deque()
        self._acked: deque[int] = deque()  # messages that the broker has taken
        self._instance = ""
        self._stop = threading.Event()
        self._is_connected = threading.Event()
        self._threads: list[threading.Thread] = []
        self._holding = False
        self._renewed = 0.0
        self._began = 0.0  # time.monotonic() of the start, or of the last connection
        self._idle = 0.0  # … and of the last turn without a backlog
        self._claim_at = 0.0  # … of the next look for messages
        self._again = False  # a new connection: Home Assistant is told everything again
        self._wrong: dict[str, str] = {}  # the last error of each part, told once

    # ---- called by the relay's loop

    def start(self, instance: str) -> None:
        """Start the threads."""
        self._instance = instance
        self._began = time.monotonic()
        works = [self._watch, *([self._deliver] if self._channels else [])]
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads, and let another relay have the desk."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_END)
        if self._holding and not any(thread.is_alive() for thread in self._threads):
            try:
                self._ledger.leave_desk(self._instance)
            except HostError as error:  # it runs out by itself
                log.warning("desk not left", why=error)

    def connected(self) -> None:
        """There is a new connection."""
        self._began = time.monotonic()
        self._again = True
        if self._homes:
            self._outbox.append(Note(self._homes.places.relay, ONLINE))
        self._is_connected.set()

    def lost(self) -> None:
        """What waited is claimed again, or told anew."""
        self._is_connected.clear()
        self._outbox.clear()

    def last(self) -> Sequence[Note]:
        """Home Assistant is told that this relay is gone; another one that lives contradicts."""
        return [self._homes.will] if self._homes else []

    def heard(self, came: Sequence[Aside]) -> None:
        """Take what came for Home Assistant's topics."""
        for message in came if self._homes else ():
            self._outbox.extend(self._homes.hear(message) if self._homes else ())

    def notes(self, most: int) -> Sequence[Note]:
        """What waits to be published. To be asked shows that no backlog comes in."""
        self._idle = time.monotonic()
        return [self._outbox.popleft() for _ in range(min(most, len(self._outbox)))]

    def told(self, taken: Iterable[Note], refused: Iterable[Note]) -> None:
        """Some of it is at the broker."""
        self._acked.extend(note.key for note in taken if note.key)
        for note in refused:
            if "broker" not in self._wrong:
                self._say_once(
                    "broker", f"it refuses {note.topic} and perhaps more: has this relay the right to write it?"
                )

    # ---- in threads of their own

    def _watch(self) -> None:
        judged = homed = -float("inf")
        while not self._stop.wait(_TICK):
            try:
                if not self._hold():
                    continue
                now = time.monotonic()
                if self._judge and self._alerts and now - judged >= self._alerts.every:
                    judged = now
                    self._look(self._judge)
                self._relay_messages()
                if self._homes and self._is_connected.is_set():
                    again = now - homed >= _HOME
                    homed = now if again else homed
                    if again or self._homes.has_more:
                        self._tell_home(self._homes, again=again)
                self._wrong.pop("desk", None)
            except Gone:
                return
            except HostError as error:
                self._say_once("desk", str(error))

    def _hold(self) -> bool:
        """Is this relay the one? The lease is renewed in good time; what was in hand before another had it is void."""
        if time.monotonic() - self._renewed < (LEASE / 3 if self._holding else _TRY):
            return self._holding
        self._renewed = time.monotonic()
        had, self._holding = self._holding, False
        self._holding = self._ledger.hold_desk(self._instance, LEASE)
        if self._holding and not had:
            log.info("desk", relay=self._instance)
            if self._judge:
                self._judge.begin()
            self._again = True
        return self._holding

    def _look(self, judge: Judge) -> None:
        now = time.monotonic()
        settled = now - self._began >= self._settle  # else what devices have said may still be at the broker
        if self._is_connected.is_set():
            settled = settled and now - self._idle < _CALM
        changed = judge.look(late=settled, stopped=self._stop.is_set)
        if changed:
            self._claim_at = 0.0
            log.info("alerts", changed=changed)

    def _relay_messages(self) -> None:
        """The messages that this relay publishes itself."""
        acked = [self._acked.popleft() for _ in range(len(self._acked))]
        if acked:
            self._ledger.message_delivered(acked)
        if self._alerts is None or config.MQTT not in self._alerts.rules.channels:
            return
        if self._is_connected.is_set() and len(self._outbox) < _ROOM and time.monotonic() >= self._claim_at:
            self._claim_at = time.monotonic() + _CLAIM
            for message in self._ledger.claim_messages(config.MQTT, _MQTT):
                self._outbox.extend(self._published(message))

    def _published(self, message: Message) -> list[Note]:
        """An open alert stays retained; the closing one is told and clears that."""
        topic = f"{self._root}/alerts/{message.device}/{message.kind}"
        said = telling.payload(message)
        if message.event == CLOSED:
            return [Note(topic, said, retain=False), Note(topic, b"", key=message.key)]
        return [Note(topic, said, key=message.key)]

    def _tell_home(self, homes: Homes, *, again: bool) -> None:
        if self._again:
            self._again = False
            homes.begin()
        room = _ROOM - len(self._outbox)
        if room > 0:
            self._outbox.extend(homes.look(room, again=again))

    def _deliver(self) -> None:
        while not self._stop.wait(_TICK):
            for channel in self._channels if self._holding else ():
                try:
                    while not self._stop.is_set() and self._deliver_some(channel):
                        pass
                    self._wrong.pop(channel.name, None)
                except Gone:
                    return
                except HostError as error:
                    self._say_once(channel.name, str(error))

    def _deliver_some(self, channel: Channel) -> bool:
        """Some messages. False where none was left; HostError where they were not delivered."""
        found = self._ledger.claim_messages(channel.name, channel.most)
        if not found:
            return False
        try:
            channel.send(found)
        except HostError as error:
            given_up = self._ledger.message_failed(found, str(error))
            if given_up:
                log.warning("alert given up", channel=channel.name, messages=given_up)
            raise
        self._ledger.message_delivered([one.key for one in found])
        return True

    def _say_once(self, part: str, why: str) -> None:
        if self._wrong.get(part) != why:
            self._wrong[part] = why
            log.warning("desk", part=part, why=why)
