"""What one device, or a broker that repeats and withholds, can do to all the others, and to the one that it plays.

Must stay true: the victim's own log decides, and what its owner is told; the attacker knows every name and number.
"""

import json
import shutil

from dormouse import protocol
from dormouse.signing import Signer
from dormouse_host.address import BrokerAddress
from dormouse_host.broker_check.probe import Client
from dormouse_host.ledger import rows
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.store import Incoming
from proofs.attack import Outcome, attack
from proofs.attack.testbed import Testbed
from support.device_folder import Device
from support.waiting import until

_GROUP = "against the ledger"
_ROUNDS = 4  # as many ledgers as a device knows
_SOON = 1.0  # seconds in which a message that is let through has come


def _name(testbed: Testbed, device: Device) -> str:
    """The ledger's name for this device."""
    with testbed.fleet as fleet:
        return str(fleet.ledger.name(device.config["id"]))


def _lies(state: str, ledger: str, n: int) -> dict[str, bytes]:
    """A window far ahead, a ledger that is forgotten, another command's bytes."""
    ended = {"wake": 1000 + n, "state": state, "present": True, "drained": True, "windows": {ledger: [1 << 30, "s"]}}
    forgotten = {"id": f"{state}-{ledger}.{n}", "status": "unknown", "crc": 1, "why": "its ledger is forgotten"}
    wrong = {"id": f"{state}-{ledger}.1", "status": "succeeded", "crc": n}
    return {protocol.END: json.dumps(ended).encode(), protocol.RESULT: json.dumps([forgotten, wrong]).encode()}


class _Victim:
    """A device with a command at the broker, and one that was cancelled before it was ever published."""

    def __init__(self, testbed: Testbed, *, key: bool = False) -> None:
        self.testbed = testbed
        self.device = testbed.device(key=key)
        self.id = self.device.config["id"]
        self.state = testbed.meet(self.device)
        self.sent = testbed.send(self.device, s=1)
        with testbed.fleet as fleet:
            (self.cancelled,) = fleet.ledger.enter([Order(self.id, "open", '{"s":2}', after=self.sent)])
            fleet.cancel(self.cancelled)
        self.ledger = _name(testbed, self.device)

    def harm(self) -> str:
        """What is wrong with it after the attack; nothing: all as if there had been none."""
        with self.testbed.fleet as fleet:
            cancelled = fleet.result(self.cancelled).status
        ran = self.testbed.wake(self.device)
        done = self.testbed.settled(self.sent)
        more = self.testbed.send(self.device, s=3)
        again = self.testbed.wake(self.device)
        told = self.testbed.settled(more)
        opened = [fields["s"] for one in (ran, again) for fields in one.all("opened")]
        found = {
            "cancelled is": cancelled != "cancelled" and cancelled,
            "opened": opened != [1, 3] and opened,
            "its command": done != "succeeded" and done,
            "the next": told != "succeeded" and told,
            "rejected": ran.all("rejected") + again.all("rejected"),
            "the ledger is": _name(self.testbed, self.device) != self.ledger and "another",
        }
        return ", ".join(f"{what} {value}" for what, value in found.items() if value)


def _lie(testbed: Testbed, thief: Device, credential: BrokerAddress, victim: _Victim, targets: list[str]) -> int:
    """Lies about thief and victim, on the topics of `targets`, until the ledger has renamed itself for the thief."""
    state = testbed.meet(thief)
    testbed.settled_after_wake(testbed.send(thief, s=9), thief)
    names = {_name(testbed, thief)}
    with Client(credential, "x", clean=True) as client:
        client.connect()
        for n in range(1, _ROUNDS + 1):
            before = _name(testbed, thief)
            for ledger in (victim.ledger, before):
                for whose in (state, victim.state):
                    for leaf, payload in _lies(whose, ledger, n).items():
                        for target in targets:
                            client.publish(protocol.topic("dormouse", target, leaf), [payload])
            until(lambda before=before: _name(testbed, thief) != before)
            names.add(_name(testbed, thief))
        client.rest(_SOON)
    return len(names) - 1


@attack(_GROUP, "one device's credential, to lock out all others: windows far ahead, forgotten ledgers, wrong CRCs")
def try_lock_out(testbed: Testbed) -> Outcome:
    victim, thief = _Victim(testbed), testbed.device()
    rounds = _lie(testbed, thief, testbed.of_device(thief), victim, [thief.config["id"], victim.id])
    harm = victim.harm()
    return Outcome(bool(harm), harm or f"{rounds} times another name for itself alone; the victim's commands are done")


