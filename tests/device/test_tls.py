"""TLS: what the broker must prove, and that proving it keeps nobody awake.

Must stay true: brokers and servers are real (mosquitto, openssl s_server); every certificate that does not prove the
broker ends the wake before a byte of MQTT has left, and names the reason in one line.
"""

import datetime
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dormouse_host.broker.local import Mosquitto, free_port
from dormouse_host.lab.bench.proxy import Proxy
from support import peers
from support.certificates import NOW, Authority, Pair, listener, server_context
from support.device_folder import APP, Device, Host, Ran, say
from support.needs import need_mosquitto
from support.peer import Peer, honest, stays_open

BUDGET = 20


@pytest.fixture(scope="module")
def ca(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def secure(folder: Path, interpreter, ca: Authority, url: str, app: str = APP, **config: object) -> Device:
    """A device that trusts `ca`."""
    device = Device(folder / "device", interpreter, url, app, budget=BUDGET, ca="ca.der", **config)
    (device.folder / "ca.der").write_bytes(ca.der)
    return device


def failed(ran: Ran, stage: str = "tls") -> str:
    """Why the wake ended; it could not reach the broker, and slept in time."""
    assert ran.code == 1, ran.output
    assert ran.in_time(BUDGET)
    assert not ran.all("connected")
    error = ran.one("error")
    assert (error["kind"], error["stage"]) == ("LinkError", stage), ran.output
    return str(error["why"])


@contextmanager
def openssl(pair: Pair, *options: str) -> Iterator[int]:
    """The port of an `openssl s_server` that shows `pair`; it speaks no MQTT."""
    if not shutil.which("openssl"):
        pytest.fail("openssl is not installed: apt-get install openssl", pytrace=False)
    port = free_port()
    argv = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(pair.cert), "-key", str(pair.key)]
    with subprocess.Popen(
        [*argv, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as server:
        try:
            assert server.stdout
            while b"ACCEPT" not in (line := server.stdout.readline()):
                assert line, f"openssl s_server {options} did not start"
            yield port
        finally:
            server.kill()


NO_MEMORY = """
from dormouse.ports import cpython_tls

def wrap(*_, **__):
    raise %s

cpython_tls.SSLContext.wrap_socket = wrap
"""


@pytest.mark.parametrize("interpreter", ["cpython"], indirect=True)  # whose context a program can change
@pytest.mark.parametrize("error", ["MemoryError('no room')", "OSError(12, 'no room')"])
def test_heap_too_small_for_tls_is_said_so_and_costs_a_backoff(interpreter, tmp_path, ca, error):
    """On a Pico W its buffers lie in MicroPython's heap."""
    with Peer(stays_open) as peer:
        url = f"mqtts://127.0.0.1:{peer.port}"
        ran = secure(tmp_path, interpreter, ca, url, app=NO_MEMORY % error + APP).wake()
    assert "no room" in failed(ran)
    assert ran.one("asleep")["next"] > 1600, "twice the interval"


# ---- a broker that is who it says


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_command_comes_and_result_goes_over_tls(interpreter, tmp_path, ca, name):
    """With a real mosquitto, by name and by address, and with the session kept over sleep."""
    port = free_port()
    with Mosquitto(need_mosquitto(), listener(port, ca.sign(name))) as broker:
        device = secure(tmp_path, interpreter, ca, f"mqtts://{name}:{port}")
        first = device.wake()
        assert first.code == 0, first.output
        with Host(broker.address) as host:
            host.send(say("behind a lock"))
            ran = device.wake()
            assert ran.code == 0, ran.output
            assert ran.said == ["behind a lock"]
            assert ran.one("drained")["how"] == "fence"
            assert host.results(1)[0]["status"] == "succeeded"
            assert "dates" not in host.wait("up/wake")


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_flight_is_one_record(interpreter, tmp_path, ca, newest):
    """Each record costs a header, a check sum and a cipher run; umqtt.simple makes one of every field."""
    script = honest(*(say(f"text {n}") for n in range(10)))
    with (
        Peer(script, tls=server_context(ca.sign("127.0.0.1"), newest)) as peer,
        Proxy(("127.0.0.1", peer.port)) as proxy,
    ):
        ran = secure(tmp_path, interpreter, ca, f"mqtts://127.0.0.1:{proxy.port}").wake()
    assert ran.code == 0, ran.output
    assert len(ran.said) == 10
    sent = b"".join(chunk.data for chunk in proxy.conversations[-1].up)
    kinds = []
    while sent:
        kinds.append(sent[0])
        sent = sent[5 + (sent[3] << 8 | sent[4]) :]
    # 22 is the handshake, 23 application data: in TLS 1.3, where both sides know it, all but the first word of the
    # handshake and the last alert are dressed as such, too
    dressed = 0 if kinds.count(22) > 2 else 1
    assert newest == ssl.TLSVersion.TLSv1_3 or not dressed
    flights = ran.one("asleep")["flights"]
    assert flights + dressed <= kinds.count(23) <= flights + 2 * dressed, kinds


def test_broker_that_asks_for_a_certificate_gets_the_devices(interpreter, tmp_path, ca):
    """`cert` and `key` instead of a password; without them the broker closes."""
    port = free_port()
    settings = listener(port, ca.sign("localhost"), f"cafile {ca.pem}", "require_certificate true")
    with Mosquitto(need_mosquitto(), [*settings, "use_identity_as_username true"]) as broker:
        device = secure(tmp_path, interpreter, ca, f"mqtts://localhost:{port}")
        ran = device.wake()
        assert ran.code == 1, ran.output
        assert ran.one("error")["kind"] == "LinkError"
        ca.sign(common="dev").der(device.folder)
        device.configure(cert="cert.der", key="key.der")
        ran = device.wake()
        assert ran.code == 0, ran.output
        assert "as dev (p2, c0, k660, u'dev')" in broker.log.read_text()


# ---- one that is not


UNTRUSTED = {  # case: (names, days of validity, words of the reason on CPython, on MicroPython)
    "wrong name": (["other.example"], (-1, 9), "mismatch", "CN"),
    "wrong address": (["127.0.0.2"], (-1, 9), "mismatch", "CN"),
    "expired": (["localhost"], (-9, -1), "expired", "expired"),
    "not yet valid": (["localhost"], (1, 9), "not yet valid", "in the future"),
}


@pytest.mark.parametrize("case", UNTRUSTED)
def test_certificate_that_proves_nothing_is_refused_with_its_reason(interpreter, tmp_path, ca, case):
    """Before a byte of MQTT, user and password, has left."""
    names, days, cpython, micropython = UNTRUSTED[case]
    words = cpython if interpreter.kind == "cpython" else micropython
    with Peer(lambda connection: connection.listen(), tls=server_context(ca.sign(*names, days=days))) as peer:
        why = failed(secure(tmp_path, interpreter, ca, f"mqtts://localhost:{peer.port}").wake())
        assert words in why
        assert not peer.connections or not peer.last.chunks


def test_certificate_of_another_ca_or_of_none_is_refused(interpreter, tmp_path, ca):
    """Even one that has the same name; and one that signed itself."""
    (tmp_path / "other").mkdir()
    for pair in (Authority(tmp_path / "other").sign("localhost"), _self_signed(tmp_path)):
        with Peer(lambda connection: connection.listen(), tls=server_context(pair)) as peer:
            why = failed(secure(tmp_path, interpreter, ca, f"mqtts://localhost:{peer.port}").wake())
            assert any(words in why for words in ("self", "trusted", "local issuer", "signature")), why
            assert not peer.connections or not peer.last.chunks


def _self_signed(folder: Path) -> Pair:
    pair = Pair(folder / "self.pem", folder / "self.key")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"]
    argv += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*argv, "-keyout", pair.key, "-out", pair.cert], check=True, capture_output=True)
    return pair


