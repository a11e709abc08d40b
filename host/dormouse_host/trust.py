"""Which certificate a device trusts: read from files in PEM or DER, from this machine's store, or asked of the broker.

A board takes one certificate, in DER, and trusts whom that has signed, whether it is a root or not. Which one of
several it has to be is decided by the chain that the broker shows, and proven by a handshake as a board makes it: TLS
1.2, and the keys and signatures that MicroPython's mbedTLS is built with (its mbedtls_config_common.h). Every wait has
an end. Nothing here is trusted because the broker shows it.
"""

import socket
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from dormouse_host.errors import HostError

_SET_KEY = "set_psk_client_callback"
SHARED_KEYS = hasattr(ssl.SSLContext, _SET_KEY)  # from Python 3.13 on
SYSTEM = "system"  # in the place of a file: this machine's store
_WAIT = 10.0  # seconds for a handshake
_CURVES = ("secp192r1", "secp224r1", "secp256r1", "secp384r1", "secp521r1", "secp256k1")
_LONGEST = 8192  # bits of an RSA key (MBEDTLS_MPI_MAX_SIZE)
_SIGNED = (
    SignatureAlgorithmOID.RSA_WITH_SHA256,
    SignatureAlgorithmOID.RSA_WITH_SHA384,
    SignatureAlgorithmOID.RSA_WITH_SHA512,
    SignatureAlgorithmOID.ECDSA_WITH_SHA256,
    SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    SignatureAlgorithmOID.ECDSA_WITH_SHA512,
)
_BEGIN = b"-----BEGIN "


# ---- reading


def certificates(data: bytes, name: str) -> list[x509.Certificate]:
    """The certificates in a file's bytes, one in DER or any number in PEM. HostError naming the file."""
    try:
        found = x509.load_pem_x509_certificates(data) if _BEGIN in data else [x509.load_der_x509_certificate(data)]
    except (ValueError, TypeError):
        hint = "a private key, not a certificate" if b"PRIVATE KEY-----" in data else "no certificate in PEM or DER"
        raise HostError(f"{name}: {hint}", 2) from None
    return found


def private_key(data: bytes, name: str) -> bytes:
    """A private key in PEM or DER as DER that a board reads. HostError, which tells nothing of it, naming the file."""
    try:
        load = serialization.load_pem_private_key if _BEGIN in data else serialization.load_der_private_key
        key = load(data, None)
    except TypeError:
        raise HostError(f"{name}: the key has a passphrase: a board can't ask for one", 2) from None
    except ValueError:
        raise HostError(f"{name}: no private key in PEM or DER", 2) from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) or unfit(key.public_key()):
        raise HostError(f"{name}: MicroPython's TLS has no such key: make one of RSA or on P-256", 2)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())


def der(certificate: x509.Certificate) -> bytes:
    """As a board takes it."""
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(certificate: x509.Certificate) -> bytes:
    """As people keep it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def system() -> list[x509.Certificate]:
    """The CAs that this machine trusts. HostError where it has none."""
    paths = ssl.get_default_verify_paths()
    found: dict[bytes, x509.Certificate] = {}
    files = [Path(paths.cafile)] if paths.cafile else sorted(Path(paths.capath).glob("*.0")) if paths.capath else []
    for path in files:
        try:
            found.update({der(each): each for each in certificates(path.read_bytes(), str(path))})
        except (OSError, HostError):
            continue  # one that cannot be read certifies nobody
    if not found:
        raise HostError("this machine trusts no CA: apt-get install ca-certificates", 2)
    return list(found.values())


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 in pairs of hex digits, as `openssl x509 -fingerprint -sha256` prints it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def name(certificate: x509.Certificate) -> str:
    """Its subject in short."""
    names = {each.oid: str(each.value) for each in certificate.subject}
    for oid in (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATIONAL_UNIT_NAME, x509.NameOID.ORGANIZATION_NAME):
        if oid in names:
            return names[oid]
    return certificate.subject.rfc4514_string() or "without a name"


# ---- what a board can read


def unfit(key: object) -> str:
    """Why MicroPython's TLS cannot use a public key; empty where it can."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA of {key.key_size} bits" if key.key_size > _LONGEST else ""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if key.curve.name in _CURVES else f"a key on {key.curve.name}"
    return f"a key of {type(key).__name__.removesuffix('PublicKey')}"


