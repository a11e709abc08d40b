"""An update over the air, on both interpreters and a real broker: from the order to the verdict."""

from hashlib import sha256

import pytest

from dormouse.signing import Signer
from dormouse_host.lab.bench.proxy import Proxy
from dormouse_host.release import Release, chunks
from support.device_folder import Device, Host
from support.updating import Sender, install, marked, program

OLD = """
from dormouse import command

@command("say", text=str)
def say(wake, text):
    wake.log("say", text="old " + text)
"""
STUCK = """
@command("stuck")
def stuck(wake):
    wake.log("stuck")
    while True:
        pass
"""
NEW = OLD.replace("old ", "new ") + "".join(f"# {i:060}\n" for i in range(120))


@pytest.fixture
def started(tmp_path, interpreter, mosquitto):
    """(device, host, sender) of a device that runs OLD in slot a, and has had its first wake."""
    device = Device(tmp_path / "device", interpreter, mosquitto.address.url)
    (device.folder / "app.py").unlink()
    install(device.folder, program(OLD))
    with Host(mosquitto.address) as host:
        device.wake()
        state = host.wait("up/wake")["state"]
        yield device, host, Sender(host, state)


def verdict(host: Host, wake: int) -> dict | None:
    """How the update stood at the end of that wake."""
    told: dict | None = host.wait("up/end", wake).get("update")
    return told


def test_an_update_takes_two_wakes_and_a_trial(started):
    device, host, sender = started
    new = program(NEW)
    begun = sender.step(new, "begin")
    device.wake()
    assert host.answers(1)[begun]["status"] == "succeeded", host.answers(1)
    assert verdict(host, 2) == {"release": new.id, "at": [0, 0]}
    sender.chunks(new)
    committed = sender.step(new, "commit")
    sender.order("say", text="hi")
    ran = device.wake()
    assert host.answers(3)[committed]["status"] == "succeeded", host.answers(3)
    assert ran.said == ["old hi"]
    assert marked(device) == "b20"
    assert verdict(host, 3) == {"release": new.id, "trial": 0}
    sender.order("say", text="hi")
    ran = device.wake("reset")
    assert ran.said == ["new hi"], ran.output
    assert verdict(host, 4) == {"release": new.id, "kept": 0}
    ended = sender.step(new, "end")
    device.wake()
    assert host.answers(5)[ended]["status"] == "succeeded"
    assert verdict(host, 5) is None
    assert marked(device) == "b00"
    assert not (device.folder / "state" / "update").exists()


def begun(device: Device, host: Host, sender: Sender, release: Release, wake: int) -> None:
    """The device has agreed to a release."""
    sender.step(release, "begin")
    device.wake()
    assert verdict(host, wake) == {"release": release.id, "at": [0, 0]}


def test_a_program_that_raises_on_trial_is_left_and_the_network_is_not_blamed(started):
    """Its kind is that of a program that has to be mended: no backoff, since the other slot runs at once."""
    device, host, sender = started
    new = program("import nowhere\n")
    begun(device, host, sender, new, 2)
    sender.chunks(new)
    sender.step(new, "commit")
    device.wake()
    ran = device.wake("reset")
    kinds = [(error["kind"], error["stage"]) for error in ran.all("error")]
    assert kinds == [("app", "import"), ("ConfigError", "slot")]
    assert "nowhere" in ran.all("error")[1]["why"]
    assert (ran.code, marked(device)[0]) == (2, "a")
    sender.order("say", text="hi")
    ran = device.wake("reset")
    assert ran.said == ["old hi"], ran.output
    report = host.wait("up/wake", 4)
    assert '"kind":"ConfigError"' in report["last"]["why"]
    assert report["failures"] == 0
    told = verdict(host, 4)
    assert told
    assert "nowhere" in told["failed"]


