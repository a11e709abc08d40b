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
from dormouse_host.rotation import Rotated
from support.rotating import begin, bench_fixture, not_yet, opened_fixture, wakes  # noqa: F401  (fixtures, found by being here)


def on_its_way(bench, device=None):
    """A device that was met, with the command at the broker, and the new password."""
    if device is None:
        device = bench.device()
        bench.meet(device)
    said = not_yet(bench, device)
    return device, said["password"], said["command"]


def ways_in(bench, device, new):
    """Which of the old and the new password the broker accepts."""
    old = bench.of_device(device)
    return bench.refused(old) is None, bench.refused(replace(old, password=new)) is None


def test_new_password_is_taken_once_the_device_has_both_and_then_it_alone(bench):
    device, new, name = on_its_way(bench)
    wakes(bench, device)
    assert bench.settled(name) == "succeeded"
    for _ in range(2):  # the host is away: the old one goes on, after one refusal
        assert wakes(bench, device) >= 2
    assert begin(bench, device, 60) == Rotated("password", True)
    assert wakes(bench, device) == 1
    old = bench.secrets_of(device)["password"]
    assert ways_in(bench, device, new) == (False, True)
    files = bench.folder / "devices" / device.config["id"]
    assert json.loads((files / "secrets.json").read_text())["password"] == new
    assert json.loads((device.folder / "state" / "credentials").read_text()) == {
        "crc": crc32(old.encode()),
        "held": [new],
    }


def test_it_can_be_done_again_and_again_and_flashed_over(bench):
    """Each drops the one before; another secrets.json makes all of them void."""
    device = bench.device()
    bench.meet(device)
    seen = [bench.secrets_of(device)["password"]]
    for _ in range(3):
        _, new, name = on_its_way(bench, device)
        assert bench.settled_after_wake(name, device) == "succeeded"
        for _ in range(2):  # with the one before, which no secrets.json has
            wakes(bench, device)
        begin(bench, device, 60)
        seen.append(new)
        assert wakes(bench, device) == 1
        assert json.loads((device.folder / "state" / "credentials").read_text())["held"] == seen[-1:]
    assert len(set(seen)) == 4
    name = device.config["id"]
    credentials.revoke(bench.made, name)
    credentials.provision(bench.made, name, bench.folder)
    device.secrets(**json.loads((bench.folder / "devices" / name / "secrets.json").read_text()))
    assert wakes(bench, device) == 1


def test_device_that_never_comes_is_let_in_with_the_old_one(bench):
    device, new, name = on_its_way(bench)
    assert ways_in(bench, device, new) == (True, False)
    assert not_yet(bench, device) == {"password": new, "command": name}


def test_each_state_of_file_and_broker_lets_the_device_in(bench):
    """The file changed and the broker not told, told, killed and started: in any of them a wake finishes."""
    device, new, name = on_its_way(bench)
    assert bench.settled_after_wake(name, device) == "succeeded"
    folder.put_password(bench.made.passwd, device.config["id"], new)  # and the host is killed here
    assert ways_in(bench, device, new) == (True, False)
    wakes(bench, device)
    bench.made.reload()
    assert ways_in(bench, device, new) == (False, True)
    wakes(bench, device)
    assert begin(bench, device, 60).told, "the host goes on"
    assert wakes(bench, device) == 1


@pytest.mark.parametrize("event", ["connecting", "connected", "command", "result", "asleep"])
def test_power_cut_at_any_step_locks_nobody_out(bench, event):
    """In the wake that is told, in the one that falls back, and in the first with the new one."""
    device, new, name = on_its_way(bench)

    def cut():
        with device.start() as process:
            process.until("connecting" if event in ("command", "result") and held() else event)
            process.cut()

    def held():
        return (device.folder / "state" / "credentials").exists()

    cut()
    wakes(bench, device)
    assert bench.settled(name) == "succeeded"
    cut()
    wakes(bench, device)
    begin(bench, device, 60)
    cut()
    assert wakes(bench, device) == 1
    assert ways_in(bench, device, new) == (False, True)
    assert json.loads((device.folder / "state" / "credentials").read_text())["held"] == [new]


def test_revocation_ends_it(bench):
    """What the device answers then lets nobody in."""
    device, new, name = on_its_way(bench)
    assert bench.settled_after_wake(name, device) == "succeeded"
    credentials.revoke(bench.made, device.config["id"])
    with pytest.raises(HostError, match="unknown to this broker"):
        begin(bench, device, 60)
    assert ways_in(bench, device, new) == (False, False)


def test_revocation_in_the_last_moment_counts(bench, monkeypatch):
    """Between the device's answer and the change of the broker's files."""
    device, new, name = on_its_way(bench)
    assert bench.settled_after_wake(name, device) == "succeeded"
    wait = Fleet.wait

    def revoked(fleet, *how):
        view = wait(fleet, *how)
        credentials.revoke(bench.made, device.config["id"])
        return view

    monkeypatch.setattr(Fleet, "wait", revoked)
    with pytest.raises(HostError, match="was revoked meanwhile"):
        begin(bench, device, 60)
    assert ways_in(bench, device, new) == (False, False)


def test_device_that_can_hold_no_more_keeps_what_it_has(bench):
    """Four that nobody ever accepted; it gets in with its own all the same."""
    device = bench.device()
    old = bench.secrets_of(device)["password"]
    bench.meet(device)
    (device.folder / "state" / "credentials").write_text(json.dumps({"crc": crc32(old.encode()), "held": list("abcd")}))
    _, new, name = on_its_way(bench, device)
    assert wakes(bench, device) >= 5
    assert bench.settled(name) == "failed"
    with pytest.raises(HostError, match="keeps its password: .* failed, .*too many"):
        begin(bench, device, 60)
    assert not credentials.rotation(bench.made, device.config["id"]).exists()
    assert ways_in(bench, device, new) == (True, False)


def test_new_password_is_in_no_view_log_export_or_argument(bench):
    device, new, name = on_its_way(bench)
    who = device.config["id"]
    before = len(bench.said)
    ran = bench.wake(device)
    assert ran.code == 0
    assert bench.settled(name) == "succeeded"
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
        ("rotate", who, "--folder", str(bench.made.path), "--within", "60s"),
    ):
        bench.line(*words)
    bench.wake(device)
    bench.line("export", "results")
    said = "\n".join(bench.said[before:])
    assert "(hidden)" in said
    assert f"{who}: has the new password" in said, said
    places = (said, bench.log("relay"), bench.log("broker"), "\n".join(bench.arguments))
    assert not [place for place in places if new in place]
    assert new not in bench.made.passwd.read_text()
    assert oct(credentials.rotation(bench.made, who).parent.stat().st_mode)[-2:] == "00"
