"""`make cluster`: each of three nodes is killed once while a relay publishes and devices are awake; nothing is lost.

Must stay true: broker, HAProxy, relay and ledger are real, each a process of its own, and so is each wake of each
device; commands are none that may be done twice; a run whose oracle finds something, or in which no kill has cut the
relay off, is an error and not a figure.

python -m proofs.cluster [quorum] [classic]        where the sessions lie: on every node, or on one
"""

import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dormouse_host.fleet import Fleet
from proofs.cluster.nodes import NODES, Cluster
from proofs.cluster.oracle import Command, judge
from proofs.scale.shared import relay
from support.device_folder import Device, DeviceInterpreter, Ran
from support.waiting import comes, until

QUEUES = ("quorum", "classic")
DEVICES, EACH = 12, 5  # EACH: commands for each before a node is killed, and again meanwhile
_AT_ONCE = 4  # wakes
_WITHOUT, _ROUNDS = 5, 20  # rounds of wakes until all is done, at most: without the node, and with it
_PAUSE = 3.0  # seconds between two
_PUBLISHED = 60.0  # seconds
APP = """
from dormouse import command, telemetry

@command("say", text=str)
def say(wake, text):
    wake.log("say", text=text)

@telemetry()
def level(wake):
    return {"level": 1}
"""


class Story:
    """One relay, its ledger, and devices on a cluster."""

    def __init__(self, cluster: Cluster, folder: Path, fleet: Fleet) -> None:
        self._cluster, self._fleet = cluster, fleet
        self.log = folder / "relay.log"
        self.names = [f"dev{at:02}" for at in range(DEVICES)]
        interpreter = DeviceInterpreter("cpython")
        self._devices = {
            name: Device(folder / name, interpreter, cluster.address.url, APP, id=name, budget=15)
            for name in self.names
        }
        self._wakes: Counter[str] = Counter()
        self._effects: Counter[Command] = Counter()
        self._sent: dict[Command, str] = {}  # the ledger's name of each
        self._number = 0
        self.failed: list[str] = []  # why wakes ended early

    def send(self) -> None:
        """Commands for all."""
        for _ in range(EACH):
            self._number += 1
            for name in self.names:
                self._sent[name, self._number] = self._fleet.send(name, "say", {"text": str(self._number)}).name

    def wake(self, names: list[str]) -> None:
        """One wake of each of them."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for name, ran in zip(names, pool.map(lambda name: self._devices[name].wake(), names), strict=True):
                self._note(name, ran)

    def _note(self, name: str, ran: Ran) -> None:
        self._wakes[name] += 1
        self._effects.update((name, int(text)) for text in ran.said)
        self.failed += [f"{fields.get('stage')}: {fields.get('why')}" for fields in ran.all("error")]

    def open(self) -> int:
        """How many commands have no answer yet."""
        return sum(view.pending for view in self._fleet.status())

    def lose(self, at: int) -> str:
        """A node is killed, and started again once everything is done without it, or some wakes later. What it came to,
        in one line.
        """
        self.send()
        until(lambda: not self._fleet.ledger.counts().get("queued"), _PUBLISHED, "not all was published")
        failed = len(self.failed)
        half = len(self.names) // 2
        with ThreadPoolExecutor(1) as beside:
            awake = beside.submit(self.wake, self.names[:half])
            self.send()
            self._cluster.kill(at)
            began = time.monotonic()
            awake.result()
        rounds = self._settle(_WITHOUT)
        told = f"without it {2 * EACH * DEVICES - self.open()} commands were answered in {rounds} rounds of wakes"
        told += f" and {time.monotonic() - began:.0f} s"
        waited = self.open()
        self._cluster.restart(at)
        if waited:
            told += f", {waited} once it was back, in {self._settle(_ROUNDS)} more"
        return f"{told}; {len(self.failed) - failed} wakes failed"

    def _settle(self, most: int) -> int:
        """Wake all until everything is answered. How many rounds it took."""
        rounds = 0
        while self.open() and rounds < most:
            self.wake(self.names)
            rounds += 1
            if self.open():
                time.sleep(_PAUSE)
        return rounds

    @property
    def cuts(self) -> int:
        """How often the relay had to connect again."""
        return self.log.read_text().count(" connected ") - 1

    def wrong(self) -> list[str]:
        """What the oracle says of all of it."""
        for _ in range(_ROUNDS):  # the last records
            self.wake(self.names)
            if comes(self._all_told, _PAUSE):
                break
        statuses = {command: self._fleet.result(name).status for command, name in self._sent.items()}
        return judge(self._sent, self._effects, statuses, self._records(), self._wakes)

    def _all_told(self) -> bool:
        return all(len(each) == self._wakes[name] for name, each in self._records().items())

    def _records(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {name: [] for name in self.names}
        for row in self._fleet.export("telemetry"):
            found[row["device"]].append(row["number"])
        return found

    @property
    def size(self) -> str:
        """How much of it there was."""
        return f"{len(self._sent)} commands, {sum(self._wakes.values())} wakes"


def play(queues: str) -> list[str]:
    """All of it with sessions of this kind. What is wrong."""
    with tempfile.TemporaryDirectory(prefix="dormouse-cluster-") as name, Cluster(queues) as cluster:
        folder, db = Path(name), str(Path(name) / "ledger.db")
        assert cluster.running() == NODES
        with Fleet(db) as fleet, relay("main", db, cluster.address.url, folder / "relay.log"):
            story = Story(cluster, folder, fleet)
            fleet.add(*story.names)
            story.wake(story.names)
            for at in range(NODES):
                print(f"{queues:8} node {at + 1} killed: {story.lose(at)}", flush=True)
            wrong = story.wrong()
            if not story.cuts:
                wrong.append("no kill has cut the relay off")
            reasons = ", ".join(f"{count} × {why}" for why, count in Counter(story.failed).most_common(5))
            told = (
                f"{story.size}; the relay connected again {story.cuts} times; wakes failed for: {reasons or 'nothing'}"
            )
            print(f"{queues:8} {told}; {len(wrong)} wrong", flush=True)
            return wrong


def main(asked: list[str]) -> int:
    """0 where nothing is wrong."""
    if unknown := set(asked) - set(QUEUES):
        print(f"cluster: no {sorted(unknown)[0]}: {', '.join(QUEUES)}", file=sys.stderr)
        return 2
    wrong = [line for queues in asked or QUEUES for line in play(queues)]
    for line in wrong:
        print(line)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
