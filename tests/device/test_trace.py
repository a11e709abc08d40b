"""umqtt.simple, unmodified, is what connects, subscribes and disconnects; the rest of it is left alone.

Must stay true: the trace is taken from outside: the file is the cached one, byte by byte, and only its finished class
is wrapped to print a line at each call.
"""

import hashlib

from dormouse_host.agent import toolchain
from support.device_folder import Device
from support.peer import Peer, honest

# Of umqtt/simple.py in micropython-umqtt.simple 1.3.4, whose archive toolchain.py checks.
SIMPLE_SHA256 = "8555d2f654deb8eb0d724f79b0811a78cc94029d070f3d96bbd74288653d63a5"
METHODS = ("connect", "subscribe", "disconnect", "publish", "wait_msg", "check_msg", "ping", "set_last_will")
WRAPPER = """
with open({source!r}) as file:
    exec(file.read())

def _traced(name, plain):
    def run(self, *args, **named):
        print("umqtt.simple", name)
        return plain(self, *args, **named)
    return run

for _name in {methods!r}:
    setattr(MQTTClient, _name, _traced(_name, getattr(MQTTClient, _name)))
"""


def test_umqtt_simple_connects_subscribes_and_disconnects_in_each_wake(interpreter, tmp_path, mosquitto, monkeypatch):
    """It is the client of record: what we add stands beside it. Its receiving half, which hangs, reads one SUBACK
    from a recorder and nothing from the network.
    """
    source = toolchain.umqtt_folder() / "umqtt" / "simple.py"
    before = source.read_bytes()
    (tmp_path / "lib" / "umqtt").mkdir(parents=True)
    wrapper = WRAPPER.format(source=str(source), methods=METHODS)
    (tmp_path / "lib" / "umqtt" / "simple.py").write_text(wrapper)
    monkeypatch.setenv("UMQTT", str(tmp_path / "lib"))
    device = Device(tmp_path / "device", interpreter, mosquitto.address.url)
    for _ in range(2):
        ran = device.wake()
        assert ran.code == 0, ran.output
        calls = [line.split()[1] for line in ran.output.splitlines() if line.startswith("umqtt.simple ")]
        assert calls == ["connect", "subscribe", "wait_msg", "disconnect"]
    assert source.read_bytes() == before


def test_cached_umqtt_simple_is_the_published_one(monkeypatch):
    """Unmodified is a claim that a checksum proves."""
    monkeypatch.delenv("UMQTT", raising=False)
    source = (toolchain.umqtt_folder() / "umqtt" / "simple.py").read_bytes()
    assert hashlib.sha256(source).hexdigest() == SIMPLE_SHA256


SAMPLING = """
from dormouse import telemetry

@telemetry()
def level(wake):
    return {"level": 3}
"""
LOADED = "print('loaded', *[m for m in ('dormouse.connection', 'umqtt.simple') if m in sys.modules])"


def test_wake_that_only_samples_loads_neither_link_nor_session_and_opens_no_socket(interpreter, tmp_path):
    """The radio and its code cost most of a wake: a sample pays for neither."""
    with Peer(honest()) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url, SAMPLING, sample_every=60)
        first, *sampled = [device.wake(cause, then=LOADED) for cause in ("power", "timer", "timer")]
        assert len(peer.connections) == 1
    assert first.code == 0
    assert "loaded dormouse.connection umqtt.simple" in first.output
    for ran in sampled:
        assert ran.code == 0
        assert ran.output.splitlines()[-1] == "loaded"
        assert not ran.all("connecting")
