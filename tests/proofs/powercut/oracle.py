"""The promises, as a function from what was seen of one run to a list of what is wrong with it.

Must stay true: judged from outside, by effects, answers and records alone; a run in which nothing was cut and one that
was cut anywhere are judged by the same rules.
"""

import json

from proofs.powercut.bench import BUDGET, CUT, Wake
from proofs.powercut.relay import LEDGER, Entry
from proofs.powercut.stories import RESEND, Kind, Run

ATTEMPTS = 3  # of a repeatable command
SLOW = "stuck: awake for"


def judge(run: Run) -> list[str]:
    """What is wrong; each line begins with the promise that is broken."""
    wakes = run.bench.wakes
    faults = list(run.relay.faults)
    if run.stuck:
        faults.append(f"stuck: {run.stuck}")
    for at, wake in enumerate(wakes, 1):
        faults += [f"{fault} (wake {at})" for fault in _ending(wake)]
    for entry in run.relay.entries.values():
        kind = run.kinds.get(entry.number, RESEND)
        faults += [f"{fault} (command {entry.number}, {kind.do})" for fault in _command(entry, kind, wakes)]
    return list(dict.fromkeys(faults + _telemetry(run)))


def _ending(wake: Wake) -> list[str]:
    if wake.status == CUT:
        return []
    if wake.status == 70:
        return ["lost: flash was programmed twice"]
    if wake.status == -1:
        return [f"stuck: {wake.lines[-1]}"]
    if wake.status:
        return [f"stuck: it ended with status {wake.status}: {' | '.join(wake.lines[-4:])}"]
    ms = int(wake.told("asleep")[0][0])
    course = ", ".join(" ".join(words[1:3]) for words in wake.told("log"))
    return [f"{SLOW} {ms} ms: {course}"] if ms > BUDGET else []


def _count(wakes: list[Wake], word: str, number: int) -> int:
    return sum(words == [str(number)] for wake in wakes for words in wake.told(word))


def _interrupted(wakes: list[Wake], number: int) -> bool:
    """Was this the command that was started last when power went, or about to be?"""
    last = [wake.told(word)[-1:] for wake in wakes if wake.cut for word in ("starting", "started")]
    return [[LEDGER, str(number)]] in last


def _command(entry: Entry, kind: Kind, wakes: list[Wake]) -> list[str]:
    begun, effects = (_count(wakes, word, entry.number) for word in ("begin", "effect"))
    faults = []
    if begun > (ATTEMPTS if kind.repeatable else 1):
        faults.append(f"twice: begun {begun} times")
    answer = entry.settled
    if not answer:
        return [*faults, "lost: it has no final status"]
    status = answer["status"]
    if status == "interrupted":
        attempts = begun if kind.do == "again" else sum(wake.cut for wake in wakes)
        if not kind.effects or not _interrupted(wakes, entry.number):
            faults.append("lies: interrupted, and never started when power went")
        elif kind.repeatable and attempts < ATTEMPTS - 1:
            faults.append(f"lies: interrupted after {attempts} attempts")
        return faults
    if status != kind.usual:
        faults.append(f"lies: {status} instead of {kind.usual}")
    least, most = kind.effects, kind.effects * (ATTEMPTS if kind.repeatable else 1)
    if not least <= effects <= most:
        faults.append(f"lies: {status}, with {effects} effects")
    if status == "succeeded" and kind.effects and answer.get("value", {}).get("k", entry.number) != entry.number:
        faults.append(f"lies: the value of another command: {answer}")
    return faults


def _telemetry(run: Run) -> list[str]:
    faults = []
    stored: dict[int, dict] = {}
    arrived, dropped = run.relay.telemetry, run.relay.dropped
    for wake in run.bench.wakes:
        for number, values in wake.told("stored"):
            record = json.loads(values)
            old = stored.setdefault(int(number), record)
            if old != record:
                faults.append(f"twice: number {number} stands for {old} and {record}")
    for key, record in stored.items():
        if arrived.get(key) != record and key not in dropped:
            faults.append(f"lost: record {key}, {record}: the host has {arrived.get(key)}")
    if wrong := sorted(n for n in dropped if n in stored or n > run.bench.base.missing):
        faults.append(f"lost: {wrong} are called dropped")
    return faults
