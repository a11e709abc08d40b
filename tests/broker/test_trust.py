"""TLS that people have: a CA from a file, a bundle, this machine's store or the broker itself, on the way to a wake.

Must stay true: the chains are made here like those of public CAs, and no broker is trusted that they do not certify.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from dormouse_host import trust
from dormouse_host.address import parse
from dormouse_host.broker.client import Publisher
from dormouse_host.broker.local import Mosquitto, free_port
from dormouse_host.broker_check import rights
from dormouse_host.broker_check.findings import Case
from dormouse_host.errors import HostError
from dormouse_host.flash import before, kinds, project
from support.certificates import KEYS, Authority, Pair, listener
from support.device_folder import Device
from support.needs import need_mosquitto

pytestmark = pytest.mark.timeout(120)
PICO = kinds.load("RPI_PICO_W")


@pytest.fixture(scope="module")
def chains(tmp_path_factory) -> dict[str, tuple[Authority, Authority]]:
    """Root and intermediate, as the big public CAs have them."""
    found = {}
    for name, root, middle in (
        ("rsa", "RSA-4096", "RSA-2048"),
        ("ecdsa", "P-384", "P-256"),
        ("mixed", "RSA-4096", "P-256"),
    ):
        folder = tmp_path_factory.mktemp(name)
        top = Authority(folder, f"{name} root", key=root)
        found[name] = top, Authority(folder, f"{name} R3", key=middle, issuer=top)
    return found


@contextmanager
def mosquitto(pair: Pair, *further: str) -> Iterator[str]:
    """The URL of a mosquitto that shows `pair`."""
    port = free_port()
    with Mosquitto(need_mosquitto(), listener(port, pair, *further)):
        yield f"mqtts://localhost:{port}"


def flashed(folder: Path, url: str, **config: str) -> project.DeviceFiles:
    """What a flash puts on the board, with the broker asked first."""
    lines = [f'broker = "{url}"', "[wifi]", 'ssid = "s"', "[device]", *(f'{k} = "{v}"' for k, v in config.items())]
    (folder / "dormouse.toml").write_text("\n".join(lines))
    files = project.device_files(project.read(folder), PICO, "dev", {}, {})
    return before.anchored(files, lambda line: None)


def wake(folder: Path, interpreter, files: project.DeviceFiles, url: str) -> Device:
    """A device with exactly those files; its first wake is over."""
    tls = {key: files.config[key] for key in ("ca", "cert", "key") if key in files.config}
    device = Device(folder / "device", interpreter, url, **tls)
    for name, data in files.keys.items():
        (device.folder / name).write_bytes(data)
    ran = device.wake()
    assert ran.code == 0, ran.output
    return device


@pytest.mark.parametrize("chain", ["rsa", "ecdsa", "mixed"])
def test_device_connects_over_the_chain_of_a_public_ca_with_the_one_root_of_a_bundle(
    interpreter, tmp_path, chains, chain
):
    """The board gets one certificate of the bundle, in DER: the root of the broker's own chain."""
    root, middle = chains[chain]
    bundle = b"".join(top.pem.read_bytes() for top, _ in chains.values())
    (tmp_path / "bundle.pem").write_bytes(b"# roots\n" + bundle)
    with mosquitto(middle.sign("localhost", kind="RSA-2048" if chain == "rsa" else "P-256")) as url:
        files = flashed(tmp_path, url, ca="bundle.pem")
        assert files.keys == {"ca.der": root.der}
        before.broker(files, pytest.fail)
        wake(tmp_path, interpreter, files, url)


@pytest.mark.parametrize("form", ["pem", "der", "intermediate", "chain"])
def test_ca_is_taken_in_any_form_and_converted(interpreter, tmp_path, chains, form):
    """`ca = "r4.pem"` beside dormouse.toml; an intermediate CA alone is enough for both interpreters."""
    root, middle = chains["mixed"]
    data = {
        "pem": root.pem.read_bytes(),
        "der": root.der,
        "intermediate": middle.pem.read_bytes(),
        "chain": middle.pem.read_bytes() + root.pem.read_bytes(),
    }
    (tmp_path / "r4.pem").write_bytes(data[form])
    with mosquitto(middle.sign("localhost")) as url:
        files = flashed(tmp_path, url, ca="r4.pem")
        wake(tmp_path, interpreter, files, url)