def unreadable(chain: Iterable[x509.Certificate]) -> str:
    """What in this chain MicroPython's TLS cannot read; empty where it can read all. Its root's own signature is not
    looked at, by a board either.
    """
    for each in chain:
        if why := unfit(each.public_key()):
            return f"{name(each)} has {why}"
        if each.signature_algorithm_oid not in _SIGNED and each.issuer != each.subject:
            return f"{name(each)} is signed by {each.signature_algorithm_oid._name}"
    return ""


# ---- the broker


class NoTls(OSError):
    """It is there, and there is no handshake."""

    def __init__(self, why: str) -> None:
        super().__init__(0, why)


@dataclass(frozen=True)
class Shown:
    """What a broker shows: its chain, its own certificate first, and the TLS version. `modern`: TLS 1.3 alone."""

    chain: tuple[x509.Certificate, ...]
    modern: bool

    def unfit(self) -> str:
        """Why no board can speak TLS with it; empty where one can."""
        if self.modern:
            return "it speaks TLS 1.3 only, and MicroPython's firmware 1.2"
        why = unreadable(self.chain)
        return f"MicroPython's TLS cannot read its certificate: {why}" if why else ""


def ask(host: str, port: int, where: tuple[str, int] | None = None) -> Shown:
    """Ask a broker for its chain, and trust nothing of it. OSError where it is not reached, NoTls where there is no
    handshake. `where`: the address at which it is reached from here.
    """
    if chain := _chain(host, where or (host, port), ssl.TLSVersion.TLSv1_2):
        return Shown(chain, modern=False)
    chain = _chain(host, where or (host, port), ssl.TLSVersion.TLSv1_3)
    if not chain:
        raise NoTls("it answers, and speaks no TLS that a board speaks")
    return Shown(chain, modern=True)


def _chain(host: str, where: tuple[str, int], newest: ssl.TLSVersion) -> tuple[x509.Certificate, ...]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is looked at, and told nothing
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, newest
    with (
        socket.create_connection(where, _WAIT) as plain,
        context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False) as secure,
    ):
        with suppress(ssl.SSLError, ConnectionError):  # one that asks for a certificate has shown its own by then
            secure.do_handshake()
        found = secure._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]  # public from Python 3.13 on
        return tuple(x509.load_pem_x509_certificate(each.public_bytes().encode()) for each in found)


def context(trusted: Sequence[x509.Certificate]) -> ssl.SSLContext:
    """A context that checks certificate and name as a board with these certificates does."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a board's one certificate need not be a root
    made.load_verify_locations(cadata=b"".join(map(der, trusted)))
    return made


def with_shared_key(identity: str, key: str) -> ssl.SSLContext:
    """A context for a broker that shares this key, in hex, and for no other: it trusts no CA. Needs SHARED_KEYS."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    known = identity, bytes.fromhex(key)
    getattr(made, _SET_KEY)(lambda hint: known)
    return made


def verified(host: str, port: int, anchor: x509.Certificate, where: tuple[str, int] | None = None) -> str:
    """Why a device that trusts `anchor` refuses this broker; empty where it does not. OSError: not reached."""
    made = context([anchor])
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with socket.create_connection(where or (host, port), _WAIT) as plain:
            made.wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return f"certificate verification failed: {error.verify_message}"
    except ssl.SSLError:
        pass  # it wants a certificate of ours, and has proven itself before
    return ""


def anchor(shown: Shown, trusted: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The one of `trusted` that certifies the chain: the nearest to its root. None where none does."""
    found = None
    for each in shown.chain:
        for one in trusted:
            if one == each or (one.subject == each.issuer and _signed(each, one)):
                found = one
        if each.issuer == each.subject:
            break
    return found


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
