"""What was promised, as a function from a world at rest to what is wrong with it.

Must stay true: the devices' own files decide what happened, the ledger only what was said about it; every command of
the ledger is looked at, and every record that a device ever numbered; nothing is taken on trust from the agent.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from dormouse_host.ledger.messages import dump
from proofs.endtoend.devices import Device, Truth
from proofs.endtoend.world import KINDS, Order, World

FINAL = ("succeeded", "failed", "rejected", "interrupted", "expired", "cancelled", "unknown")
ATTEMPTS = 3  # of a repeatable command
LOST, TWICE, UNTRUE = "lost", "twice", "untrue"


@dataclass
class Verdict:
    """`wrong` holds (what kind of promise, the case in a sentence)."""

    wrong: list[tuple[str, str]] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    effects: int = 0
    records: int = 0
    stored: int = 0
    dropped: int = 0
    wiped: int = 0
    missing: int = 0  # records that are neither stored nor counted, and that somebody had heard of
    again: int = 0  # publishes beyond the first of each command and of each tombstone

    def say(self, kind: str, what: str) -> None:
        """Something is wrong."""
        self.wrong.append((kind, what))

    def count(self, kind: str) -> int:
        """How often a promise of this kind was broken."""
        return sum(one == kind for one, _ in self.wrong)

    @property
    def summary(self) -> str:
        """The end of a line."""
        return ", ".join(f"{self.count(kind)} {kind}" for kind in (LOST, TWICE, UNTRUE))


def judge(world: World) -> Verdict:
    """Everything that is wrong now."""
    verdict = Verdict()
    truths = {device.id: device.truth() for device in world.devices}
    _commands(world, truths, verdict)
    for device in world.devices:
        _effects(world, device, truths[device.id], verdict)
        _telemetry(world, device, truths[device.id], verdict)
        if device.tracebacks():
            verdict.say(UNTRUE, f"{device.id}: the agent died of an error of its own")
    for relay in world.relays:
        for line in relay.complaints()[:3]:
            verdict.say(UNTRUE, f"relay {relay.name}: {line}")
    if world.needless:
        verdict.say(TWICE, f"{world.needless} publishes when everything was settled")
    return verdict


# ---- commands


def _commands(world: World, truths: dict[str, Truth], verdict: Verdict) -> None:
    events: dict[int, list[str]] = defaultdict(list)
    for command, status in world.query("SELECT command, status FROM command_events ORDER BY key"):
        events[command].append(status)
    cuts = {device.id: device.cuts for device in world.devices}
    asked = 0
    columns = 'key, name, device, "do", status, published, void, value, open'
    found = world.query(f"SELECT {columns} FROM commands ORDER BY key")
    for key, name, device, do, status, published, void, value, is_open in found:
        what = f"{device}: {do} {name} is {status} after {', '.join(events[key])}"
        again = max(0, published - 1 - (void is not None))
        verdict.again += again
        if world.exact and again:
            verdict.say(TWICE, f"published {published} times: {what}")
        if is_open or status not in FINAL:
            verdict.say(LOST, f"never settled: {what}")
        _finals(events[key], what, verdict)
        if do not in KINDS:  # the host's own: describe, resend
            asked += do == "resend"
            continue
        verdict.statuses[status] += 1
        order = world.orders[name]
        wrong = _untrue(status, order, truths[device], world)
        if wrong:
            verdict.say(UNTRUE, f"{wrong}: k={order.k}, {what}")
        if status == "succeeded" and value != dump({"k": order.k}) and (value or not cuts[device]):
            verdict.say(LOST, f"its value is {value}: k={order.k}, {what}")
    if (world.exact or world.lossless) and asked:
        verdict.say(LOST, f"{asked} times records had to be asked for again though nobody had lost any")
    for device, count in Counter(row.device for row in found if row.status == "interrupted").items():
        if count > cuts[device]:
            verdict.say(UNTRUE, f"{device}: {count} interrupted commands, but {cuts[device]} cuts")


def _finals(events: list[str], what: str, verdict: Verdict) -> None:
    """One final status, whatever was guessed before it."""
    finals = [status for status in events if status in FINAL]
    known = [status for status, after in pairwise(finals) if status != "unknown" and status != after]
    alone = [status for status in known if status in ("cancelled", "expired")]  # by the ledger, then found out
    if len(known) > len(alone):
        verdict.say(UNTRUE, f"several final statuses: {what}")


def _untrue(status: str, order: Order, truth: Truth, world: World) -> str:
    """What is wrong with a status, by what the device did."""
    begun, effects, ended = truth.begun[order.k], truth.effects[order.k], truth.ended[order.k]
    if status == "succeeded":
        return "" if ended and effects and order.do != "fail" else "it was not done"
    if status == "failed":
        return "" if ended and order.do == "fail" else "it did not fail"
    if status == "interrupted":
        return "" if order.do != "again" or begun >= 1 else "it was never begun, and may be repeated"
    if status == "unknown":
        return "" if world.wiped or (world.put_back and not begun) else "it can be known"
    if begun:
        return "it was begun"
    if status == "expired":
        return "" if order.expires else "it never expires"
    if status == "cancelled":
        return "" if order.cancelled else "nobody cancelled it"
    if status == "rejected":
        return "" if world.put_back else "nothing is wrong with it"
    return ""


def _effects(world: World, device: Device, truth: Truth, verdict: Verdict) -> None:
    verdict.effects += sum(truth.effects.values())
    orders = {order.k: (name, order) for name, order in world.orders.items()}
    for k, count in truth.begun.items():
        name, order = orders[k]
        most = min(ATTEMPTS, 1 + device.cuts) if order.do == "again" else 1
        if count > most or truth.effects[k] > most:
            verdict.say(TWICE, f"{device.id}: {order.do} {name} (k={k}) was begun {count} times")
        keeps_order = not world.wiped and not world.put_back  # as in the model
        before = world.orders[order.after].k if order.after and keeps_order else 0
        if before and truth.begun[before] and truth.order.index(("begin", before)) > truth.order.index(("begin", k)):
            verdict.say(UNTRUE, f"{device.id}: {name} ran before {order.after}, for which it waits")


# ---- telemetry


def _telemetry(world: World, device: Device, truth: Truth, verdict: Verdict) -> None:
    where = f"WHERE device = '{device.id}' ORDER BY state, number"
    rows = world.query(f"SELECT state, number, record FROM telemetry {where}")
    values = Counter(json.loads(row.record)["n"] for row in rows)
    for n, count in values.items():
        if count > 1:
            verdict.say(TWICE, f"{device.id}: reading {n} is stored {count} times")
        if not 1 <= n <= truth.readings:
            verdict.say(UNTRUE, f"{device.id}: reading {n} was never taken")
    for one, two in pairwise(rows):
        if one.state == two.state and json.loads(one.record)["n"] >= json.loads(two.record)["n"]:
            verdict.say(UNTRUE, f"{device.id}: records {one.number} and {two.number} are out of order")
    last = device.stored()
    streams = {**device.streams, device.state: last}
    numbered = 0
    for state, newest in streams.items():
        stored, dropped, highest = world.stream(device.id, state)
        numbered += newest
        verdict.records += newest
        verdict.stored += stored
        verdict.dropped += dropped
        missing = newest - stored - dropped
        if state in device.streams and 0 <= missing <= newest - max(highest, world.told(device.id, state)):
            verdict.wiped += missing  # nobody but the flash ever knew of them
        elif missing or highest > newest:
            verdict.missing += max(0, missing)
            verdict.say(LOST, f"{device.id}: of {newest} records {stored} are stored and {dropped} counted as dropped")
    if not 0 <= truth.readings - numbered <= device.cuts:
        verdict.say(LOST, f"{device.id}: {truth.readings} readings, but {numbered} records, with {device.cuts} cuts")