def test_ca_of_this_machines_store_is_found(interpreter, tmp_path, chains, monkeypatch):
    """Also where that is a folder; all its CAs are candidates, one goes onto the board."""
    root, middle = chains["rsa"]
    store = tmp_path / "store.pem"
    store.write_bytes(b"".join(top.pem.read_bytes() for top, _ in chains.values()))
    monkeypatch.setenv("SSL_CERT_FILE", str(store))
    with mosquitto(middle.sign("localhost")) as url:
        files = flashed(tmp_path, url, ca="system")
        assert files.keys == {"ca.der": root.der}
        wake(tmp_path, interpreter, files, url)


def test_wildcard_name_is_a_name(interpreter, tmp_path, chains):
    """As every rented broker has it."""
    root, middle = chains["ecdsa"]
    (tmp_path / "ca.pem").write_bytes(root.pem.read_bytes())
    host = "fleet.broker.localhost"
    with mosquitto(middle.sign("*.broker.localhost")) as url:
        port = int(url.rpartition(":")[2])
        shown = trust.ask(host, port, ("127.0.0.1", port))
        assert trust.verified(host, port, root.certificate, ("127.0.0.1", port)) == ""
        assert trust.anchor(shown, [root.certificate]) == root.certificate
        refused = trust.verified("other.localhost", port, root.certificate, ("127.0.0.1", port))
        assert "mismatch" in refused.lower()
        device = Device(tmp_path / "device", interpreter, f"mqtts://{host}:{port}", ca="ca.der")
        (device.folder / "ca.der").write_bytes(root.der)
        device.configure(patience=3000, budget=8)
        ran = device.wake()
    resolved = ran.code == 0 or ran.one("error")["stage"] == "dns"  # whether *.localhost resolves is the machine's
    assert resolved, ran.output


def test_client_certificate_in_pem_becomes_what_a_board_reads(interpreter, tmp_path, chains):
    """Certificate with its chain, key in PKCS 8: as a rented broker hands them out."""
    root, middle = chains["mixed"]
    pair = middle.sign(common="dev", kind="RSA-2048")
    for name, path in (("ca.pem", root.pem), ("dev.crt", pair.cert), ("dev.key", pair.key)):
        (tmp_path / name).write_bytes(path.read_bytes())
    (tmp_path / "clients.pem").write_bytes(root.pem.read_bytes() + middle.pem.read_bytes())
    asks = (f"cafile {tmp_path / 'clients.pem'}", "require_certificate true", "use_identity_as_username true")
    with mosquitto(middle.sign("localhost"), *asks) as url:
        files = flashed(tmp_path, url, ca="ca.pem", cert="dev.crt", key="dev.key")
        assert sorted(files.keys) == ["ca.der", "cert.der", "key.der"]
        before.broker(files, pytest.fail)
        wake(tmp_path, interpreter, files, url)


# ---- what cannot work is found before the first byte


@pytest.mark.parametrize(
    "kind, words",
    [("Ed25519", "TLS 1.3 only"), ("brainpool", "speaks no TLS that a board speaks")],
)
def test_certificate_that_no_board_reads_is_refused_before_flashing(tmp_path, chains, kind, words):
    """MicroPython's TLS has neither; the check says so too."""
    root, middle = chains["mixed"]
    (tmp_path / "ca.pem").write_bytes(root.pem.read_bytes())
    extra = ["tls_version tlsv1.3"] if kind == "Ed25519" else []
    with mosquitto(middle.sign("localhost", kind=kind), *extra) as url:
        with pytest.raises(HostError) as caught:
            flashed(tmp_path, url, ca="ca.pem")
        assert caught.value.code == 2
        address = parse(url, {"DORMOUSE_CA": str(root.pem)})
        row = rights._boards(address)
    assert row.grade == "broken"
    assert words in str(caught.value)


