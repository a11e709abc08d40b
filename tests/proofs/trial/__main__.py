"""`make trial`: fifty boards, a relay with alerts and Home Assistant, and what goes wrong in a trial, at 100 times the
speed. Ends with code 1 where a channel is told anything but each of it once at its beginning and once at its end.

What is real: mosquitto; the program `dormouse relay` with its `dormouse.toml`, in a process of its own; a server that
takes webhooks and turns each fourth away; an MQTT client; for every wake of every board a process of MicroPython with
the agent as it is on a board, and its flash as files. What is not: the boards have no radio and no watchdog, and the
time of day of relay and boards passes 100 times as fast. Waits inside a wake, and the network, are this machine's.

python -m proofs.trial --minutes 60        100 hours of the trial in an hour; by default 7 hours in 4.2 minutes
python -m proofs.trial --boards 8
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dormouse_host import processes
from dormouse_host.broker.local import Mosquitto
from dormouse_host.fleet import Fleet
from dormouse_host.ledger.alerts import BATTERY, OVERDUE, PROGRAM
from dormouse_host.terminal import span
from proofs.trial.boards import APP, BROKEN, VOLTS, Boards
from proofs.trial.clock import HOUR, Clock
from proofs.trial.oracle import CALM, Cause, Told, judge
from support.needs import need_micropython, need_mosquitto
from support.receiver import SECRET, Receiver
from support.subscriber import Subscriber
from support.waiting import comes

SPEED, BOARDS, MINUTES = 100.0, 50, 4.2
LOW = 3.1
_HAPPENS = {
    OVERDUE: ("dies", "has power again"),
    BATTERY: ("has an empty battery", "has a new battery"),
    PROGRAM: ("gets a program that can't be imported", "gets a good program"),
}
_SENT = 0.5  # hours between the trial's start and its first commands, and so much before the end of its last
_TESTS = Path(__file__).resolve().parents[2]


def settings(folder: Path, receiver: Receiver) -> None:
    """dormouse.toml of the relay: a look at the ledger each second of this machine."""
    alerts = ["[alerts]", "every = 1", f"calm = {CALM:.0f}", f'webhook = "{receiver.url}"', f'webhook_key = "{SECRET}"']
    (folder / "dormouse.toml").write_text("\n".join([*alerts, "[homeassistant]"]) + "\n")


def relay(folder: Path, db: Path, broker: str, clock: Clock) -> subprocess.Popen[bytes]:
    """The relay's process."""
    argv = [sys.executable, "-m", "proofs.trial.fast", repr(clock.start), repr(clock.speed), "--"]
    argv += ["relay", "--name", "trial", "--db", str(db), "--broker", broker]
    path = filter(None, [str(_TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    with (folder / "relay.log").open("wb") as log:
        return subprocess.Popen(argv, cwd=folder, env=environment, stdout=log, stderr=log)


def causes(names: Sequence[str], clock: Clock, seconds: float) -> list[Cause]:
    """What goes wrong in a trial that is so long: three deaths, one battery low, one bad program."""

    def at(part: float) -> float:
        return clock.start + part * seconds

    every = max(1, len(names) // 8)
    dead = [Cause(names[(n + 1) * every], OVERDUE, at(0.2 + 0.05 * n), at(0.7)) for n in range(3)]
    low = Cause(names[4 * every], BATTERY, at(0.3), at(0.6))
    bad = Cause(names[5 * every], PROGRAM, at(0.35), at(0.6))
    return [*dead, low, bad]


def play(boards: Boards, found: Sequence[Cause], fleet: Fleet, names: Sequence[str], clock: Clock, end: float) -> int:
    """Let it happen. How many commands each board was sent, one an hour."""
    acts: list[tuple[float, str, Callable[[], object]]] = []
    for cause in found:
        name = cause.device
        begin, over = {
            OVERDUE: (partial(boards.die, name), partial(boards.revive, name)),
            BATTERY: (partial(boards.charge, name, LOW), partial(boards.charge, name, VOLTS)),
            PROGRAM: (partial(boards.flash, name, BROKEN), partial(boards.flash, name, APP)),
        }[cause.kind]
        acts += [(cause.begins, f"{name} {_HAPPENS[cause.kind][0]}", begin)]
        acts += [(cause.ends, f"{name} {_HAPPENS[cause.kind][1]}", over)]
    count, first = 0, clock.start + _SENT * HOUR
    while first + count * HOUR < end - CALM - _SENT * HOUR:
        acts.append((first + count * HOUR, "", partial(fleet.send_many, names, "say", {"n": count})))
        count += 1
    for at, text, act in sorted(acts, key=lambda act: act[0]):
        time.sleep(max(0.0, clock.real(at) - time.time()))
        act()
        if text:
            print(f"{clock.hours(clock.now()):6.2f} h  {text}", flush=True)
    return count


def told(said: dict[str, Any]) -> Told:
    """A message as both channels have it."""
    at = said["closed"] if said["event"] == "closed" else said["opened"]
    return Told(said["device"], said["kind"], said["event"], at)


def availability(seen: Subscriber) -> dict[str, list[str]]:
    """What Home Assistant was told of each device: each change once."""
    found: dict[str, list[str]] = {}
    for topic, payload, _ in list(seen.came):
        if topic.endswith("/availability") and found.setdefault(topic.split("/")[-2], [])[-1:] != [payload.decode()]:
            found[topic.split("/")[-2]].append(payload.decode())
    return found


def trial(folder: Path, names: Sequence[str], seconds: float) -> list[str]:
    """All of it. What is wrong; empty where nothing is."""
    clock = Clock(time.time(), SPEED)
    db = folder / "ledger.db"
    with (
        Mosquitto(need_mosquitto()) as broker,
        Fleet(str(db), clock=clock.now) as fleet,
        Receiver(lambda number: 503 if number % 4 == 3 else 200) as receiver,
        Subscriber(broker.address, "dormouse/alerts/#", "homeassistant/#") as seen,
    ):
        fleet.add(*names)
        settings(folder, receiver)
        (folder / "boards").mkdir()
        running = relay(folder, db, broker.address.url, clock)
        try:
            with Boards(folder / "boards", broker.address.url, list(names), clock) as boards:
                found = causes(names, clock, seconds)
                count = play(boards, found, fleet, names, clock, clock.start + seconds)
                time.sleep(max(0.0, clock.real(clock.start + seconds) - time.time()))
                wrong = (
                    [f"the relay ended: {(folder / 'relay.log').read_text()[-300:]}"]
                    if running.poll() is not None
                    else []
                )
                comes(lambda: len(receiver.taken) >= 2 * len(found) and not fleet.alerts(), 20)
                comes(lambda: not _open(fleet), 20)
        finally:
            processes.stop(running)
    hooks = [told(each.said) for each in receiver.taken]
    published = [told(json.loads(payload)) for topic, payload, _ in seen.came if "/alerts/" in topic and payload]
    for one in hooks:
        print(f"{clock.hours(one.at):6.2f} h  {one.device} {one.kind} {one.event}")
    wrong += judge("webhook", hooks, found) + judge("mqtt", published, found)
    wrong += ["a webhook was not signed as it should be"] * bool(receiver.forged)
    wrong += [f"mqtt: {topic} is still retained" for topic in seen.latest if "/alerts/" in topic]
    wrong += _homes(availability(seen), names, {cause.device for cause in found if cause.kind == OVERDUE})
    missing = {(name, n) for name in names for n in range(count)} - boards.said.keys()
    wrong += [f"{len(missing)} commands have no effect"] * bool(missing)
    wrong += [f"{what}: done {times} times" for what, times in boards.said.items() if times > 1]
    wrong += boards.strange
    print(
        f"{span(seconds)} of {len(names)} boards in {seconds / SPEED:.0f} s: {boards.wakes} wakes,"
        f" {boards.failed} failed, {boards.late:.1f} s late at most; {count * len(names)} commands, each once;"
        f" {len(receiver.came)} webhooks, {len(receiver.came) - len(receiver.taken)} of them turned away"
    )
    return wrong


def _open(fleet: Fleet) -> list[str]:
    return [row["id"] for row in fleet.export("commands") if row["do"] == "say" and row["status"] != "succeeded"]


def _homes(found: dict[str, list[str]], names: Sequence[str], dead: set[str]) -> list[str]:
    """Offline once where a board was dead, and no other ever (`offline` at first is: never heard)."""
    wrong = []
    for name in names:
        steps = found.get(name, [])
        wanted = ["online", "offline", "online"] if name in dead else ["online"]
        if (steps[1:] if steps[:1] == ["offline"] else steps) != wanted:
            wrong.append(f"Home Assistant: {name} was {', '.join(steps) or 'nothing'}")
    return wrong


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m proofs.trial", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="of this machine; the trial is 100 times as long"
    )
    parser.add_argument("--boards", type=int, default=BOARDS)
    args = parser.parse_args(argv)
    need_micropython()
    names = [f"board-{n:02}" for n in range(args.boards)]
    with tempfile.TemporaryDirectory(prefix="dormouse-trial-") as folder:
        wrong = trial(Path(folder), names, args.minutes * 60 * SPEED)
    print("\n".join([*wrong, f"{len(wrong)} wrong"]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