def test_chunks_that_come_twice_late_or_damaged_do_no_harm(started):
    """What is not the next one is dropped; what was damaged on the way is found by its hash."""
    device, host, sender = started
    new = program(NEW)
    begun(device, host, sender, new, 2)
    payloads, _ = chunks(new.id, new.contents(), [0, 1], (0, 0), 1024, 100)
    other = b"\0" * 8 + payloads[0][8:]
    host.send(other, b"", b"short", *payloads[:3], *payloads[:2], *payloads[4:], leaf="down/file")
    device.wake()
    assert verdict(host, 3) == {"release": new.id, "at": [1, 2048]}
    wrong = bytearray(payloads[3])
    wrong[-1] ^= 1
    host.send(bytes(wrong), *payloads[4:], leaf="down/file")
    commit = sender.step(new, "commit")
    device.wake()
    assert host.answers(2)[commit]["status"] == "failed"
    assert verdict(host, 4) == {"release": new.id, "failed": "app.py is damaged"}
    assert list((device.folder / "b").iterdir()) == []
    assert marked(device) == "a40"


def test_a_commit_that_comes_before_the_last_chunk_is_refused_and_another_works(started):
    device, host, sender = started
    new = program(NEW)
    begun(device, host, sender, new, 2)
    early = sender.step(new, "commit")
    device.wake()
    assert "not all of it has come" in host.answers(2)[early]["why"]
    sender.chunks(new)
    late = sender.step(new, "commit")
    device.wake()
    assert host.answers(3)[late]["status"] == "succeeded"


def test_a_step_that_an_earlier_wake_took_and_did_not_come_to_is_done(started):
    """The command before it held the wake until the power went; the broker has forgotten both."""
    device, host, sender = started
    (device.folder / "a" / "app.py").write_text(OLD + STUCK)
    sender.order("stuck")
    begun = sender.step(program(NEW), "begin")
    with device.start() as process:
        process.until("stuck")
        process.cut()
    device.wake()
    answers = host.answers(2)
    assert answers[begun]["status"] == "succeeded", answers


def test_a_release_that_does_not_fit_is_refused_and_leaves_no_trace(started):
    device, host, sender = started
    new = program(NEW)
    big = sender.step(new, "begin", bytes=1 << 50)
    other = sender.step(new, "begin", formats=2)
    device.wake()
    answers = host.answers(2)
    assert "bytes needed" in answers[big]["why"]
    assert "formats 2" in answers[other]["why"]
    assert not (device.folder / "state" / "update").exists()
    assert verdict(host, 2) is None


def test_with_a_key_a_chunk_without_its_signature_is_dropped(started):
    device, host, sender = started
    key = "00112233445566778899aabbccddeeff" * 2
    new = program(NEW)
    begun(device, host, sender, new, 2)
    device.secrets(command_key=key)
    signer = Signer(key, "dev")
    payloads, _ = chunks(new.id, new.contents(), [0, 1], (0, 0), 900, 100)
    forged = [payload[:13] + b"#" * (len(payload) - 13) for payload in payloads]
    host.send(*forged, *(signer.sign("down/file", payload) for payload in payloads), leaf="down/file")
    ran = device.wake()
    assert ran.code == 0, ran.output
    assert (device.folder / "b" / "app.py").read_text() == NEW


def test_20_kb_arrive_in_one_wake_with_at_most_three_more_round_trips(tmp_path, interpreter, mosquitto):
    """At 200 ms; the chunks leave the broker in one flight, and are acknowledged as they reach the flash."""
    lines = "".join(f"value_{n} = {n * n}\n" for n in range(2000))
    new = program(lines[: lines.rfind("\n", 0, 20480) + 1])
    with Proxy((mosquitto.address.host, mosquitto.address.port), 0.1) as proxy, Host(mosquitto.address) as host:
        device = Device(tmp_path / "device", interpreter, f"mqtt://127.0.0.1:{proxy.port}", budget=60)
        (device.folder / "app.py").unlink()
        install(device.folder, program(OLD))
        device.wake()
        sender = Sender(host, host.wait("up/wake")["state"])
        sender.step(new, "begin")
        device.wake()
        bare = device.wake().one("asleep")["turns"]
        sender.chunks(new)
        loaded = device.wake().one("asleep")["turns"]
        assert verdict(host, 4) == {"release": new.id, "at": [-1, len(new.files["app.py"])]}
    assert loaded <= bare + 3