@attack(_GROUP, "the same at a broker without rights, on the topics of a device with a key")
def try_lock_out_without_rights(testbed: Testbed) -> Outcome:
    with type(testbed)(loose=True) as loose:
        victim, thief = _Victim(loose, key=True), loose.device()
        rounds = _lie(loose, thief, loose.of_device(thief), victim, [thief.config["id"], victim.id])
        refused = loose.log("relay").count("not signed")
        harm = victim.harm()
    seen = f"{rounds} rounds, {refused} messages not signed; the victim's commands are done"
    return Outcome(bool(harm), harm or seen)


def without_rights_or_key(testbed: Testbed) -> Outcome:
    """No attack: shows what the rights and the key keep away. `testbed` is a broker without rights."""
    victim, thief = _Victim(testbed), testbed.device()
    _lie(testbed, thief, testbed.of_device(thief), victim, [thief.config["id"], victim.id])
    harm = victim.harm()
    return Outcome(bool(harm), harm)


def _shown(testbed: Testbed, victim: _Victim) -> tuple[str | None, int]:
    """State and wake of the victim, as its owner sees them."""
    with testbed.fleet as fleet:
        view = fleet.status(victim.id)[0]
        return view.state, view.report["wake"]


@attack(_GROUP, "a signed report from before a wipe, heard once and repeated; and one that was held back until now")
def try_old_reports(testbed: Testbed) -> Outcome:
    victim = _Victim(testbed, key=True)
    topic = protocol.topic("dormouse", victim.id, protocol.WAKE)
    signer = Signer(testbed.secrets_of(victim.device)["command_key"], victim.id)
    with Client(_thief(testbed), "x", clean=True) as client:
        client.connect().subscribe(topic)
        client.until(lambda: bool(client.came), "the retained report")
        heard = client.came[0].payload
    held = signer.sign(protocol.WAKE, json.dumps({"wake": 50, "state": victim.state, "next": 900}).encode())
    shutil.rmtree(victim.device.folder / "state")
    testbed.wake(victim.device)
    until(lambda: _shown(testbed, victim)[0] != victim.state)
    state = _shown(testbed, victim)[0]
    sent = testbed.send(victim.device, s=4)
    before = _shown(testbed, victim)
    testbed.as_relay(topic, heard, held)
    until(lambda: _asked(testbed, victim))
    still = _shown(testbed, victim) == before
    with testbed.fleet as fleet:
        untouched = not fleet.result(sent).final
    ran = testbed.wake(victim.device)
    opened = [fields["s"] for fields in ran.all("opened")]
    done = testbed.settled(sent)
    fine = still and untouched and opened == [4] and done == "succeeded" and _shown(testbed, victim)[0] == state
    return Outcome(not fine, f"the ledger keeps the new state and asks; the owner's command {done}")


def _asked(testbed: Testbed, victim: _Victim) -> bool:
    """Has the ledger asked under the state that was left?"""
    with testbed.fleet as fleet, fleet.ledger.database.reading() as c:
        questions = rows.load(c, rows.commands.device == victim.id, rows.commands.do == "report")
    return any(question.state == victim.state for question in questions)


def _thief(testbed: Testbed) -> BrokerAddress:
    """A relay's credential that was stolen."""
    testbed.as_relay("dormouse/nobody/down/cmd", b"{}")
    return testbed.broker.of_relay("thief")


@attack(_GROUP, "what a device has signed, on other topics: its results as reports, its reports as commands")
def try_other_topics(testbed: Testbed) -> Outcome:
    victim = _Victim(testbed, key=True)
    up = protocol.topic("dormouse", victim.id, "up/#")
    with Client(_thief(testbed), "x", clean=True) as client:
        client.connect().subscribe(up)
        ran = testbed.wake(victim.device)
        testbed.settled(victim.sent)
        client.rest(_SOON)
        said = [(one.topic.split("/", 2)[2], one.payload) for one in client.came]
    before = _shown(testbed, victim)
    leaves = (protocol.WAKE, protocol.RESULT, protocol.END, protocol.TELEMETRY)
    moved = [(leaf, payload) for came, payload in said for leaf in leaves if leaf != came]
    with testbed.fleet as fleet:
        wrong = fleet.ledger.take([Incoming(victim.id, leaf, payload) for leaf, payload in moved], "x")
    down = [payload for _, payload in said]
    testbed.as_relay(protocol.topic("dormouse", victim.id, protocol.CMD), *down)
    after = testbed.wake(victim.device)
    refused = len(after.all("refused"))
    kinds = {came for came, _ in said}
    fine = len(wrong) == len(moved) and refused == len(down) and len(kinds) == len(leaves)
    fine = fine and bool(ran.all("opened")) and not after.all("opened") and before[0] == victim.state
    seen = f"{len(wrong)} of {len(moved)} refused by the ledger, {refused} of {len(down)} by the device"
    return Outcome(not fine, seen)
