"""The host's side for one device at a time: the relay of docs/design.md in small, and the record of what arrived.

Must stay true: it shares no code with the device; it publishes again by the rules of docs/design.md alone, and says
when the rule for what is missing was needed, because a broker that forgot nothing gives no reason for it.
"""

import json
import time
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

ROOT = "dormouse"
LEDGER = "led"
_WITHIN = 30.0  # seconds for any answer of the broker
_LETTERS = {".": None, "o": "open", "s": "succeeded", "f": "failed", "r": "rejected"}
_LETTERS |= {"i": "interrupted", "e": "expired", "c": "cancelled"}


class Stuck(Exception):
    """Something that should have come did not come in time."""


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def window(high: int, text: str) -> dict[int, str | None]:
    """A reported window as {number: status}."""
    statuses: dict[int, str | None] = {}
    number, at = high, 0
    while at < len(text):
        letter, end = text[at], at + 1
        while end < len(text) and text[end].isdigit():
            end += 1
        for _ in range(int(text[at + 1 : end] or 1)):
            statuses[number] = _LETTERS[letter]
            number -= 1
        at = end
    return statuses


@dataclass
class Entry:
    """One command. `number` is its own here; `name` its id. Times are positions in the order of all that happened."""

    number: int
    name: str
    payload: bytes
    void: bytes | None = None
    sent: int = 0  # when it was last published
    acknowledged: int = 0  # when that was acknowledged
    forgotten: bool = False  # the broker has forgotten its session since
    answers: list[dict] = field(default_factory=list)

    @property
    def settled(self) -> dict | None:
        """The first final answer."""
        return next((a for a in self.answers if a.get("final", True)), None)


