"""A certificate changed by command, on a mosquitto of `broker init`: no instant locks the device out, no view shows it.

Must stay true: the wakes are processes; what the broker lets in decides, and not what a file says.
"""

import json
import socket
import threading
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest

from dormouse_host import files, rotation
from dormouse_host.broker import credentials
from dormouse_host.errors import HostError
from dormouse_host.ledger.entry import Order
from dormouse_host.rotation import Rotated
from support import made_broker
from support.certificates import Pair, server_context
from support.peer import Peer
from support.rotating import begin, bench_fixture, not_yet, opened_fixture, wakes  # noqa: F401  (fixtures, found by being here)
from support.waiting import until


class Killed(BaseException):
    """What ends the host between two steps."""


def met(testbed):
    device = testbed.device(cert=True)
    testbed.meet(device)
    return device


def answer(testbed, name):
    """What the device said to a command, and what it has settled to."""
    status = testbed.settled(name)
    with testbed.fleet as fleet:
        view = fleet.result(name)
    return status, view.why or view.value


def flashed(device):
    """The pair beside its config.json."""
    return (device.folder / "cert.der").read_bytes(), (device.folder / "key.der").read_bytes()


def provisioned(testbed, device):
    """The pair that `dormouse flash` would write."""
    folder = testbed.folder / "devices" / device.config["id"]
    return (folder / "cert.der").read_bytes(), (folder / "key.der").read_bytes()


def sent(said):
    """The pair that is under way."""
    return b64decode(said["cert"]), b64decode(said["key"])


def ways_in(testbed, *pairs):
    return tuple(made_broker.lets_in(testbed.made, *pair) for pair in pairs)


def held(device):
    """How many the device holds beside the flashed one."""
    path = device.folder / "state" / "credentials"
    return len(json.loads(path.read_text())["held"]) if path.exists() else 0


def test_old_one_is_revoked_once_the_device_has_connected_with_the_new_one(testbed):
    device = met(testbed)
    old = flashed(device)
    said = not_yet(testbed, device)
    assert wakes(testbed, device) == 1
    assert answer(testbed, said["command"]) == ("succeeded", "on trial")
    again = not_yet(testbed, device)
    assert sent(again) == sent(said)
    assert ways_in(testbed, old, sent(said)) == (True, True)
    assert wakes(testbed, device) == 1
    assert answer(testbed, again["command"]) == ("succeeded", "in use")
    assert begin(testbed, device, 60) == Rotated("certificate", True)
    assert ways_in(testbed, old, sent(said)) == (False, True)
    assert wakes(testbed, device) == 1
    assert provisioned(testbed, device) == sent(said)
    assert len(credentials.issued(testbed.made, device.config["id"])) == 1
    assert not credentials.rotation(testbed.made, device.config["id"]).exists()


def test_one_call_asks_until_it_is_in_use_and_it_can_be_done_again_and_flashed_over(testbed):
    """As a person does it: one call that waits, while the device wakes now and then."""
    device = met(testbed)
    seen = [flashed(device)]
    for _ in range(2):
        done: list[Rotated] = []
        caller = threading.Thread(target=lambda done=done: done.append(begin(testbed, device, 60)))
        caller.start()
        while caller.is_alive():
            assert wakes(testbed, device) == 1
        caller.join()
        assert done == [Rotated("certificate", True)]
        seen.append(provisioned(testbed, device))
        assert held(device) == 1
    assert ways_in(testbed, *seen) == (False, False, True)
    for name, data in zip(("cert.der", "key.der"), seen[-1], strict=True):
        (device.folder / name).write_bytes(data)
    assert wakes(testbed, device) == 1


def test_device_that_stays_awake_is_not_asked_again_and_again(testbed):
    """All that it could say is that it has not connected anew."""
    device = met(testbed)
    testbed.send(device, "stay_awake", s=3)
    done: list[Rotated] = []
    caller = threading.Thread(target=lambda: done.append(begin(testbed, device, 60)))
    caller.start()
    ran = testbed.wake(device)
    assert ran.code == 0, ran.output
    assert [fields["do"] for fields in ran.all("command")].count("set_certificate") == 2
    while caller.is_alive():
        wakes(testbed, device)
    assert done == [Rotated("certificate", True)]


