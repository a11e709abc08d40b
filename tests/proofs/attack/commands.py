"""Commands that the owner did not send, by somebody who may publish them: he has a relay's credential, not the key.

Must stay true: the effects in the device's own log decide; the owner's command, sent among them, must still be done.
"""

import json

from dormouse import protocol
from dormouse.signing import Signer
from dormouse_host.ledger import rows, rules
from dormouse_host.ledger.store import Incoming
from proofs.attack import Outcome, attack
from proofs.attack.testbed import Testbed
from support.device_folder import Device, command
from support.waiting import until

_GROUP = "commands"


def _victim(testbed: Testbed) -> tuple[Device, str, Signer, str]:
    """A device with a key that has been met, its state, its signer, and the topic of its commands."""
    device = testbed.device(key=True)
    state = testbed.meet(device)
    name = device.config["id"]
    return device, state, Signer(testbed.secrets_of(device)["command_key"], name), f"dormouse/{name}/down/cmd"


def _judge(testbed: Testbed, device: Device, forged: int, wanted: int = 7) -> Outcome:
    """Wake it with the owner's command behind the forged ones."""
    sent = testbed.send(device, s=wanted)
    ran = testbed.wake(device)
    opened = [fields["s"] for fields in ran.all("opened")]
    refused = len(ran.all("refused"))
    owner = testbed.settled(sent)
    testbed.wake(device)
    name = device.config["id"]
    with testbed.fleet as fleet:
        until(lambda: fleet.status(name)[0].report.get("refused", 0) == min(refused, 31))
    seen = f"{refused} of {forged} refused and reported, the owner's {owner}"
    return Outcome(opened != [wanted] or refused != forged or owner != "succeeded", seen)


@attack(_GROUP, "forged: unsigned, another key's, a signature of zeros, of another text")
def try_forged(testbed: Testbed) -> Outcome:
    device, state, signer, topic = _victim(testbed)
    right = command(state, 1, "open", "x", s=1)
    forged = [
        right,
        Signer("ab" * 32, device.config["id"]).sign(protocol.CMD, right),
        right + b"\n" + b"0" * 64,
        right + signer.sign(protocol.CMD, command(state, 2, "open", "x", s=2))[-65:],
        command(None, 0, "open", s=1),
        b'{"do":"open","args":{"s":1}}\n',
    ]
    testbed.as_relay(topic, *forged)
    return _judge(testbed, device, len(forged))


@attack(_GROUP, "truncated, or with one byte changed")
def try_truncated(testbed: Testbed) -> Outcome:
    device, state, signer, topic = _victim(testbed)
    signed = signer.sign(protocol.CMD, command(state, 1, "open", "x", s=1))
    forged = [signed[:at] for at in (1, 20, len(signed) - 65, len(signed) - 64, len(signed) - 1)]
    forged += [signed.replace(b'"s": 1', b'"s": 9'), signed + b" ", signed + b"0" * 4000]
    testbed.as_relay(topic, *forged)
    return _judge(testbed, device, len(forged))


@attack(_GROUP, "replayed: the owner's own commands, seen on the wire, again at the next wakes")
def try_replayed(testbed: Testbed) -> Outcome:
    device, state, signer, topic = _victim(testbed)
    sent = testbed.send(device, s=1)
    opened = [fields["s"] for fields in testbed.wake(device).all("opened")]
    done = testbed.settled(sent)
    testbed.as_relay(topic, *[signer.sign(protocol.CMD, _as_sent(testbed, sent, state))] * 3)
    ran = [testbed.wake(device) for _ in range(2)]
    opened += [fields["s"] for one in ran for fields in one.all("opened")]
    genuine = not any(one.all("refused") for one in ran)  # else it was not the window that stopped them
    return Outcome(opened != [1] or done != "succeeded" or not genuine, "3 replays with right signatures, done once")


def _as_sent(testbed: Testbed, name: str, state: str) -> bytes:
    """The JSON of a command as the relay has published it."""
    with testbed.fleet as fleet, fleet.ledger.database.reading() as c:
        return rules.payload(rows.load(c, rows.commands.name == name)[0], state, None)


@attack(_GROUP, "re-ordered: the second command first")
def try_reordered(testbed: Testbed) -> Outcome:
    device, state, signer, topic = _victim(testbed)
    first, second = (signer.sign(protocol.CMD, command(state, n, "open", "x", s=n)) for n in (1, 2))
    testbed.as_relay(topic, second, first, second, first)
    opened = [fields["s"] for fields in testbed.wake(device).all("opened")]
    return Outcome(
        sorted(opened) != [1, 2], "each done once; to re-order is within a broker's power (docs/security.md)"
    )


