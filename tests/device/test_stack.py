"""No wake takes more of a Pico W's C stack than is left beside interrupts, and a handler has its share of it.

Must stay true: every way through a wake that nests deeply is here; what is reckoned is checked on the real firmware by
`make pico`, which has the same limits.
"""

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest

from dormouse_host.agent import mpy, process, toolchain
from dormouse_host.release import chunks
from support import stack
from support.certificates import Authority, server_context
from support.device_folder import Device, DeviceInterpreter, Host, command
from support.peer import Peer, honest
from support.updating import Sender, install, marked, program

APP = """
from dormouse import command, telemetry

@command("fill", repeatable=True, n=int)
def fill(wake, n):
    return {"text": "x" * n}

@command("raises")
def raises(wake):
    raise ValueError("on purpose")

@command("holds")
def holds(wake):
    wake.hold(0.01)

@telemetry()
def level(wake):
    return {"level": 3, "battery": wake.battery()}
"""
BUILT_IN = ("describe", "report", "log")
SECONDS = 60


def fill(first: int, count: int):
    """So many commands in a row, each a function of the state's name."""
    return [lambda state, n=n: command(state, n, "fill", n=200) for n in range(first, first + count)]


def measured(device: Device, wakes: int = 1) -> dict:
    """What each of these wakes took, the worst of them; every wake but the last may fail."""
    path = [toolchain.agent_folder(), Path(__file__).parents[1]]
    worst: dict = {}
    for _ in range(wakes):
        argv, environment = process.interpreter("cpython", ["-m", "support.stack", str(device.folder)], path)
        ran = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True, timeout=SECONDS)
        assert ran.returncode == 0, ran.stderr
        told = json.loads(ran.stdout)
        for what in ("deepest", "handler"):
            worst[what] = max(worst.get(what, [0]), told[what])
        worst["failure"] = told["failure"]
    return worst


def within(worst: dict) -> None:
    """The two limits, with the way to the deepest point where they do not hold."""
    for what, limit in (("deepest", stack.LIMIT), ("handler", stack.HANDLER)):
        took, frames = worst[what]
        assert took <= limit, f"{what}: {took} bytes of stack, {limit} allowed:\n  " + "\n  ".join(frames)


@pytest.fixture
def device(tmp_path):
    """A device for a broker at this address."""

    def _device(url: str, app: str = APP, **config: object) -> Device:
        return Device(tmp_path / "device", DeviceInterpreter("cpython"), url, app, **config)

    return _device


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param([], id="nothing"),
        pytest.param([*fill(1, 3), lambda s: command(s, 4, "raises"), lambda s: command(s, 5, "holds")], id="handlers"),
        pytest.param([lambda s, n=n: command(s, n, BUILT_IN[n - 1]) for n in (1, 2, 3)], id="built in"),
        pytest.param([lambda s: command(s, 1, "set_interval", connect_every=60, sample_every=0)], id="setting"),
        pytest.param([lambda s: command(s, 1, "config", set={"linger": 0})], id="on trial"),
        pytest.param([lambda s: command(s, 1, "set_password", password="new")], id="password"),
        pytest.param([lambda s: command(s, 1, "resend", **{"from": 1, "to": 9})], id="resend"),
        pytest.param([b"no JSON", b"[" * 900, b"x" * 9000, b'{"do":"fill","args":{"n":"x"}}'], id="bad payloads"),
    ],
)
def test_wake_leaves_stack(device, commands):
    """One command of each kind; the wake after it acts on what it left."""
    with Peer(honest(*commands), honest()) as peer:
        worst = measured(device(peer.url), wakes=3)
        assert worst["failure"] is None
    within(worst)


@pytest.mark.parametrize("port", ["esp32", "rp2"])
def test_no_frame_but_those_that_are_reckoned_lies_under_a_wake(port):
    """boot.py calls `dormouse.start`: that is Agent.run itself, and no function that calls it."""
    tree = ast.parse(mpy.bundled(port)["dormouse"])
    (start,) = [s for s in tree.body if isinstance(s, ast.Assign) and ast.unparse(s.targets[0]) == "start"]
    assert isinstance(start.value, ast.Attribute)
    assert isinstance(start.value.value, ast.Call)
    (made,) = [s for s in tree.body if isinstance(s, ast.ClassDef) and s.name == ast.unparse(start.value.value.func)]
    assert start.value.attr in [s.name for s in made.body if isinstance(s, ast.FunctionDef)]