def test_one_that_the_broker_refuses_leaves_the_device_on_the_old_one(testbed, monkeypatch):
    """It is tried at each wake and passed over; another one can be given, and then the refused one is gone."""
    device = met(testbed)
    old, said = flashed(device), not_yet(testbed, device)
    refused = sent(said)
    serial = rotation._serial(said)
    files.write(testbed.made.broker / "revoked.pem", testbed.made.authority.revoke(serial), files.PUBLIC)
    assert testbed.made.reload()
    assert ways_in(testbed, old, refused) == (True, False)
    wakes(testbed, device)
    for _ in range(2):
        assert answer(testbed, said["command"]) == ("succeeded", "on trial")
        said = not_yet(testbed, device)
        assert wakes(testbed, device) == 2
    with monkeypatch.context() as patience:
        patience.setattr(rotation, "_ASKS", 1)
        with pytest.raises(HostError, match="keeps its certificate: it has not connected with the new one, though ask"):
            begin(testbed, device, 60)
    assert ways_in(testbed, old, refused) == (True, False)
    assert provisioned(testbed, device) == old
    said = not_yet(testbed, device)
    assert wakes(testbed, device) == 2
    assert answer(testbed, said["command"]) == ("succeeded", "on trial")
    said = not_yet(testbed, device)
    assert wakes(testbed, device) == 1
    begin(testbed, device, 60)
    assert ways_in(testbed, old, refused, sent(said)) == (False, False, True)
    assert (wakes(testbed, device), held(device)) == (1, 1)


@pytest.mark.parametrize("event", ["connecting", "connected", "command", "result", "asleep"])
def test_power_cut_at_any_step_locks_nobody_out(testbed, event):
    """In the wake that is told, in the first with the new one, and when the old one is revoked."""

    def cut(event):
        with device.start() as process:
            process.until(event)
            process.cut()

    device = met(testbed)
    old, said = flashed(device), not_yet(testbed, device)
    cut(event)
    wakes(testbed, device)
    assert answer(testbed, said["command"])[0] == "succeeded"
    while answer(testbed, said["command"])[1] != "in use":
        said = not_yet(testbed, device)
        cut(event)
        wakes(testbed, device)
    begin(testbed, device, 60)
    cut("connecting" if event in ("command", "result") else event)
    assert wakes(testbed, device) == 1
    assert ways_in(testbed, old, sent(said)) == (False, True)
    assert held(device) == 1


def test_host_killed_between_any_two_steps_locks_nobody_out(testbed, monkeypatch):
    """Before each write of a file and each word to the broker, of every call; what was written the broker has read."""
    device = met(testbed)
    old, steps, left, write, reload = flashed(device), 0, 0, files.write, type(testbed.made).reload

    def step(function, *args):
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return function(*args)

    monkeypatch.setattr(files, "write", lambda *args: step(write, *args))
    monkeypatch.setattr(type(testbed.made), "reload", lambda made: step(reload, made))
    monkeypatch.setattr(Path, "unlink", lambda path, *args, unlink=Path.unlink, **how: step(unlink, path, *args))

    def go_on(steps):
        """A call that is killed after so many steps. True where it came to its end."""
        nonlocal left
        left = steps
        try:
            begin(testbed, device)
            return True
        except Killed:
            return False
        except HostError as error:
            return None if "has not answered yet" in str(error) else pytest.fail(str(error))
        finally:
            left = 1000

    kills, ended = 0, None
    for _ in range(3):  # the calls that enter, ask again, and finish
        for steps in range(20):
            ended = go_on(steps)
            if ended is not False:
                break
            kills += 1
            reload(testbed.made)
            assert wakes(testbed, device) == 1
            cert, key = provisioned(testbed, device)
            torn = cert != old[0] and key == old[1]  # `dormouse flash` refuses such a pair
            assert torn or ways_in(testbed, (cert, key)) == (True,)
        if ended:
            break
        name = testbed.under_way(device)["command"]
        wakes(testbed, device)
        testbed.settled(name)
    assert ended
    assert kills >= 8
    assert ways_in(testbed, old, provisioned(testbed, device)) == (False, True)
    assert wakes(testbed, device) == 1