def test_what_in_a_chain_micropython_cannot_read_is_named(chains):
    """Keys by kind and curve, signatures by their algorithm; a root's own signature is not looked at."""
    root, middle = chains["mixed"]
    assert trust.unreadable([middle.certificate, root.certificate]) == ""
    names = {kind: trust.unfit(make().public_key()) for kind, make in KEYS.items() if kind != "RSA-4096"}
    assert names == {
        "P-256": "",
        "P-384": "",
        "RSA-2048": "",
        "Ed25519": "a key of Ed25519",
        "brainpool": "a key on brainpoolP256r1",
    }


def test_broker_that_speaks_tls_1_3_only_is_refused_before_flashing(tmp_path, chains):
    root, middle = chains["mixed"]
    (tmp_path / "ca.pem").write_bytes(root.pem.read_bytes())
    with (
        mosquitto(middle.sign("localhost"), "tls_version tlsv1.3") as url,
        pytest.raises(HostError, match="TLS 1.3 only") as caught,
    ):
        flashed(tmp_path, url, ca="ca.pem")
    assert caught.value.code == 2


def test_broker_of_no_ca_in_the_bundle_is_refused_and_named(tmp_path, chains):
    """And one CA that is the wrong one, too."""
    (tmp_path / "others.pem").write_bytes(b"".join(chains[name][0].pem.read_bytes() for name in ("rsa", "ecdsa")))
    (tmp_path / "one.pem").write_bytes(chains["rsa"][0].pem.read_bytes())
    with mosquitto(chains["mixed"][1].sign("localhost")) as url:
        with pytest.raises(HostError, match="of none of these 2 CAs") as caught:
            flashed(tmp_path, url, ca="others.pem")
        assert caught.value.code == 2
        with pytest.raises(HostError, match="is refused by one.pem: "):
            before.broker(flashed(tmp_path, url, ca="one.pem"), pytest.fail)


@pytest.mark.parametrize(
    "files, config, words",
    [
        ({}, {"ca": "r4.pem"}, "ca: r4.pem: No such file"),
        ({"r4.pem": b"hello"}, {"ca": "r4.pem"}, "ca: r4.pem: no certificate in PEM or DER"),
        ({"r4.pem": "key"}, {"ca": "r4.pem"}, "ca: r4.pem: a private key, not a certificate"),
        (
            {"r4.pem": "ca", "c": "cert", "k": "locked"},
            {"ca": "r4.pem", "cert": "c", "key": "k"},
            "key: k: the key has a",
        ),
        ({"r4.pem": "ca", "c": "cert", "k": "ed"}, {"ca": "r4.pem", "cert": "c", "key": "k"}, "has no such key"),
        ({"r4.pem": "ca", "c": "cert", "k": "key"}, {"ca": "r4.pem", "cert": "c", "key": "k"}, "do not match"),
    ],
)
def test_file_that_is_not_what_it_should_be_is_named_and_no_secret_told(tmp_path, chains, files, config, words):
    root, middle = chains["mixed"]
    own = {"ca": root.pem.read_bytes(), "cert": middle.sign(common="dev").cert.read_bytes()}
    for name, how in (("key", serialization.NoEncryption()), ("locked", serialization.BestAvailableEncryption(b"x"))):
        own[name] = KEYS["P-256"]().private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    own["ed"] = KEYS["Ed25519"]().private_bytes(*plain)
    for name, data in files.items():
        (tmp_path / name).write_bytes(own.get(data, data))
    with pytest.raises(HostError) as caught:
        flashed(tmp_path, "mqtts://localhost:1", **config)
    assert words in str(caught.value)
    assert caught.value.code == 2


def test_bundle_without_the_broker_says_what_to_do(tmp_path, chains):
    """One CA needs no broker; of several nobody knows which."""
    (tmp_path / "ca.pem").write_bytes(b"".join(top.pem.read_bytes() for top, _ in chains.values()))
    with pytest.raises(HostError, match="of 3 CAs a device takes one") as caught:
        flashed(tmp_path, f"mqtts://localhost:{free_port()}", ca="ca.pem")
    assert caught.value.code == 1


