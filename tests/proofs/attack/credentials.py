"""Somebody with a credential, another device's or none, at the broker itself.

Must stay true: what the victim or its owner then received decides, not what the broker acknowledged.
"""

from contextlib import suppress
from pathlib import Path

from dormouse_host.address import BrokerAddress
from dormouse_host.broker import credentials
from dormouse_host.broker.client import Publisher
from dormouse_host.broker_check.probe import Client, NoAnswer
from dormouse_host.errors import HostError
from proofs.attack import Outcome, attack
from proofs.attack.testbed import Testbed
from support import made_broker

_GROUP = "at the broker"
_SOON = 0.7  # seconds in which a message that is let through has come


@attack(_GROUP, "no credential, a wrong password, another's name with one's own password")
def try_wrong_credentials(testbed: Testbed) -> Outcome:
    mine, other = testbed.device(), testbed.device()
    right = testbed.of_device(mine)
    ca = right.ca
    tried = [
        BrokerAddress(right.host, right.port, None, None, True, ca),
        BrokerAddress(right.host, right.port, right.user, "guessed", True, ca),
        BrokerAddress(right.host, right.port, right.user, "", True, ca),
        BrokerAddress(right.host, right.port, other.config["id"], right.password, True, ca),
        BrokerAddress(right.host, right.port, "dormouse-relay-main", right.password, True, ca),
    ]
    said = [testbed.refused(one) for one in tried]
    return Outcome(None in said or testbed.refused(right) is not None, f"{len(said)} of {len(said)} refused: {said[0]}")


@attack(_GROUP, "another device's credential: read my commands")
def try_read_commands(testbed: Testbed) -> Outcome:
    victim, thief = testbed.device(), testbed.device()
    testbed.meet(victim)
    name = victim.config["id"]
    with Client(testbed.of_device(thief), "x", clean=True) as client:
        client.connect()
        for topic in (f"dormouse/{name}/down/#", f"dormouse/{name}/#", "dormouse/#", "#", "+/+/down/cmd", "$share/g/#"):
            if client.alive:
                client.subscribe(topic)
        sent = testbed.send(victim, s=1)
        client.rest(_SOON)
        stolen = list(client.came)
    ran = testbed.wake(victim)
    got = [fields["s"] for fields in ran.all("opened")]
    return Outcome(bool(stolen) or got != [1], f"the thief got {len(stolen)}, {testbed.settled(sent)} at the victim")


@attack(_GROUP, "another device's credential: write my results and reports")
def try_write_results(testbed: Testbed) -> Outcome:
    victim, thief = testbed.device(), testbed.device()
    state = testbed.meet(victim)
    name = victim.config["id"]
    sent = testbed.send(victim, s=2)
    with testbed.fleet as fleet:
        wire = fleet.result(sent).id
    with Client(testbed.of_device(thief), "x", clean=True) as client:
        client.connect()
        forged = f'[{{"status":"succeeded","id":"{wire}","crc":1}}]'.encode()
        client.publish(f"dormouse/{name}/up/result", [forged])
        client.publish(f"dormouse/{name}/up/wake", [f'{{"wake":99,"state":"{state}"}}'.encode()], retain=True)
        client.publish(f"dormouse/{name}/up/end", [b'{"wake":99,"state":"x","windows":{}}'])
        client.rest(_SOON)
    with testbed.fleet as fleet:
        view, command = fleet.status(name)[0], fleet.result(sent)
    return Outcome(command.final or view.report.get("wake") == 99, f"the command is still {command.status}")


@attack(_GROUP, "another device's credential: take over my session")
def try_take_over(testbed: Testbed) -> Outcome:
    victim, thief = testbed.device(), testbed.device()
    name = victim.config["id"]
    testbed.meet(victim)
    sent = testbed.send(victim, s=3)
    with Client(testbed.of_device(thief), name, clean=False) as client:
        client.connect()
        client.rest(_SOON)
        stolen, present = list(client.came), client.heard.present
    with Client(testbed.of_device(thief), name, clean=True) as client:  # would end the session
        client.connect().close()
    ran = testbed.wake(victim)
    kept = ran.one("connected")["present"] and [fields["s"] for fields in ran.all("opened")] == [3]
    owners = testbed.settled(sent) if kept else "lost"
    return Outcome(bool(stolen) or present or not kept, f"my session is kept, {owners}")


@attack(_GROUP, "another device's credential: answer my fence, or flood it")
def try_fence(testbed: Testbed) -> Outcome:
    victim, thief = testbed.device(), testbed.device()
    name = victim.config["id"]
    testbed.meet(victim)
    with Client(testbed.of_device(thief), "x", clean=True) as client:
        client.connect().publish(f"dormouse/{name}/down/fence", [b"%08x" % n for n in range(300)])
    ran = testbed.wake(victim)
    figures = ran.one("asleep")
    return Outcome(figures["bytes_down"] > 1000, f"drained by its own, {figures['bytes_down']} bytes down")