NONSENSE: dict[str, Any] = {
    "empty": ("", ""),
    "not base64": ("\u00e9 \u2028!", "?"),
    "no certificate": (b64encode(b"\x30\x03abc").decode(), b64encode(b"\x30\x03abc").decode()),
    "cut off": lambda cert, key: (cert[: len(cert) // 2], key),
    "swapped": lambda cert, key: (key, cert),
}


def test_nonsense_is_refused_with_a_reason_and_loses_nothing(testbed):
    device = met(testbed)
    cert, key = (b64encode(data).decode() for data in flashed(device))
    pairs = [pair(cert, key) if callable(pair) else pair for pair in NONSENSE.values()]
    with testbed.fleet as fleet:
        orders = [
            Order(device.config["id"], "set_certificate", json.dumps({"cert": pair[0], "key": pair[1]}))
            for pair in pairs
        ]
        orders.append(Order(device.config["id"], "set_password", '{"password":"x"}'))
        orders.append(Order(device.config["id"], "set_certificate", '{"cert":"x"}'))
        names = fleet.ledger.enter(orders)
        until(lambda: all(fleet.result(name).status == "sent" for name in names))
    wakes(testbed, device)
    said = [answer(testbed, name) for name in names]
    assert said == [("failed", "ConfigError: ca, cert or key is not in DER, or no psk here")] * len(pairs) + [
        ("failed", "ConfigError: this device authenticates with a certificate"),
        ("rejected", "argument key is missing"),
    ]
    assert held(device) == 0
    assert wakes(testbed, device) == 1


def test_certificate_is_refused_by_a_device_with_a_password(testbed):
    device = testbed.device()
    testbed.meet(device)
    with testbed.fleet as fleet:
        [name] = fleet.ledger.enter([Order(device.config["id"], "set_certificate", '{"cert":"x","key":"y"}')])
        until(lambda: fleet.result(name).status == "sent")
    wakes(testbed, device)
    assert answer(testbed, name) == ("failed", "ConfigError: this device authenticates with a password")


def test_held_ones_that_nobody_can_read_are_passed_over(testbed):
    device = met(testbed)
    said = not_yet(testbed, device)
    wakes(testbed, device)
    testbed.settled(said["command"])
    path = device.folder / "state" / "credentials"
    apart = f"{said['cert']} {b64encode(flashed(device)[1]).decode()}"  # a key that is another certificate's
    path.write_text(json.dumps({**json.loads(path.read_text()), "held": [apart, apart, apart, "\u00e9"]}))
    assert wakes(testbed, device) == 5
    again = not_yet(testbed, device)
    assert sent(again) == sent(said)
    assert wakes(testbed, device) == 5
    with pytest.raises(HostError, match=r"keeps its certificate: .* failed, .*too many"):
        begin(testbed, device, 60)


def test_silent_broker_is_not_tried_with_each_of_them(testbed):
    """It refuses nothing: it is tried once more, and no oftener, however many there are."""
    device = met(testbed)
    not_yet(testbed, device)
    wakes(testbed, device)
    served = Pair(testbed.made.broker / "broker.crt", testbed.made.broker / "broker.key")
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Peer(lambda connection: connection.listen(), tls=server_context(served)) as mute,
    ):
        for port, stage in ((silent.getsockname()[1], "tls"), (mute.port, "connack")):
            device.configure(broker=f"mqtts://127.0.0.1:{port}", patience=3000)
            ran = testbed.wake(device)
            assert (ran.code, len(ran.all("connecting")), held(device)) == (1, 2, 1), ran.output
            assert ran.one("error")["stage"] == stage


def test_revocation_ends_it_and_locks_both_out(testbed):
    device = met(testbed)
    old, said = flashed(device), not_yet(testbed, device)
    wakes(testbed, device)
    assert answer(testbed, said["command"]) == ("succeeded", "on trial")
    credentials.revoke(testbed.made, device.config["id"])
    with pytest.raises(HostError, match="unknown to this broker"):
        begin(testbed, device, 60)
    assert ways_in(testbed, old, sent(said)) == (False, False)


def test_new_key_is_in_no_view_log_export_or_argument(testbed):
    device = met(testbed)
    who, before = device.config["id"], len(testbed.said)
    names: list[str] = []
    while "has the new certificate" not in testbed.line(
        "rotate", who, "--folder", str(testbed.made.path), "--project", str(testbed.folder), "--within", "0s"
    ):
        assert len(names) < 5, testbed.said[before:]
        said = testbed.under_way(device)
        names.append(said["command"])
        testbed.settled_after_wake(names[-1], device)
    for name in names:
        testbed.line("result", name, "--json")
    for words in (
        ("result", names[0]),
        ("log", who),
        ("log", who, "--json"),
        ("status", who, "--json"),
        ("export", "results"),
        ("export", "wakes"),
        ("send", who, "log"),
    ):
        testbed.line(*words)
    testbed.wake(device)
    testbed.line("export", "results")
    told = "\n".join(testbed.said[before:])
    assert "(hidden)" in told
    _, key = provisioned(testbed, device)
    forms = (b64encode(key).decode(), said["key"][:40], key.hex(), str(key))
    places = (told, testbed.log("relay"), testbed.log("broker"), "\n".join(testbed.arguments))
    assert not [form for form in forms for place in places if form in place]