# ---- dormouse broker trust


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "dormouse_host.cli", "broker", "trust", *words]
    return subprocess.run(
        argv,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def test_unknown_ca_is_shown_and_taken_only_when_somebody_says_so(interpreter, tmp_path, chains):
    """Nothing is trusted because a broker shows it; what was confirmed is what a flash then takes."""
    _, middle = chains["rsa"]
    (tmp_path / "dormouse.toml").write_text('broker = "mqtt://old"\n[wifi]\nssid = "s"\n')
    pair = middle.sign("localhost")
    with mosquitto(pair) as url:
        refused = run(tmp_path, url)
        assert refused.returncode == 1
        assert trust.fingerprint(middle.certificate) in refused.stderr
        assert not (tmp_path / "broker-ca.pem").exists()
        done = run(tmp_path, url, "--yes")
        assert done.returncode == 0, done.stderr
        assert trust.fingerprint(middle.certificate) in done.stdout
        files = before.anchored(project.device_files(project.read(tmp_path), PICO, "dev", {}, {}), pytest.fail)
        assert (files.full["ca"], files.keys) == ("ca.der", {"ca.der": middle.der})
        wake(tmp_path, interpreter, files, url)
        with Publisher(parse(url, {"DORMOUSE_CA": str(tmp_path / "broker-ca.pem")})) as host:  # as the relay does
            assert host.publish("a", [b"b"], 1) == 1


def test_host_shows_its_own_certificate_where_the_broker_asks_for_one(tmp_path, chains):
    """AWS IoT Core and Azure Event Grid let nobody in without; and a CA in DER will do."""
    root, middle = chains["mixed"]
    (tmp_path / "clients.pem").write_bytes(root.pem.read_bytes() + middle.pem.read_bytes())
    (tmp_path / "ca.der").write_bytes(root.der)
    own = middle.sign(common="relay")
    asks = (f"cafile {tmp_path / 'clients.pem'}", "require_certificate true")
    environment = {"DORMOUSE_CA": str(tmp_path / "ca.der")}
    with mosquitto(middle.sign("localhost"), *asks) as url:
        with pytest.raises(HostError), Publisher(parse(url, environment)):
            pass
        environment |= {"DORMOUSE_CERT": str(own.cert), "DORMOUSE_KEY": str(own.key)}
        with Publisher(parse(url, environment)) as host:
            assert host.publish("a", [b"b"], 1) == 1
        environment["DORMOUSE_KEY"] = str(middle.sign(common="other").key)
        wrong = parse(url, environment)
        with pytest.raises(HostError, match="no pair of certificate and key") as caught, Publisher(wrong):
            pass
    assert caught.value.code == 2


def test_ca_that_this_machine_trusts_is_taken_without_a_question(tmp_path, chains):
    root, middle = chains["ecdsa"]
    store = tmp_path / "store.pem"
    store.write_bytes(root.pem.read_bytes())
    with mosquitto(middle.sign("localhost")) as url:
        done = run(tmp_path, url, SSL_CERT_FILE=str(store))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "broker-ca.pem").read_bytes() == root.pem.read_bytes()
        assert "DORMOUSE_CA" not in done.stderr
        other = run(tmp_path, url.replace("localhost", "127.0.0.1"), SSL_CERT_FILE=str(store))
    assert other.returncode == 2
    assert "mismatch" in other.stderr.lower()


def test_trust_of_what_is_no_tls_broker_is_one_line(tmp_path):
    with Mosquitto(need_mosquitto()) as broker:
        done = run(tmp_path, broker.address.url.replace("mqtt:", "mqtts:"))
        assert (done.returncode, done.stdout) == (1, "")
        assert "speaks no TLS that a board speaks" in done.stderr
        plain = run(tmp_path, broker.address.url)
    assert plain.returncode == 2
    none = run(tmp_path, f"mqtts://127.0.0.1:{free_port()}")
    assert none.returncode == 1
    assert len(none.stderr.splitlines()) == 1


def test_certificate_check_is_that_of_the_whole_check(tmp_path, chains):
    root, middle = chains["mixed"]
    with mosquitto(middle.sign("localhost", days=(-1, 90))) as url:
        case = Case(parse(url, {"DORMOUSE_CA": str(root.pem)}))
        rows = {row.key: row for row in rights.encryption(case)}
    assert rows["tls-board"].grade == rows["tls"].grade == "ok"
