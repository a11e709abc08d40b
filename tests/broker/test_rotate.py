"""A password changed by command, on a mosquitto of `broker init`: no instant locks the device out, no view shows it.

Must stay true: the wakes are processes; what the broker lets in decides, and not what a file says.
"""

import json
from binascii import crc32
from dataclasses import replace

import pytest

from dormouse_host import Fleet
from dormouse_host.broker import credentials, folder
from dormouse_host.errors import HostError
from dormouse_host.rotation import Rotated, rotate_all
from support.rotating import begin, bench_fixture, not_yet, opened_fixture, wakes  # noqa: F401  (fixtures, found by being here)


def on_its_way(testbed, device=None):
    """A device that was met, with the command at the broker, and the new password."""
    if device is None:
        device = testbed.device()
        testbed.meet(device)
    said = not_yet(testbed, device)
    return device, said["password"], said["command"]


def ways_in(testbed, device, new):
    """Which of the old and the new password the broker accepts."""
    old = testbed.of_device(device)
    return testbed.refused(old) is None, testbed.refused(replace(old, password=new)) is None


def test_new_password_is_taken_once_the_device_has_both_and_then_it_alone(testbed):
    device, new, name = on_its_way(testbed)
    wakes(testbed, device)
    assert testbed.settled(name) == "succeeded"
    for _ in range(2):  # the host is away: the old one goes on, after one refusal
        assert wakes(testbed, device) >= 2
    assert begin(testbed, device, 60) == Rotated("password", True)
    assert wakes(testbed, device) == 1
    old = testbed.secrets_of(device)["password"]
    assert ways_in(testbed, device, new) == (False, True)
    files = testbed.folder / "devices" / device.config["id"]
    assert json.loads((files / "secrets.json").read_text())["password"] == new
    assert json.loads((device.folder / "state" / "credentials").read_text()) == {
        "crc": crc32(old.encode()),
        "held": [new],
    }


def test_it_can_be_done_again_and_again_and_flashed_over(testbed):
    """Each drops the one before; another secrets.json makes all of them void."""
    device = testbed.device()
    testbed.meet(device)
    seen = [testbed.secrets_of(device)["password"]]
    for _ in range(3):
        _, new, name = on_its_way(testbed, device)
        assert testbed.settled_after_wake(name, device) == "succeeded"
        for _ in range(2):  # with the one before, which no secrets.json has
            wakes(testbed, device)
        begin(testbed, device, 60)
        seen.append(new)
        assert wakes(testbed, device) == 1
        assert json.loads((device.folder / "state" / "credentials").read_text())["held"] == seen[-1:]
    assert len(set(seen)) == 4
    name = device.config["id"]
    credentials.revoke(testbed.made, name)
    credentials.provision(testbed.made, name, testbed.folder)
    device.secrets(**json.loads((testbed.folder / "devices" / name / "secrets.json").read_text()))
    assert wakes(testbed, device) == 1


def test_device_that_never_comes_is_let_in_with_the_old_one(testbed):
    device, new, name = on_its_way(testbed)
    assert ways_in(testbed, device, new) == (True, False)
    assert not_yet(testbed, device) == {"password": new, "command": name}


def test_each_state_of_file_and_broker_lets_the_device_in(testbed):
    """The file changed and the broker not told, told, killed and started: in any of them a wake finishes."""
    device, new, name = on_its_way(testbed)
    assert testbed.settled_after_wake(name, device) == "succeeded"
    folder.put_password(testbed.made.passwd, device.config["id"], new)  # and the host is killed here
    assert ways_in(testbed, device, new) == (True, False)
    wakes(testbed, device)
    testbed.made.reload()
    assert ways_in(testbed, device, new) == (False, True)
    wakes(testbed, device)
    assert begin(testbed, device, 60).told, "the host goes on"
    assert wakes(testbed, device) == 1


@pytest.mark.parametrize("event", ["connecting", "connected", "command", "result", "asleep"])
def test_power_cut_at_any_step_locks_nobody_out(testbed, event):
    """In the wake that is told, in the one that falls back, and in the first with the new one."""
    device, new, name = on_its_way(testbed)

    def cut():
        with device.start() as process:
            process.until("connecting" if event in ("command", "result") and held() else event)
            process.cut()

    def held():
        return (device.folder / "state" / "credentials").exists()

    cut()
    wakes(testbed, device)
    assert testbed.settled(name) == "succeeded"
    cut()
    wakes(testbed, device)
    begin(testbed, device, 60)
    cut()
    assert wakes(testbed, device) == 1
    assert ways_in(testbed, device, new) == (False, True)
    assert json.loads((device.folder / "state" / "credentials").read_text())["held"] == [new]


