"""What must be true of a row, whatever the program was.

Must stay true: every row is judged by all the rules here. Its device was connected again, took a command, did it once,
said which piece was at fault, and slept, all within the wakes that the row allows. A boot that only sleeps its backoff
is time, and no wake.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from dormouse_host.agent.log import Event
from proofs.unruly.program import LEFT_OUT, Program
from support.device_folder import Host, command

BACKOFF = "the wake before this one never ended"
SAID, ASKED, PING, AGAIN = 1, 2, 3, 4  # numbers of the commands; the last is for a device that has a new state


@dataclass
class Told:
    """What one boot of a device told on its console."""

    events: list[Event] = field(default_factory=list)

    def of(self, name: str) -> list[dict[str, Any]]:
        """The fields of each event of that name."""
        return [event.fields for event in self.events if event.name == name]

    @property
    def connects(self) -> bool:
        """Is it a wake of the kind that connects?"""
        return not any(fields.get("why") == BACKOFF for fields in self.of("error"))


def queue(program: Program, state: str) -> list[bytes]:
    """The commands that wait for the device."""
    asks = [command(state, ASKED, "go")] if program.asks else []
    pings = [] if program.later else [command(state, PING, "ping")]
    return [command(state, SAID, "say", text="once"), *asks, *pings]


def results(host: Host) -> dict[str, list[dict[str, Any]]]:
    """All results, by the command's id."""
    found: dict[str, list[dict[str, Any]]] = {}
    for batch in host.heard("up/result"):
        for entry in batch:
            found.setdefault(entry["id"], []).append(entry)
    return found


def answered(host: Host) -> bool:
    """Has a ping succeeded?"""
    every = [entry for entries in results(host).values() for entry in entries]
    return any("ms" in (entry.get("value") or {}) for entry in every)


class Asker:
    """Sends a ping for each state that the device says it has: a program may take its state away. `later`: one for the
    first state, too, once a wake has ended, or has come back from what ended it.
    """

    def __init__(self, host: Host, state: str, later: bool) -> None:
        self._host = host
        self._known = {state}
        self.sent = 0  # pings for new states
        self._late = [command(state, PING, "ping")] if later else []

    def look(self, boots: int = 0) -> None:
        """Look for a new one; `boots`: of the device, so far."""
        if self._late and (self._host.heard("up/end") or boots > 1):
            self._host.send(self._late.pop())
        for report in self._host.heard("up/wake"):
            if report["state"] not in self._known:
                self._known.add(report["state"])
                self.sent += 1
                self._host.send(command(report["state"], AGAIN, "ping"))


def told_of(host: Host, wakes: int) -> str:
    """All that the device has told its owner of faults in its first wakes, so many, as text."""
    reports = host.heard("up/wake")[:wakes]
    keys = ("app", "readings", "undone", "last")
    parts = [json.dumps({key: report.get(key) for key in keys}, ensure_ascii=False) for report in reports]
    parts += [json.dumps(entry, ensure_ascii=False) for entries in results(host).values() for entry in entries]
    return "\n".join(parts)


def has_told(program: Program, host: Host, late: int) -> bool:
    """Has the device named what was at fault, within the wakes that it may take? `late` as for `judge`."""
    text = told_of(host, program.wakes + late)
    return not program.tells or any(word in text for word in (*program.tells, *LEFT_OUT.get(program.place, ())))


def _until_answered(boots: list[Told]) -> list[Told]:
    """Those up to the one that answered a ping, as it told itself: others may be over before the host has it."""
    for number, boot in enumerate(boots, 1):
        if any(fields.get("do") == "ping" and fields.get("status") == "succeeded" for fields in boot.of("result")):
            return boots[:number]
    return boots


def judge(
    program: Program, host: Host, boots: list[Told], asleep: bool, awake: float, bound: float, late: int
) -> list[str]:
    """What is wrong with the row. `boots`: all since the program came, until the answer, a sleep after it, and what was
    at fault; `awake`: seconds of the longest time awake; `late`: pings for a new state, each of which may have missed
    one wake, since a board's minute of sleep takes 60 ms here.
    """
    found = []
    wakes = sum(boot.connects for boot in _until_answered(boots))
    if not answered(host):
        found.append(f"no ping has succeeded in {wakes} wakes")
    elif wakes > program.wakes + late:
        found.append(f"{wakes} wakes, not {program.wakes}")
    if not asleep:
        found.append("not asleep")
    if awake > bound:
        found.append(f"awake for {awake:.0f} s, not {bound:.0f}")
    for name, entries in results(host).items():
        if len({entry["status"] for entry in entries}) > 1:
            found.append(f"{name} was {' and '.join(entry['status'] for entry in entries)}")
    said = sum(len(boot.of("say")) for boot in boots)
    if said > 1:
        found.append(f"`say` ran {said} times")
    if program.tells:
        if not has_told(program, host, late):
            found.append(f"it told nothing of {' or '.join(program.tells)}")
    elif any(report.get("app") or report.get("readings") for report in host.heard("up/wake")):
        found.append("it told of a fault that costs nothing")
    return found
