"""A private certificate authority in a folder: it signs the broker's certificate, and one for each device on request.

Its key never leaves `ca.key`. A certificate serves one purpose, server or client, and one name. A revoked certificate
stays in the list that the broker reads. CA and broker have RSA keys, with which a board's handshake takes half the time
(docs/results.md); a device has a key on P-256, because with that one the board signs.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dormouse_host import files
from dormouse_host.address import host_name
from dormouse_host.errors import HostError

_EARLIER = timedelta(days=1)  # before now, for clocks that are slow
_CA_DAYS = 20 * 365  # as long as a board's flash lasts: no fleet is re-flashed for a CA
_DAYS = 5 * 365
_LIST_DAYS = 20 * 365  # a broker with an expired list accepts nobody
_BITS = 2048
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Signed:
    """A private key and its certificate, as PEM and as DER."""

    key: Key
    certificate: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        return _private(self.key, serialization.Encoding.PEM)

    @property
    def key_der(self) -> bytes:
        """As mbedTLS reads it on a board (SEC 1, PKCS 1)."""
        return _private(self.key, serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


def _private(key: Key, encoding: serialization.Encoding) -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Authority:
    """The authority of one folder: `ca.key`, `ca.crt` and `revoked.pem`."""

    def __init__(self, folder: Path, signed: Signed) -> None:
        """Use `create` or `load`."""
        self.folder = folder
        self._signed = signed

    @classmethod
    def create(cls, folder: Path, common: str = "Dormouse CA") -> "Authority":
        """Create an authority; HostError where the folder has one already."""
        if (folder / "ca.key").exists():
            raise HostError(f"{folder} has a CA already", 2)
        key = rsa.generate_private_key(65537, _BITS)
        builder = _builder(_name(common), _name(common), key, _CA_DAYS)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        made = cls(folder, Signed(key, builder.sign(key, hashes.SHA256())))
        files.folder(folder)
        files.write(folder / "ca.key", made._signed.key_pem)
        files.write(folder / "ca.crt", made._signed.pem, files.PUBLIC)
        made.revoke()
        return made

    @classmethod
    def load(cls, folder: Path) -> "Authority":
        """Load the authority of a folder. HostError where it is missing or incomplete."""
        pem = (files.read(folder / "ca.key").encode(), files.read(folder / "ca.crt").encode())
        try:
            key = serialization.load_pem_private_key(pem[0], None)
            certificate = x509.load_pem_x509_certificate(pem[1])
        except (ValueError, TypeError):
            raise HostError(f"{folder}: ca.key or ca.crt is damaged", 2) from None
        if not isinstance(key, Key):
            raise HostError(f"{folder}: ca.key is not one of ours", 2)
        return cls(folder, Signed(key, certificate))

    @property
    def pem(self) -> bytes:
        """Its certificate, for those that trust it."""
        return self._signed.pem

    @property
    def der(self) -> bytes:
        """Its certificate as a board loads it."""
        return self._signed.der

    def server(self, names: Sequence[str], days: float = _DAYS) -> Signed:
        """A certificate for a broker with these names and addresses."""
        alternatives = [alternative(name) for name in names]
        key = rsa.generate_private_key(65537, _BITS)
        return self._issue("dormouse broker", key, ExtendedKeyUsageOID.SERVER_AUTH, alternatives, days)

    def client(self, user: str, days: float = _DAYS) -> Signed:
        """A certificate that makes its holder `user`."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._issue(user, key, ExtendedKeyUsageOID.CLIENT_AUTH, [], days)

    def _issue(
        self,
        common: str,
        key: Key,
        purpose: x509.ObjectIdentifier,
        alternatives: Sequence[x509.GeneralName],
        days: float,
    ) -> Signed:
        own = self._signed.certificate
        # valid as early as the CA, so that a board without the time accepts it at the first try
        builder = _builder(_name(common), own.subject, key, days, own.not_valid_before_utc)
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._signed.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return Signed(key, builder.sign(self._signed.key, hashes.SHA256()))

    def revoke(self, *serials: int) -> bytes:
        """Add certificates to the revocation list, and return it as PEM."""
        path, now = self.folder / "revoked.pem", datetime.now(UTC)
        list_of_before = files.find(path)
        before = x509.load_pem_x509_crl(list_of_before) if list_of_before else ()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._signed.certificate.subject)
        builder = builder.last_update(now - _EARLIER).next_update(now + timedelta(days=_LIST_DAYS))
        revoked = {entry.serial_number: entry.revocation_date_utc for entry in before}
        for serial, when in {**dict.fromkeys(serials, now), **revoked}.items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
            builder = builder.add_revoked_certificate(entry.build())
        pem = builder.sign(self._signed.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        files.write(path, pem, files.PUBLIC)
        return pem


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, days: float, since: datetime | None = None
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since or now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
    )


def alternative(text: str) -> x509.GeneralName:
    """A host name or address as an entry of a certificate, where an address has no zone."""
    name = host_name(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        return x509.DNSName(name)