def test_revocation_ends_it(testbed):
    """What the device answers then lets nobody in."""
    device, new, name = on_its_way(testbed)
    assert testbed.settled_after_wake(name, device) == "succeeded"
    credentials.revoke(testbed.made, device.config["id"])
    with pytest.raises(HostError, match="unknown to this broker"):
        begin(testbed, device, 60)
    assert ways_in(testbed, device, new) == (False, False)


def test_revocation_in_the_last_moment_counts(testbed, monkeypatch):
    """Between the device's answer and the change of the broker's files."""
    device, new, name = on_its_way(testbed)
    assert testbed.settled_after_wake(name, device) == "succeeded"
    result = Fleet.result

    def revoked(fleet, *how):
        view = result(fleet, *how)
        if credentials.has_credential(testbed.made, device.config["id"]):
            credentials.revoke(testbed.made, device.config["id"])
        return view

    monkeypatch.setattr(Fleet, "result", revoked)
    with pytest.raises(HostError, match="was revoked meanwhile"):
        begin(testbed, device, 60)
    assert ways_in(testbed, device, new) == (False, False)


def test_device_that_can_hold_no_more_keeps_what_it_has(testbed):
    """Four that nobody ever accepted; it gets in with its own all the same."""
    device = testbed.device()
    old = testbed.secrets_of(device)["password"]
    testbed.meet(device)
    (device.folder / "state" / "credentials").write_text(json.dumps({"crc": crc32(old.encode()), "held": list("abcd")}))
    _, new, name = on_its_way(testbed, device)
    assert wakes(testbed, device) >= 5
    assert testbed.settled(name) == "failed"
    with pytest.raises(HostError, match="keeps its password: .* failed, .*too many"):
        begin(testbed, device, 60)
    assert not credentials.rotation(testbed.made, device.config["id"]).exists()
    assert ways_in(testbed, device, new) == (True, False)


def test_new_password_is_in_no_view_log_export_or_argument(testbed):
    device, new, name = on_its_way(testbed)
    who = device.config["id"]
    before = len(testbed.said)
    ran = testbed.wake(device)
    assert ran.code == 0
    assert testbed.settled(name) == "succeeded"
    for words in (
        ("result", name),
        ("result", name, "--json"),
        ("log", who),
        ("log", who, "--json"),
        ("status", who, "--json"),
        ("export", "results"),
        ("export", "wakes"),
        ("send", who, "describe"),
        ("send", who, "log"),
        ("rotate", who, "--folder", str(testbed.made.path), "--within", "60s"),
    ):
        testbed.line(*words)
    testbed.wake(device)
    testbed.line("export", "results")
    said = "\n".join(testbed.said[before:])
    assert "(hidden)" in said
    assert f"{who} has the new password" in said, said
    places = (said, testbed.log("relay"), testbed.log("broker"), "\n".join(testbed.arguments))
    assert not [place for place in places if new in place]
    assert new not in testbed.made.passwd.read_text()
    assert oct(credentials.rotation(testbed.made, who).parent.stat().st_mode)[-2:] == "00"


def test_a_group_is_rotated_in_the_order_in_which_its_devices_wake(testbed):
    """One that never comes and one that was revoked keep nobody else from it; the same call goes on."""
    awake, asleep, gone = (testbed.device() for _ in range(3))
    for device in (awake, asleep, gone):
        testbed.meet(device)
    names = [device.config["id"] for device in (asleep, gone, awake)]
    credentials.revoke(testbed.made, names[1])
    with testbed.fleet as fleet:
        called = list(rotate_all(testbed.made, fleet, names, testbed.folder, 0))
    assert sorted(str(why).split(" ")[0] for _, why in called) == sorted(names)
    command = testbed.under_way(awake)["command"]
    testbed.settled_after_wake(command, awake)
    done: dict[str, str] = {}
    with testbed.fleet as fleet:
        for name, how in rotate_all(testbed.made, fleet, names, testbed.folder, 5):
            done[name] = str(how)
    assert "has not answered yet" in done[names[0]]
    assert "is unknown to this broker" in done[names[1]]
    assert done[names[2]] == str(Rotated("password", True))
    assert wakes(testbed, awake) == 1
    assert wakes(testbed, asleep) == 1
