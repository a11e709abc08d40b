"""Certificates for tests: a CA and what it signs, made anew, valid when and for whom the test says.

Must stay true: every key is made for the test and lies in its folder only.
"""

import datetime
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)


class Pair(NamedTuple):
    """A certificate and its key, each as a PEM file."""

    cert: Path
    key: Path

    def der(self, folder: Path) -> None:
        """`cert.der` and `key.der` in this folder, as a device has them."""
        (folder / "cert.der").write_bytes(ssl.PEM_cert_to_DER_cert(self.cert.read_text()))
        lines = self.key.read_text().splitlines()[1:-1]
        (folder / "key.der").write_bytes(ssl.PEM_cert_to_DER_cert("\n".join((_BEGIN, *lines, _END))))


_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"  # the ssl module unpacks these alone


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


KEYS: dict[str, Callable[[], Any]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "brainpool": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA-4096": lambda: rsa.generate_private_key(65537, 4096),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


class Authority:
    """A CA in `folder`: `pem` and `der` are its certificate. `days` are those from now on which it begins and ends.
    `issuer` makes it an intermediate one, whose certificate the servers show with their own.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "ca",
        days: tuple[float, float] = (-30, 3000),
        key: str = "P-256",
        issuer: "Authority | None" = None,
    ) -> None:
        self.folder = folder
        self._name = _name(name)
        self._key = KEYS[key]()
        by = issuer or self
        constraints = x509.BasicConstraints(True, None)
        self.certificate = by._build(self._name, self._key.public_key(), days, constraints, True)
        self.pem = folder / f"{name}.pem"
        self.der = self.certificate.public_bytes(Encoding.DER)
        self.pem.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        self.shown: bytes = self.pem.read_bytes() + issuer.shown if issuer else b""  # behind a server's own certificate

    def _build(self, subject, key, days, extension, critical) -> x509.Certificate:
        begin, end = (NOW + datetime.timedelta(days=each) for each in days)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number(), begin, end)
        how = None if isinstance(self._key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return builder.add_extension(extension, critical).sign(self._key, how)

    def sign(
        self, *names: str, days: tuple[float, float] = (-1, 30), common: str = "server", kind: str = "P-256"
    ) -> Pair:
        """A certificate for these host names and addresses."""
        key = KEYS[kind]()
        found = x509.SubjectAlternativeName([_general(each) for each in names])
        certificate = self._build(_name(common), key.public_key(), days, found, False)
        place = self.folder / f"{certificate.serial_number}"
        pair = Pair(place.with_suffix(".pem"), place.with_suffix(".key"))
        pair.cert.write_bytes(certificate.public_bytes(Encoding.PEM) + self.shown)
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def server_context(pair: Pair, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> ssl.SSLContext:
    """A TLS server that shows `pair`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.maximum_version = newest
    return context


def listener(port: int, pair: Pair, *further: str) -> list[str]:
    """mosquitto's settings for a second listener, with TLS."""
    return [f"listener {port} 127.0.0.1", f"certfile {pair.cert}", f"keyfile {pair.key}", *further]
