"""Whichever way a setting is set, the newest deliberate one holds; the device says which, and what it replaced."""

from support.device_folder import Device, command
from support.peer import Peer, honest


def test_a_flash_beats_an_older_command_and_a_command_an_older_flash(interpreter, tmp_path):
    """In the wakes of a real agent; the report names what commands have changed."""
    interval, ask = command(None, 0, "set_interval", connect_every=3600), command(None, 0, "config")
    trial = command(None, 0, "config", set={"connect_every": 300})
    with Peer(honest(interval), honest(ask), honest(), honest(trial), honest(), honest()) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url, connect_every=900)
        slept = [device.wake().one("asleep")["next"] for _ in range(2)]
        device.configure(connect_every=60)  # a flash
        slept += [device.wake().one("asleep")["next"] for _ in range(4)]
        peer.settled()
    wanted = [3600, 3600, 60, 60, 300, 300]
    assert all(abs(seconds / every - 1) < 0.07 for seconds, every in zip(slept, wanted, strict=True)), slept
    told = [connection.told("/up/wake")[0].get("settings") for connection in peer.connections]
    changed = {"connect_every": [3600, 900]}
    assert told == [None, changed, None, None, {"connect_every": [300, 60]}, {"connect_every": [300, 60]}]
    (answer,) = [each for each in peer.connections[1].results() if each.get("do") == "config"]
    assert answer["value"]["settings"]["connect_every"] == [3600, "command", 900]
    assert answer["value"]["settings"]["id"] == ["dev", "flashed"]