def test_server_that_knows_only_tls_1_0_is_refused(interpreter, tmp_path, ca):
    """mosquitto can't serve it; openssl can."""
    options = ["-tls1", "-cipher", "ALL:@SECLEVEL=0"]
    with openssl(ca.sign("localhost"), *options) as port:
        failed(secure(tmp_path, interpreter, ca, f"mqtts://localhost:{port}").wake())


def test_server_without_tls_is_refused(interpreter, tmp_path, ca):
    """No silent fallback: nothing is said in clear."""
    with Peer(lambda connection: connection.listen()) as peer:
        device = secure(tmp_path, interpreter, ca, f"mqtts://localhost:{peer.port}", patience=600)
        device.secrets(user="ann", password="hunter2")
        failed(device.wake())
        assert b"hunter2" not in b"".join(peer.settled().last.chunks)


def test_web_server_in_clear_at_the_tls_port_is_told(interpreter, tmp_path, ca):
    """A captive portal, say, which answers for the broker's address."""
    with peers.serving(peers.speaks_http) as port:
        why = failed(secure(tmp_path, interpreter, ca, f"mqtts://localhost:{port}").wake())
    assert ("wrong version number" if interpreter.kind == "cpython" else "the answer is no TLS") in why


def test_server_that_speaks_tls_and_no_mqtt_ends_within_patience(interpreter, tmp_path, ca):
    """A web server, say."""
    with openssl(ca.sign("localhost")) as port:
        device = secure(tmp_path, interpreter, ca, f"mqtts://localhost:{port}", patience=3000)
        assert "silent for 3000 ms" in failed(device.wake(), "connack")


# ---- what the configuration may get wrong


