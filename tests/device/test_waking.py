"""When a device wakes, connects and sleeps: intervals, backoff, jitter, and the boot after an unfinished wake.

Must stay true: time is the device's own count of it, by what it planned to sleep; no test waits for it.
"""

from pathlib import Path

from dormouse_host.broker.local import free_port
from support.device_folder import Device
from support.peer import Peer, honest, keeps_listening

LEVEL = """
from dormouse import telemetry

@telemetry()
def level(wake):
    return {"level": 3}

@telemetry(every=300)
def slow(wake):
    return {"slow": 1}
"""


def dead() -> str:
    """A broker that is not there."""
    return f"mqtt://127.0.0.1:{free_port()}"


def test_sample_every_and_connect_every_are_kept_apart(interpreter, tmp_path):
    """A sample costs no radio; the records go with the next connect, all of them."""
    with Peer(honest()) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url, LEVEL, sample_every=100, connect_every=400)
        wakes = [device.wake("timer") for _ in range(8)]
        peer.settled()
    assert all(ran.code == 0 for ran in wakes), wakes[0].output
    connected = [n for n, ran in enumerate(wakes) if ran.all("connected")]
    assert connected[0] == 0
    assert 3 <= connected[1] <= 5  # 400 s and up to 5 % of jitter, in steps of 100
    assert all(ran.one("asleep")["next"] <= 100 for ran in wakes)
    batches = [batch for connection in peer.connections for batch in connection.told("/up/telemetry")]
    records = [record for batch in batches for record in batch["records"]]
    assert [number for number, _, _ in records] == list(range(1, connected[-1] + 2))
    assert sum("slow" in values for _, _, values in records) < len(records)


def test_backoff_grows_from_failure_to_failure_is_capped_and_ends_with_success(interpreter, tmp_path):
    """A dead access point must not empty the battery, and a day later the device must still be there."""
    device = Device(tmp_path / "device", interpreter, dead(), connect_every=900)
    sleeps = []
    for _ in range(7):
        ran = device.wake()
        assert ran.code == 1
        sleeps.append(ran.one("asleep")["next"])
    for n, seconds in enumerate(sleeps):
        assert 0.94 * min(900 * 2 ** (n + 1), 21600) < seconds < 1.06 * min(900 * 2 ** (n + 1), 21600)
    with Peer(honest()) as peer:
        device.configure(broker=peer.url)
        ran = device.wake()
        assert ran.code == 0
        assert peer.settled().last.told("/up/wake")[0]["failures"] == 7
    assert 850 < ran.one("asleep")["next"] < 950


def test_no_two_sleeps_are_alike(interpreter, tmp_path):
    """A fleet that was powered on together must not come back together."""
    with Peer(honest()) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url, connect_every=100000)
        sleeps = {device.wake().one("asleep")["next"] for _ in range(4)}
    assert len(sleeps) > 1
    assert all(94000 < seconds < 106000 for seconds in sleeps)


def unfinished(folder: Path, interpreter, peer: Peer) -> Device:
    """A device whose power went while it was connecting; nothing of that connection reaches the peer later."""
    device = Device(folder / "device", interpreter, peer.url)
    with device.start() as process:
        process.until("connecting")
        process.cut()
    peer.settled()
    return device


def test_boot_after_an_unfinished_wake_sleeps_first_unless_a_person_is_there(interpreter, tmp_path):
    """A crash at each boot must not become a boot loop at full duty; who pressed the button waits for an answer."""
    with Peer(keeps_listening) as peer:
        device = unfinished(tmp_path, interpreter, peer)
        before = len(peer.connections)
        slept = device.wake("watchdog")
        assert slept.code == 1
        assert len(peer.connections) == before
        assert not slept.all("connecting")
        assert slept.one("error")["why"] == "the wake before this one never ended"
        assert slept.one("asleep")["next"] > 1500  # twice 900, less the jitter
        peer.scripts = [honest()]
        ran = device.wake("watchdog")
        assert ran.code == 0, ran.output
        assert peer.last.told("/up/wake")[0]["failures"] == 1


def test_person_at_the_device_is_answered_at_once_after_an_unfinished_wake(interpreter, tmp_path):
    """Power on, reset button or the hold pin."""
    with Peer(keeps_listening) as peer:
        for cause in ("power", "reset", "pin"):
            folder = tmp_path / cause
            folder.mkdir()
            peer.scripts = [keeps_listening]
            device = unfinished(folder, interpreter, peer)
            peer.scripts = [honest()]
            ran = device.wake(cause)
            assert ran.code == 0, ran.output
            report = peer.last.told("/up/wake")[0]
            assert report["cause"] == cause
            assert report["last"]["ended"] == "cut off"


def test_report_tells_the_planned_next_connect_and_how_the_last_wake_went(interpreter, tmp_path):
    """So that "overdue" is a fact and not a guess."""
    with Peer(honest()) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url)
        device.wake()
        device.configure(broker=dead())
        device.wake()
        device.configure(broker=peer.url)
        third = device.wake()
        peer.settled()
    first, last = (connection.told("/up/wake")[0] for connection in peer.connections)
    assert first["wake"] == 1
    assert "last" not in first
    assert last["wake"] == 3
    assert last["last"]["ended"] == "LinkError"
    assert last["end"]["wake"] == 1  # the last wake that wrote one
    assert abs(last["next"] - 900 * 4) < 0.06 * 900 * 4 or abs(last["next"] - third.one("asleep")["next"]) < 100