class Relay:
    """One connection to the broker; `device` is whom it serves now."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.device = self.state = ""
        self.faults: list[str] = []
        self._now = 0
        self._pending: set[int] = set()  # message ids of what is not acknowledged yet
        self._gone = 0  # connections whose end the broker has told
        self._ready = False
        self.client = self._connect("powercut-relay", True)
        self.client.on_message = self._message
        self.client.on_publish = self._published
        self.client.on_subscribe = self._subscribed
        self._subscribe("$SYS/broker/log/N")

    def _connect(self, name: str, clean: bool) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv311, clean_session=clean)
        up: list[bool] = []
        client.on_connect = lambda *_: up.append(True)
        client.connect("127.0.0.1", self.port)
        self._until(lambda: bool(up), client)
        return client

    def _end_connection(self, client: mqtt.Client) -> None:
        """Of one that was made in the device's name."""
        client.disconnect()
        while client.loop(0.05) == mqtt.MQTT_ERR_SUCCESS:
            pass
        self.gone(1)

    def introduce(self) -> None:
        """Have the broker know the device's session, as after its first wake."""
        client = self._connect(self.device, False)
        subscribed: list[bool] = []
        client.on_subscribe = lambda *_: subscribed.append(True)
        client.subscribe(f"{ROOT}/{self.device}/down/#", 1)
        self._until(lambda: bool(subscribed), client)
        self._end_connection(client)

    def _until(self, done, client: mqtt.Client | None = None) -> None:
        """Run the connection until `done()`."""
        end = time.monotonic() + _WITHIN
        while not done():
            if time.monotonic() > end:
                raise Stuck("the broker does not answer")
            self.turn(0.2, client)

    def turn(self, seconds: float = 0.0, client: mqtt.Client | None = None) -> None:
        """Take what has come, and wait for it at most so long."""
        client = client or self.client
        if client.loop(seconds) not in (mqtt.MQTT_ERR_SUCCESS,):
            raise Stuck("the broker closed the relay's connection")

    def _published(self, _client, _userdata, mid, _reason, _properties) -> None:
        self._pending.discard(mid)

    def _subscribed(self, *_) -> None:
        self._ready = True

    def _subscribe(self, topic: str) -> None:
        self._ready = False
        self.client.subscribe(topic, 1)
        self._until(lambda: self._ready)

    # ---- one device after the other

    def serve(self, device: str, state: str, stored: range) -> None:
        """From now on this device, of whose telemetry these records are here already."""
        if self.device:
            self.deaf()
            self._publish("up/wake", b"", retain=True)
        self.device, self.state = device, state
        self.faults = []
        self.entries: dict[int, Entry] = {}
        self._names: dict[str, Entry] = {}
        self.telemetry: dict[int, dict | None] = dict.fromkeys(stored)
        self.dropped: set[int] = set()
        self.ends: dict[int, dict] = {}
        self.reports: dict[int, int] = {}  # wake -> when its report came
        self._new_ends: list[dict] = []
        self._resend: Entry | None = None
        self._asked = range(0)
        self._next = 30  # numbers of the relay's own commands follow those of the story
        self.hear()
        self.introduce()

    def hear(self) -> None:
        """Be there."""
        self._subscribe(f"{ROOT}/{self.device}/up/#")

    def deaf(self) -> None:
        """Be away, without a session: what is published now is lost, and acknowledged all the same."""
        self.client.unsubscribe(f"{ROOT}/{self.device}/up/#")

    def forget(self) -> None:
        """Have the broker lose the device's session."""
        self._end_connection(self._connect(self.device, True))
        for entry in self.entries.values():
            entry.forgotten = True

    def gone(self, connections: int) -> None:
        """Wait until the broker has seen the end of so many connections, and so has passed on what came over them."""
        self._until(lambda: self._gone >= connections)
        self._gone = 0

    # ---- downward

    def tick(self) -> int:
        self._now += 1
        return self._now

    def _publish(self, leaf: str, payload: bytes, retain: bool = False) -> None:
        mid = self.client.publish(f"{ROOT}/{self.device}/{leaf}", payload, 1, retain).mid
        self._pending.add(mid)
        self._until(lambda: not self._pending)

    def command(self, number: int, do: str, ledger: str = LEDGER, first: int = 0, **more) -> Entry:
        """A new command, not published yet; in `ledger` its number is so much less `first`."""
        name = f"{self.state}-{ledger}.{number - first}"
        unique = f"{crc32(f'{self.device} {number}'.encode()):06x}"[-6:]
        payload = {"id": name, "u": unique, "do": do, "args": {"k": number}, **more}
        entry = self.entries[number] = Entry(number, name, _json(payload))
        self._names[name] = entry
        return entry

    def cancel(self, number: int, word: str = "cancelled") -> None:
        """Publish the tombstone of a number."""
        entry = self.entries[number]
        entry.void = _json({"id": entry.name, "void": word})
        self.publish(entry)

    def publish(self, entry: Entry, payload: bytes | None = None) -> None:
        """Publish a command, or its tombstone where it has one, and wait for the broker's acknowledgement."""
        entry.sent = self.tick()
        entry.forgotten = False
        self._publish("down/cmd", payload or entry.void or entry.payload)
        entry.acknowledged = self.tick()

    # ---- upward

    def _message(self, _client, _userdata, message) -> None:
        if message.topic.startswith("$SYS"):
            text = message.payload.decode(errors="replace")
            if f"Client {self.device} " in text or "<unknown>" in text:
                self._gone += "disconnected" in text or "closed its connection" in text
            return
        if f"/{self.device}/" not in message.topic or not message.payload:
            return
        self.tick()
        body = json.loads(message.payload)
        take = {"wake": self._wake, "result": self._result, "telemetry": self._records, "end": self._end}
        take[message.topic.rpartition("/")[2]](body)

    def _wake(self, report: Any) -> None:
        self.reports.setdefault(report["wake"], self._now)
        if "end" in report:
            self._end(report["end"])

    def _end(self, end: Any) -> None:
        if end["state"] != self.state:
            self.faults.append(f"lost: the device has a new state {end['state']}")
        elif end["wake"] not in self.ends:
            self.ends[end["wake"]] = end
            self._new_ends.append(end)

    def _result(self, results: Any) -> None:
        for answer in results:
            entry = self._names.get(answer.get("id", ""))
            if entry is None:
                self.faults.append(f"lies: an answer to nothing: {answer}")
                continue
            if answer["crc"] not in (crc32(entry.payload), crc32(entry.void or b"")):
                self.faults.append(f"lies: an answer to other bytes: {answer}")
            told = entry.settled
            if told and answer.get("final", True) and told["status"] != answer["status"]:
                self.faults.append(f"twice: {entry.number} was {told['status']} and is now {answer['status']}")
            entry.answers.append(answer)

    def _records(self, batch: Any) -> None:
        for number, _, values in batch["records"]:
            old = self.telemetry.setdefault(number, values)
            if old is not None and old != values:
                self.faults.append(f"twice: record {number} is {old} and {values}")

    # ---- the rules

    def react(self) -> None:
        """What the end records that have come demand; each of them once."""
        ends, self._new_ends = self._new_ends, []
        for end in sorted(ends, key=lambda e: e["wake"]):
            high, text = end["windows"].get(LEDGER, (0, ""))
            seen = window(high, text)
            for entry in list(self.entries.values()):
                if entry.sent and not entry.settled and self._again(entry, end, seen):
                    self.publish(entry)
            self._ask()

    def _again(self, entry: Entry, end: dict, seen: dict[int, str | None]) -> bool:
        """Is this command, open in the ledger, to be published again after this end record?"""
        before = [wake for wake, at in self.reports.items() if wake <= end["wake"] and at > entry.acknowledged]
        if not before:
            return False  # published after that wake had begun
        if not end["present"]:
            return True
        status = seen.get(entry.number)
        if status is None and (end["drained"] or end["fence_dead"]):
            if not entry.forgotten:
                self.faults.append(f"lost: command {entry.number} is missing after wake {end['wake']}")
            return True
        return status not in (None, "open")

    def gaps(self) -> list[int]:
        """The numbers of telemetry that the broker acknowledged and that are not here."""
        acked = max((end["acked"] for end in self.ends.values()), default=0)
        last = max([acked, *self.telemetry])
        return [n for n in range(1, last + 1) if n not in self.telemetry and n not in self.dropped]

    def _ask(self) -> None:
        """Have the device send again what is missing of its telemetry; it says how many of them are gone."""
        if self._resend and self._resend.settled:
            gone = self._resend.settled.get("value", {}).get("dropped", 0)  # so many at the start of what was asked for
            self.dropped.update(n for n in self._asked[:gone] if n not in self.telemetry)
            self._resend = None
        gaps = self.gaps()
        if gaps and not self._resend:
            self._next += 1
            last = next(n for n in gaps if n + 1 not in gaps)  # up to what is here again
            self._asked = range(gaps[0], last + 1)
            self._resend = self.command(self._next, "resend", args={"from": gaps[0], "to": last})
            self.publish(self._resend)

    @property
    def idle(self) -> bool:
        """Is everything settled and here?"""
        return all(entry.settled for entry in self.entries.values()) and not self.gaps()