@attack(_GROUP, "re-targeted: another device's signed command, and this one's of before its memory was wiped")
def try_retargeted(testbed: Testbed) -> Outcome:
    _, state, signer, _ = _victim(testbed)
    device, _, own, topic = _victim(testbed)
    foreign = signer.sign(protocol.CMD, command(state, 1, "open", "x", s=1))
    testbed.as_relay(topic, foreign)
    outcome = _judge(testbed, device, 1)
    other_state = own.sign(protocol.CMD, command(state, 1, "open", "x", s=1))
    testbed.as_relay(topic, other_state)
    opened = testbed.wake(device).all("opened")
    return Outcome(outcome.let_in or bool(opened), outcome.seen + "; a signed one for another state: not done")


def _ledger(testbed: Testbed, device: Device) -> str:
    """The ledger's name for this device, to which a first command was sent."""
    with testbed.fleet as fleet:
        return str(fleet.ledger.name(device.config["id"]))


@attack(_GROUP, "numbers far ahead, to lock the ledger out of a device without a key")
def try_far_ahead(testbed: Testbed) -> Outcome:
    device = testbed.device()
    state = testbed.meet(device)
    ledger = _ledger(testbed, device)
    topic = f"dormouse/{device.config['id']}/down/cmd"
    testbed.as_relay(topic, *(command(state, (1 << 30) - n, "ping", ledger) for n in (1, 2)))
    testbed.wake(device)
    until(lambda: _ledger(testbed, device) != ledger)
    sent = testbed.send(device, s=8)
    opened = [fields["s"] for fields in testbed.wake(device).all("opened")]
    return Outcome(opened != [8], f"the ledger took a new name by itself, its next command {testbed.settled(sent)}")


@attack(_GROUP, "the same at a device with a key")
def try_far_ahead_signed(testbed: Testbed) -> Outcome:
    device, state, _, topic = _victim(testbed)
    ledger = _ledger(testbed, device)
    testbed.as_relay(topic, *(command(state, (1 << 30) - n, "ping", ledger) for n in (1, 2)))
    outcome = _judge(testbed, device, 2)
    same = _ledger(testbed, device) == ledger
    return Outcome(outcome.let_in or not same, outcome.seen + ", the ledger keeps its name")


@attack(_GROUP, "strangers' ledgers, until the device knows no more of them")
def try_many_ledgers(testbed: Testbed) -> Outcome:
    device, state, _, topic = _victim(testbed)
    testbed.as_relay(topic, *(command(state, 1, "ping", f"evil{n}") for n in range(6)))
    return _judge(testbed, device, 6)


@attack(_GROUP, "answers for a device with a key: results, reports, end records")
def try_forged_answers(testbed: Testbed) -> Outcome:
    device, state, _, _ = _victim(testbed)
    name = device.config["id"]
    sent = testbed.send(device, s=9)
    with testbed.fleet as fleet:
        wire = fleet.result(sent).id
    answer = json.dumps([{"status": "rejected", "id": wire, "crc": 1}]).encode()
    report = json.dumps({"wake": 99, "state": state}).encode()
    # only the wake topic may be written with a relay's credential, but a broker may invent them all
    with testbed.fleet as fleet:
        forged = [
            ("up/result", answer),
            ("up/wake", report),
            ("up/end", report),
            ("up/result", answer + b"\n" + b"0" * 64),
        ]
        wrong = fleet.ledger.take([Incoming(name, leaf, payload) for leaf, payload in forged], "x")
        untouched = not fleet.result(sent).final and fleet.status(name)[0].report.get("wake") != 99
    testbed.as_relay(f"dormouse/{name}/up/wake", report)
    opened = [fields["s"] for fields in testbed.wake(device).all("opened")]
    fine = untouched and len(wrong) == len(forged) and opened == [9]
    return Outcome(not fine, f"{len(wrong)} of {len(forged)} refused, the owner's {testbed.settled(sent)}")


@attack(_GROUP, "a configuration that is nonsense: no such broker, no such type, no such key, another id")
def try_config(testbed: Testbed) -> Outcome:
    device = testbed.device()
    testbed.meet(device)
    wrong = [
        {"budget": "long"},
        {"nonsense": 1},
        {"id": "other"},
        {"broker": "http://x"},
        {"payload": 10**9},
        {"ca": ""},
    ]
    names = [testbed.send(device, "config", set=one) for one in wrong]
    testbed.wake(device)
    refused = [testbed.settled(name) for name in names]
    trial = testbed.send(device, "config", set={"broker": "mqtts://127.0.0.1:1", "budget": 2})
    testbed.wake(device)
    on_trial = testbed.settled(trial)
    lost = testbed.wake(device).code
    back = testbed.wake(device).code
    sent = testbed.send(device, s=6)
    opened = [fields["s"] for fields in testbed.wake(device).all("opened")]
    fine = set(refused) <= {"failed", "rejected"} and on_trial == "succeeded" and lost == 1 and back == 0
    seen = f"{len(wrong)} refused; one that leads nowhere cost one wake, then {testbed.settled(sent)}"
    return Outcome(not fine or opened != [6], seen)
