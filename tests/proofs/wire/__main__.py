"""`make wire`: each network of cases.py, and how many wakes come through where a third of all packets is lost.

python -m proofs.wire [WORD …]      the cases whose name has one of these words; exit 0 all green, 1 not, 77 not here
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from dormouse_host.agent import toolchain
from dormouse_host.agent.process import Kind
from dormouse_host.broker.local import Mosquitto
from dormouse_host.errors import HostError
from dormouse_host.lab import wire
from proofs.__main__ import NOT_RUN
from proofs.wire.cases import BUDGET, CASES, DELAY, PATIENCE, Case
from support.device_folder import APP, Device, DeviceInterpreter, Host, Ran, command

COMMANDS, RECORDS = 10, 12
LOSS, LOSSY_WAKES = 0.3, 100
READING = """
from dormouse import telemetry

@telemetry()
def climate(wake):
    return {"n": wake.time() or 0, "text": "x" * 200}
"""


class Outcome(NamedTuple):
    """`faults`: none is green. `wakes` that it took, `awake` the longest, in ms."""

    faults: list[str]
    wakes: int
    awake: int
    told: str


class Station:
    """A device and its broker on the two sides of a wire; the host beside the broker."""

    def __init__(self, link: wire.Wire, folder: Path, interpreter: Kind = "micropython") -> None:
        self.link = link
        self.broker = Mosquitto(_program(), folder=folder)
        link.broker.run(self.broker.start)
        address = self.broker.address
        self.device = Device(
            folder / "device",
            DeviceInterpreter(interpreter),
            f"mqtt://{address.host}:{address.port}",
            app=APP + READING,
            patience=PATIENCE,
            budget=BUDGET,
            sample_every=60,
            connect_every=86400,
        )
        self.host = link.broker.run(Host, address)

    def wake(self, cause: str = "pin") -> Ran:
        """One wake; by the timer it only samples."""
        return self.link.device.run(self.device.wake, cause)

    def records(self) -> int:
        """Records that the host has had by now, each counted once."""
        return len({record[0] for batch in self.host.heard("up/telemetry") for record in batch["records"]})

    def close(self) -> None:
        """End broker and host."""
        self.host.__exit__()
        self.link.broker.run(self.broker.close)


def _program() -> Path:
    program = toolchain.mosquitto()
    if program is None:
        raise HostError("mosquitto is not installed: apt-get install mosquitto")
    return program


def play(case: Case) -> Outcome:
    """A first wake on a clean line, samples and commands while it sleeps, then the network of this case."""
    with tempfile.TemporaryDirectory(prefix="wire-") as folder, wire.Wire(wire.steady(0.001)) as link:
        station = Station(link, Path(folder))
        try:
            return _judged(case, station)
        finally:
            station.close()


def _judged(case: Case, station: Station) -> Outcome:
    device, host = station.device, station.host
    first = station.wake("power")
    state = host.wait("up/wake")["state"]
    for _ in range(RECORDS):
        station.wake("timer")
    host.send(*[command(state, n, "say", text=str(n)) for n in range(1, COMMANDS + 1)])
    station.link.rule = case.rule()
    wakes: list[Ran] = []
    for n in range(case.wakes or 2):
        before = len(_opened(station.link))
        wakes.append(station.wake())
        made = len(_opened(station.link)) - before
        if case.connections and made > case.connections:
            return Outcome([f"{made} connections in one wake"], n + 1, _longest(wakes), "")
        if wakes[-1].code == 0 and not wakes[-1].all("error"):
            break
    if case.wakes is None:
        station.link.rule = wire.steady(DELAY)
        wakes.append(station.wake())
    time.sleep(1)
    faults = []
    answered = {entry["id"]: entry["status"] for batch in host.heard("up/result") for entry in batch}
    said = [text for ran in wakes for text in ran.said]
    if sorted(said, key=int) != [str(n) for n in range(1, COMMANDS + 1)]:
        faults.append(f"done: {said}")
    if len(answered) != COMMANDS or set(answered.values()) != {"succeeded"}:
        faults.append(f"answered: {answered}")
    expected = 1 + RECORDS + len(wakes)  # each wake samples, too
    if station.records() < expected - (wakes[-1].code != 0):
        faults.append(f"{station.records()} of {expected} records")
    if wakes[-1].code:
        faults.append("the last wake failed")
    if _longest(wakes) > case.awake:
        faults.append(f"{_longest(wakes)} ms awake")
    why = "; ".join(error.get("why", "") for ran in wakes for error in (*ran.all("error"), *ran.all("rejoin")))
    assert first.code == 0, first.output
    assert device.config["patience"] == PATIENCE
    return Outcome(faults, len(wakes), _longest(wakes), why)


def _opened(link: wire.Wire) -> set[tuple[int, int]]:
    return {packet.ports for packet in list(link.packets) if packet.up and packet.flags & wire.SYN}


def _longest(wakes: list[Ran]) -> int:
    return max(int(ran.one("asleep")["ms"]) for ran in wakes)


def lossy() -> str:
    """How many wakes come through where so many packets are lost; for docs/results.md."""
    with tempfile.TemporaryDirectory(prefix="wire-") as folder, wire.Wire(wire.steady(0.001)) as link:
        station = Station(link, Path(folder))
        try:
            station.wake("power")
            link.rule = wire.lossy(DELAY, LOSS, 36)
            ran = [station.wake() for _ in range(LOSSY_WAKES)]
        finally:
            station.close()
    good = sum(not each.code for each in ran)
    early = sum(bool(each.code) and not each.all("connected") for each in ran)
    seconds = sum(each.one("asleep")["ms"] for each in ran) / 1000
    return (
        f"{LOSS:.0%} of all packets lost: {good} of {LOSSY_WAKES} wakes came through, {early} ended before CONNACK; "
        f"{seconds:.0f} s awake, {seconds / max(good, 1):.1f} for each that came through"
    )


def main(words: list[str]) -> int:
    """The exit code."""
    if why := wire.possible():
        print(f"not run: {why}")
        return NOT_RUN
    chosen = [case for case in CASES if not words or any(word in case.name for word in words)]
    bad = 0
    for case in chosen:
        outcome = play(case)
        bad += bool(outcome.faults)
        state = "; ".join(outcome.faults) or "nothing lost, nothing twice"
        head = f"{'FAIL' if outcome.faults else 'ok':5}{case.name:40}{outcome.wakes:3} wakes{outcome.awake:7} ms"
        print(f"{head}  {state}  {outcome.told[:90]}", flush=True)
    if not words or "loss" in words:
        print(lossy(), flush=True)
    print(f"{len(chosen)} cases, {len(chosen) - bad} green")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