@pytest.mark.parametrize(
    "config, words",
    [
        ({"broker": "mqtts://localhost:1"}, "mqtts:// and ca go together"),
        ({"broker": "mqtt://localhost:1", "ca": "ca.der"}, "mqtts:// and ca go together"),
        ({"broker": "mqtts://localhost:1", "ca": "ca.der", "cert": "cert.der"}, "cert and key go together"),
        ({"broker": "mqtts://localhost:1", "ca": "nothing.der"}, "ca: the file nothing.der is missing"),
        ({"broker": "mqtts://localhost:{port}", "ca": "config.json"}, "ca, cert or key is not in DER, or no psk here"),
    ],
)
def test_tls_that_is_configured_wrongly_is_refused_and_never_unchecked(interpreter, tmp_path, ca, config, words):
    """Exit code 2: fix it."""
    with Peer(lambda connection: connection.listen()) as peer:
        url = config["broker"].format(port=peer.port)
        device = Device(tmp_path / "device", interpreter, **{**config, "broker": url})
        (device.folder / "ca.der").write_bytes(ca.der)
        ran = device.wake()
    assert ran.code == 2, ran.output
    assert words in ran.one("error")["why"]


# ---- a device that does not know the time

CLOCKLESS = """
from dormouse import command
from dormouse.ports.posix import Port

Port.time = lambda self: None

def pretend(self, when):
    print("pretend", *when)
    return True

Port.pretend = pretend
"""


def _pretended(ran: Ran) -> list[str]:
    found = []
    for line in ran.output.splitlines():
        if line.startswith("pretend "):
            year, month, day, _, hour, minute, second, _ = map(int, line.split()[1:])
            found.append(f"{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    return found


def _day(days: float) -> str:
    return f"{NOW + datetime.timedelta(days=days):%Y-%m-%d %H:%M:%S}"


def test_without_a_clock_dates_are_compared_with_the_cas_first_day_and_the_report_says_so(interpreter, tmp_path, ca):
    """All else is checked; one handshake is enough where the broker's certificate is as old as its CA."""
    with Peer(honest(), tls=server_context(ca.sign("localhost", days=(-30, 9)))) as peer:
        ran = secure(tmp_path, interpreter, ca, f"mqtts://localhost:{peer.port}", app=CLOCKLESS).wake(then="pass")
        assert ran.code == 0, ran.output
        assert peer.settled().last.told("/up/wake")[0]["dates"] is False
    assert _pretended(ran) == [_day(-30)]


def test_without_a_clock_a_younger_certificate_costs_a_second_handshake_and_never_a_third(interpreter, tmp_path, ca):
    """Its first day is known from the handshake that failed. Here the clock can't really be set, so both fail."""
    with Peer(honest(), tls=server_context(ca.sign("localhost", days=(2, 9)))) as peer:
        ran = secure(tmp_path, interpreter, ca, f"mqtts://localhost:{peer.port}", app=CLOCKLESS).wake(then="pass")
        failed(ran)
    assert len(ran.all("connecting")) == 2
    if interpreter.kind == "micropython":  # whose TLS shows the certificates
        assert _pretended(ran) == [_day(-30), _day(2)]


def test_without_a_clock_the_name_and_the_ca_are_checked_all_the_same(interpreter, tmp_path, ca):
    """The dates alone are let off."""
    with Peer(honest(), tls=server_context(ca.sign("other.example", days=(-30, 9)))) as peer:
        failed(secure(tmp_path, interpreter, ca, f"mqtts://localhost:{peer.port}", app=CLOCKLESS).wake(then="pass"))
        assert not peer.connections or not peer.last.chunks


@pytest.mark.parametrize("late", [False, True])
def test_time_first_says_nothing_to_a_broker_before_the_time_is_known(interpreter, tmp_path, ca, late):
    """`clock`: `first`. What comes too late, or never, is a wake that failed, in time; the next one asks again."""
    app = f"""
import time
from dormouse import command
from dormouse.ports.posix import Port

Port.time = lambda self: int(time.time()) if self.ms() > {60_000 if late else 900} else None
"""
    with Peer(honest(), tls=server_context(ca.sign("localhost", days=(-30, 9)))) as peer:
        device = secure(tmp_path, interpreter, ca, f"mqtts://localhost:{peer.port}", app=app, clock="first")
        device.configure(patience=1500 if late else 5000)
        ran = device.wake(then="pass")
        if late:
            assert failed(ran, "clock") == "no time server has answered"
            assert not peer.connections
            assert 1500 <= ran.one("asleep")["ms"] < 1000 * BUDGET
        else:
            assert ran.code == 0, ran.output
            assert "dates" not in peer.settled().last.told("/up/wake")[0]
            assert ran.one("asleep")["ms"] >= 900


def test_time_first_costs_nothing_where_the_time_is_known(interpreter, tmp_path, ca):
    """That is nearly every wake: the question goes out once a day."""
    with Peer(honest(), tls=server_context(ca.sign("localhost", days=(-30, 9)))) as peer:
        ran = secure(tmp_path, interpreter, ca, f"mqtts://localhost:{peer.port}", clock="first").wake()
    assert ran.code == 0, ran.output