@attack(_GROUP, "a device that sends commands: to another, to itself, to all")
def try_publisher_without_rights(testbed: Testbed) -> Outcome:
    victim, thief = testbed.device(), testbed.device()
    testbed.meet(victim)
    testbed.meet(thief)
    payload = b'{"do":"open","args":{"s":4}}'
    with Client(testbed.of_device(thief), "x", clean=True) as client:
        client.connect()
        for name in (victim.config["id"], thief.config["id"]):
            client.publish(f"dormouse/{name}/down/cmd", [payload])
            client.publish(f"dormouse/{name}/down/cmd", [payload], retain=True)
    opened = [fields for device in (victim, thief) for fields in testbed.wake(device).all("opened")]
    return Outcome(bool(opened), f"{len(opened)} commands came")


@attack(_GROUP, "a device's credential used as the relay's")
def try_device_as_relay(testbed: Testbed) -> Outcome:
    victim, thief = testbed.device(), testbed.device()
    with Client(testbed.of_device(thief), "dormouse-relay-main", clean=True) as client:
        client.connect().subscribe("dormouse/+/up/#")
        testbed.wake(victim)
        client.rest(_SOON)
        came = list(client.came)
    alive = "taken over" not in testbed.log("relay")
    return Outcome(bool(came) or not alive, f"read {len(came)} messages; the relay is undisturbed")


@attack(_GROUP, "a revoked device, connected at that moment")
def try_revoked(testbed: Testbed) -> Outcome:
    device = testbed.device()
    credential, name = testbed.of_device(device), device.config["id"]
    with Client(credential, name, clean=False) as client:
        client.connect().subscribe(f"dormouse/{name}/down/#")
        credentials.revoke(testbed.made, name)
        testbed.as_relay(f"dormouse/{name}/down/cmd", b"secret")
        client.rest(_SOON)
        came = list(client.came)
    again = testbed.refused(credential, name)
    return Outcome(bool(came) or again is None, f"got {len(came)}, then: {again}")


@attack(_GROUP, "a password, and a certificate, that were rotated away")
def try_rotated(testbed: Testbed) -> Outcome:
    devices = [testbed.device(), testbed.device(cert=True)]
    pair = [(devices[1].folder / name).read_bytes() for name in ("cert.der", "key.der")]
    let_in = [testbed.refused(testbed.of_device(devices[0])) is None, made_broker.lets_in(testbed.made, *pair)]
    for device in devices:
        testbed.meet(device)
        testbed.rotated(device)
    after = [testbed.refused(testbed.of_device(devices[0])) is None, made_broker.lets_in(testbed.made, *pair)]
    goes_on = [testbed.wake(device).code for device in devices] == [0, 0]
    return Outcome(after != [False, False] or let_in != [True, True] or not goes_on, "both refused; the devices go on")


@attack(_GROUP, "device ids with / + # ../ NUL, or of 300 characters")
def try_device_ids(testbed: Testbed) -> Outcome:
    names = ["a/b", "+", "#", "../x", "..", ".", "x" * 300, "a\0b", "a\nuser x", "a b", "é", "$SYS", ""]
    before = sorted(path for path in testbed.folder.rglob("*") if "data" not in path.parts)
    taken = []
    for name in names:
        try:
            credentials.provision(testbed.made, name, testbed.folder)
            taken.append(name)
        except (HostError, ValueError):
            pass
        with testbed.fleet as fleet:
            try:
                fleet.add(name)
                taken.append(name)
            except HostError:
                pass
    device = testbed.device()
    for name in names:
        device.configure(id=name)
        if testbed.wake(device).all("connecting"):
            taken.append(f"{name} on a device")
    after = sorted(path for path in testbed.folder.rglob("*") if "data" not in path.parts)
    strange = [
        path for path in after if path not in before and device.config["id"] and not _of(path, testbed, device.folder)
    ]
    return Outcome(bool(taken or strange), f"{len(names)} of {len(names)} refused by host and device")


def _of(path: Path, testbed: Testbed, folder: Path) -> bool:
    """Does this file belong to the one right device that the attack made?"""
    return folder in (path, *path.parents) or folder.name in path.parts or testbed.made.broker in path.parents


@attack(_GROUP, "topics of ids that are none, to the relay")
def try_strange_topics(testbed: Testbed) -> Outcome:
    device = testbed.device()
    testbed.meet(device)
    with testbed.fleet as fleet:
        before = {view.id for view in fleet.status()}
    lines = testbed.log("relay").count("not understood")
    for name in ("x" * 300, "a b", "é", "..", "' OR 1=1 --"):
        with suppress(HostError, NoAnswer, ValueError):
            testbed.as_relay(f"dormouse/{name}/up/wake", b'{"wake":1,"state":"s"}')
    with Client(testbed.of_device(device), "x", clean=True) as client:
        client.connect().rest(_SOON)
    with testbed.fleet as fleet:
        after = {view.id for view in fleet.status()}
    alive = not testbed.refused(testbed.of_device(device))
    lines = testbed.log("relay").count("not understood") - lines
    return Outcome(after != before or not alive, f"not stored, {lines} lines in the relay's log")


def stolen_relay(testbed: Testbed) -> Outcome:
    """No attack: shows that one who has the relay's credential does get commands through."""
    victim = testbed.device()
    testbed.meet(victim)
    with Publisher(testbed.broker.of_relay()) as publisher:
        publisher.publish(f"dormouse/{victim.config['id']}/down/cmd", [b'{"do":"open","args":{"s":5}}'])
    opened = testbed.wake(victim).all("opened")
    return Outcome(bool(opened), f"{len(opened)} commands came")