def test_full_inbox_and_compactions_leave_stack(device):
    """Two hundred commands, a full inbox in each wake, until journal and ring of records have been compacted."""
    with Peer(*[honest(*fill(60 * n + 1, 60)) for n in range(8)]) as peer:
        worst = measured(device(peer.url, inbox=16), wakes=8)
        assert worst["failure"] is None
    within(worst)
    assert worst["handler"][0]


@pytest.mark.parametrize("own", [False, True], ids=["password", "certificate"])
def test_tls_leaves_stack(device, tmp_path, own):
    """TLS's handshake takes most of it, with a client's certificate too."""
    ca = Authority(tmp_path)
    with Peer(honest(*fill(1, 3)), tls=server_context(ca.sign("localhost"))) as peer:
        files = {"cert": "cert.der", "key": "key.der"} if own else {}
        dev = device(f"mqtts://localhost:{peer.port}", ca="ca.der", **files)
        (dev.folder / "ca.der").write_bytes(ca.der)
        if own:
            ca.sign("dev", common="dev").der(dev.folder)
        worst = measured(dev, wakes=2)
        assert worst["failure"] is None
    within(worst)


@pytest.mark.parametrize(
    ("app", "config", "why"),
    [
        pytest.param(APP, {"broker": "mqtt://127.0.0.1:1"}, "refused", id="nobody listens"),
        pytest.param(APP, {"broker": "mqtt://nosuch.invalid"}, "no address", id="no such name"),
        pytest.param(APP, {"inbox": "many"}, "inbox", id="wrong setting"),
        pytest.param("import nothing_of_that_name", {}, None, id="broken program"),
    ],
)
def test_failing_wake_leaves_stack(device, app, config, why):
    with Peer(honest()) as peer:
        dev = device(peer.url, app)
        dev.configure(**config)
        worst = measured(dev)
        assert (worst["failure"] or "").find(why or "") >= 0
        assert bool(worst["failure"]) == bool(why)
    within(worst)


@pytest.fixture
def updated(device, mosquitto):
    """A device in slots that has woken once, and who sends it updates."""
    dev = device(mosquitto.address.url)
    (dev.folder / "app.py").unlink()
    install(dev.folder, program(APP, lib__data=b"1,2\n" * 400))
    with Host(mosquitto.address) as host:
        within(measured(dev))
        yield dev, Sender(host, host.wait("up/wake")["state"]), host


def test_a_damaged_update_leaves_stack(updated):
    """A manifest that came damaged, then a file that is not as the manifest has it: each empties the slot again."""
    dev, sender, host = updated
    wanted = program(APP + "\n# new\n" * 400, lib__more=b"3")
    for damaged in ("manifest", "file"):
        sender.step(wanted, "begin")
        within(measured(dev))
        if damaged == "manifest":
            first, *_ = chunks(wanted.id, wanted.contents(), [0], (0, 0), 1024, 10000)[0]
            host.send(first[:-1] + b"!", leaf="down/file")
        else:
            sender.chunks(wanted)
            within(measured(dev))
            (dev.folder / "b/lib/more").write_bytes(b"4")
            sender.step(wanted, "commit")
        within(measured(dev))
        assert marked(dev) == "a40"
        assert list((dev.folder / "b").iterdir()) == []


def test_an_update_leaves_stack(updated):
    """Begin, chunks with files that are copied, commit, the trial that keeps it, and one that is left."""
    dev, sender, _ = updated
    data = (dev.folder / "a/lib/data").read_bytes()
    wanted = program(APP + "\n# new\n" * 900, lib__data=data)
    for release, mark in ((wanted, "b00"), (program("import nothing_of_that_name"), "b40")):
        sender.step(release, "begin")
        within(measured(dev))
        sender.chunks(release)
        sender.step(release, "commit")
        within(measured(dev))
        assert marked(dev)[1] == "2"
        within(measured(dev, wakes=2))
        if mark[1] == "0":
            sender.step(release, "end")
            within(measured(dev))
        assert marked(dev) == mark
