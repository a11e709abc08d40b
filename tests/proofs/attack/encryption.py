"""Somebody between a device, or the relay, and the broker: wrong certificates, old TLS, no TLS.

Must stay true: what the false broker got to read decides: one word of MQTT is one too many.
"""

import contextlib
import ipaddress
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dormouse_host.address import BrokerAddress
from dormouse_host.broker.authority import Authority, Signed
from dormouse_host.broker.client import Publisher
from dormouse_host.broker.local import free_port
from dormouse_host.errors import HostError
from proofs.attack import Outcome, attack
from proofs.attack.testbed import Testbed
from support.waiting import until

_ADDRESS = "127.0.0.1"
_GROUP = "between device and broker"


@contextlib.contextmanager
def _server(signed: Signed, *options: str) -> Iterator[tuple[int, Path]]:
    """`openssl s_server` with that certificate: its port, and the file in which what it decrypted ends up."""
    with tempfile.TemporaryDirectory(prefix="dormouse-attack-") as name:
        folder, port = Path(name), free_port()
        (folder / "key.pem").write_bytes(signed.key_pem)
        (folder / "crt.pem").write_bytes(signed.pem)
        files = ["-key", str(folder / "key.pem"), "-cert", str(folder / "crt.pem")]
        argv = ["openssl", "s_server", "-accept", f"{_ADDRESS}:{port}", *files, *options]
        with (folder / "out").open("wb") as out:  # it ends when its stdin does
            child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=out, stderr=out)
        try:
            until(lambda: child.poll() is not None or "ACCEPT" in (folder / "out").read_text(errors="replace"))
            assert child.poll() is None, (folder / "out").read_text(errors="replace")
            yield port, folder / "out"
        finally:
            child.kill()
            child.communicate()


def _both(testbed: Testbed, signed: Signed, *options: str) -> Outcome:
    """A device and the relay's side meet this server."""
    with _server(signed, *options) as (port, out):
        device = testbed.device()
        device.configure(broker=f"mqtts://{_ADDRESS}:{port}", budget=5)
        woken = testbed.wake(device)
        why = woken.one("error").get("why", "?") if woken.all("error") else "no error"
        host = _host(BrokerAddress(_ADDRESS, port, "relay", "secret", True, str(testbed.made.ca)))
        time.sleep(0.1)
        heard = b"MQTT" in out.read_bytes()
    return Outcome(heard or woken.code == 0 or host is None, f"device: {why}; relay: {host}")


def _host(address: BrokerAddress) -> str | None:
    try:
        with Publisher(address):
            return None
    except HostError as error:
        return str(error).partition(": ")[2]


def right_certificate(testbed: Testbed) -> Outcome:
    """No attack: shows that a server that is believed gets to read MQTT."""
    return _both(testbed, testbed.made.authority.server([_ADDRESS]))


@attack(_GROUP, "certificate of another CA, with the right name")
def try_wrong_ca(testbed: Testbed) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return _both(testbed, Authority.create(Path(folder) / "evil").server([_ADDRESS]))


@attack(_GROUP, "self-signed certificate")
def try_self_signed(testbed: Testbed) -> Outcome:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _ADDRESS)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(_ADDRESS))])
    builder = builder.add_extension(names, critical=False)
    return _both(testbed, Signed(key, builder.sign(key, hashes.SHA256())))


@attack(_GROUP, "expired certificate of the right CA")
def try_expired(testbed: Testbed) -> Outcome:
    return _both(testbed, testbed.made.authority.server([_ADDRESS], days=-0.5))


@attack(_GROUP, "right CA, certificate for another name")
def try_wrong_name(testbed: Testbed) -> Outcome:
    return _both(testbed, testbed.made.authority.server(["elsewhere.example"]))


@attack(_GROUP, "right CA, the address written as a host name")
def try_name_as_address(testbed: Testbed) -> Outcome:
    return _both(testbed, testbed.made.authority.server(["localhost", "127.0.0.1.example"]))


@attack(_GROUP, "a device's own certificate used as a broker's")
def try_client_as_server(testbed: Testbed) -> Outcome:
    return _both(testbed, testbed.made.authority.client(_ADDRESS))


@attack(_GROUP, "TLS 1.0, with the right certificate")
def try_tls_1_0(testbed: Testbed) -> Outcome:
    signed = testbed.made.authority.server([_ADDRESS])
    return _both(testbed, signed, "-tls1", "-cipher", "ALL:@SECLEVEL=0")


@attack(_GROUP, "a server in clear where TLS is expected")
def try_downgrade_to_plain(testbed: Testbed) -> Outcome:
    heard = bytearray()
    with socket.create_server((_ADDRESS, 0)) as listener:
        listener.settimeout(0.5)
        device = testbed.device()
        device.configure(broker=f"mqtts://{_ADDRESS}:{listener.getsockname()[1]}", budget=3, patience=500)
        with device.start() as process:
            deadline = time.monotonic() + 30
            while process.child.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    peer, _ = listener.accept()
                    with peer:
                        peer.settimeout(1)
                        peer.sendall(b"\x20\x02\x00\x00")
                        heard += peer.recv(4096)
            woken = process.end()
    password = testbed.secrets_of(device)["password"].encode()
    leaked = b"MQTT" in heard or password in heard
    return Outcome(leaked or woken.code == 0, f"device: {woken.all('error')[-1].get('why')}; no MQTT in clear")


@attack(_GROUP, "TLS without a CA, or a CA without TLS, in config.json")
def try_no_ca(testbed: Testbed) -> Outcome:
    first, second = testbed.device(ca=""), testbed.device()
    second.configure(broker=f"mqtt://{_ADDRESS}:{testbed.made.ports[0]}")
    woken = [testbed.wake(device) for device in (first, second)]
    tried = any(ran.all("connecting") for ran in woken)
    codes = [ran.code for ran in woken]
    return Outcome(tried or codes != [2, 2], "refused before anything is connected to")


@attack(_GROUP, "a client in clear at the broker's TLS port")
def try_plain_client(testbed: Testbed) -> Outcome:
    said = [testbed.refused(BrokerAddress(_ADDRESS, port)) for port in testbed.made.ports]
    return Outcome(None in said, str(said[0]))


@attack(_GROUP, "no certificate where the broker wants one; a stranger's; a revoked one")
def try_no_client_certificate(testbed: Testbed) -> Outcome:
    from dormouse_host.broker import credentials

    let_in = []
    for how in ("none", "stranger's", "revoked", "right"):
        device = testbed.device(cert=True)
        if how == "none":
            device.configure(cert="", key="")
        elif how == "stranger's":
            with tempfile.TemporaryDirectory() as folder:
                signed = Authority.create(Path(folder) / "evil").client(device.config["id"])
            (device.folder / "cert.der").write_bytes(signed.der)
            (device.folder / "key.der").write_bytes(signed.key_der)
        elif how == "revoked":
            credentials.revoke(testbed.made, device.config["id"])
        device.configure(budget=20)
        if testbed.wake(device).code == 0:
            let_in.append(how)
    return Outcome(let_in != ["right"], f"let in: {', '.join(let_in)} one only")