HEADER = b'{"keep":[]}\n'
OUTSIDE = HEADER + b"4 " + b"0" * 64 + b" %s\n"


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(b"\xff no manifest\n" * 9, id="no manifest"),
        pytest.param(HEADER + b"x" * 9000, id="a line without end"),
        pytest.param(HEADER + b"four " + b"0" * 64 + b" app.py\n", id="a size that is none"),
        pytest.param(b'{"keep":5}\n', id="a header of another kind"),
        pytest.param(OUTSIDE % b"../main.py", id="outside the slot"),
        pytest.param(OUTSIDE % b"lib/../../state/slot", id="outside by a detour"),
        pytest.param(OUTSIDE % b"release", id="the slot's own"),
    ],
)
def test_a_manifest_that_is_none_costs_the_update_and_no_wake(started, manifest):
    """Its digest is right: whoever sent it sent rubbish, and the device stays within reach."""
    device, host, sender = started
    digest = sha256(manifest).hexdigest()
    terms = {**program(NEW).terms(), "manifest": len(manifest)}
    begun = sender.order("update", step="begin", release=digest, of=terms)
    assert device.wake().code == 0
    assert host.answers(1)[begun]["status"] == "succeeded"
    payloads, _ = chunks(digest[:16], [manifest], [0], (0, 0), 1024, 100)
    host.send(*payloads, leaf="down/file")
    assert device.wake().code == 0
    told = verdict(host, 3)
    assert told
    assert told["release"] == digest[:16]
    assert told["failed"]
    assert list((device.folder / "b").iterdir()) == []
    pinged = sender.order("ping")
    assert device.wake().code == 0
    assert host.answers(2)[pinged]["status"] == "succeeded"


@pytest.mark.parametrize(
    ("release", "of"),
    [
        ("no digest", {}),
        ("ab" * 31, {}),
        ("ab" * 32, {"manifest": "long"}),
        ("ab" * 32, {"manifest": 1 << 40}),
        ("ab" * 32, {"manifest": 0}),
        ("ab" * 32, {"bytes": "many"}),
        ("ab" * 32, {"mpy": 6}),
        ("ab" * 32, {"keep": 5}),
    ],
)
def test_an_order_that_is_none_leaves_no_trace(started, release, of):
    device, host, sender = started
    order = sender.order("update", step="begin", release=release, of={**program(NEW).terms(), **of})
    assert device.wake().code == 0
    assert host.answers(1)[order]["status"] == "failed"
    assert verdict(host, 2) is None
    assert not (device.folder / "state" / "update").exists()
    host.send(b"\xab" * 200, leaf="down/file")
    assert device.wake().code == 0


@pytest.mark.parametrize(
    "damaged", [b"", b'{"of":5}', b'{"of":[null,0,0,null]}', b'{"of":["zz",1,1,null]}', b'{"of":["",[],{},0]}']
)
def test_state_of_an_update_that_was_damaged_costs_the_update_alone(started, damaged):
    device, host, sender = started
    begun(device, host, sender, program(NEW), 2)
    (device.folder / "state" / "update").write_bytes(damaged)
    assert device.wake().code == 0
    assert verdict(host, 3) == {"release": "", "failed": "its manifest is damaged"}
    ended = sender.step(program(NEW), "end")
    assert device.wake().code == 0
    assert host.answers(2)[ended]["status"] == "succeeded"
    assert verdict(host, 4) is None


def test_files_of_an_update_that_nobody_can_read_cost_no_wake(started):
    """As a program leaves them that writes into all of the agent's files."""
    device, host, sender = started
    state = device.folder / "state"
    (state / "slot").write_text("a40")
    (state / "update").write_text('{"of":["' + "ab" * 32 + '",10,1,null]}')
    (state / "why").write_bytes(b"\xff\xfe")
    pinged = sender.order("ping")
    ran = device.wake()
    assert ran.code == 0, ran.output
    assert ran.one("error")["kind"] == "update"
    assert host.answers(1)[pinged]["status"] == "succeeded"
    assert verdict(host, 2) is None
