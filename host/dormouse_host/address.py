"""Addresses: a broker's URL with its credentials, TLS towards it, host names, and the addresses of this machine.

A malformed URL is a HostError with exit code 2 that repeats nothing of the URL; no message, repr or log shows a
password. TLS is 1.2 or newer, and certificate and host name are always verified.
"""

import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_FORM = "mqtt://[user:password@]host[:port], or mqtts:// for TLS"
_PORTS = {False: 1883, True: 8883}  # MQTT 3.1.1, section 4.2
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?"
_IPV6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]{1,15})?"
_HOST = re.compile(f"{_NAME}|{_IPV6}")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")  # an interface's name or number: Linux has 15 characters at most
_LONGEST = 253  # characters of a name (RFC 1035)


@dataclass(frozen=True)
class BrokerAddress:
    """A broker's address and our credentials there. Printing it shows host and port only."""

    host: str
    port: int = 1883
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | None = None  # file of the trusted CA, PEM or DER; None: the system's CAs
    cert: str | None = None  # files of our own certificate and its key, PEM, for a broker that asks for one
    key: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """`host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL without credentials, as for a device's config.json."""
        return f"mqtt{'s' if self.tls else ''}://{self}"


def _malformed(why: str) -> HostError:
    return HostError(f"malformed broker URL: {why}; expected {_FORM}", 2)


def _split(url: str) -> tuple[str, str, int | None, str | None, str | None]:
    """Scheme, host, port, user and password. ValueError where urllib cannot parse it."""
    parts = urlsplit(url)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _malformed("unexpected text after the host (%-encode / ? # and @ in a password)")
    user, password = (None if text is None else unquote(text) for text in (parts.username, parts.password))
    return parts.scheme, parts.hostname or "", parts.port, user, password


def parse(url: str, environment: Mapping[str, str]) -> BrokerAddress:
    """Parse a URL. MQTT_USERNAME and MQTT_PASSWORD of `environment` supply what it omits, DORMOUSE_CA the CA, and
    DORMOUSE_CERT and DORMOUSE_KEY our own certificate.
    """
    if "://" not in url:
        raise _malformed("the scheme is missing")
    try:
        scheme, host, port, user, password = _split(url)
    except ValueError:
        raise _malformed("host or port is invalid") from None
    if scheme not in ("mqtt", "tcp", "mqtts"):
        raise _malformed("the scheme is not mqtt or mqtts")
    tls = scheme == "mqtts"
    if not _HOST.fullmatch(host):
        raise _malformed("the host is missing or is not a host name or address")
    if port == 0:
        raise _malformed("port 0 is not possible")
    if user is None:
        user, password = environment.get("MQTT_USERNAME") or None, None
    if password is None:
        password = environment.get("MQTT_PASSWORD") or None
    if password is not None and not user:
        raise HostError("a password needs a user: give both in the URL, or set MQTT_USERNAME too", 2)
    ca, cert, key = (environment.get(f"DORMOUSE_{name}") or None if tls else None for name in ("CA", "CERT", "KEY"))
    if bool(cert) != bool(key):
        raise HostError("DORMOUSE_CERT and DORMOUSE_KEY go together", 2)
    return BrokerAddress(host, port or _PORTS[tls], user, password, tls, ca, cert, key)


# ---- TLS


def tls_context(ca: str | None, cert: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """The context that verifies a broker. HostError with code 2 where `ca` is no CA file, or `cert` and `key` no pair.

    A CA that is given need not be a root, as on a device.
    """
    try:
        made = ssl.create_default_context(cadata=_ca(ca) if ca else None)
    except (OSError, ssl.SSLError) as error:
        why = "not a certificate in PEM or DER" if isinstance(error, ssl.SSLError) else error.strerror
        raise HostError(f"CA {ca}: {why}", 2) from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca:
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if cert:
        try:
            made.load_cert_chain(cert, key, password="")  # without one OpenSSL asks at the terminal
        except (OSError, ssl.SSLError) as error:
            why = "no pair of certificate and key in PEM" if isinstance(error, ssl.SSLError) else error.strerror
            raise HostError(f"certificate {cert}: {why}", 2) from None
    return made


def _ca(path: str) -> str | bytes:
    data = Path(path).read_bytes()
    return data.decode("ascii", "ignore") if b"-----BEGIN " in data else data


def secure(client: "Client", address: BrokerAddress) -> None:
    """Set `client` up for TLS if the address requires it."""
    if address.tls:
        client.tls_set_context(tls_context(address.ca, address.cert, address.key))


def failure(error: OSError, ca: str | None) -> str:
    """Why a connection failed, in words. `ca`: the file of the CA that the peer was verified against."""
    if isinstance(error, ssl.SSLCertVerificationError):
        against = f"the CA {ca}" if ca else "the CAs that this system trusts; DORMOUSE_CA names a broker's own"
        return f"certificate verification failed: {error.verify_message} (by {against})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'no reason given').lower().replace('_', ' ')}"
    return error.strerror or str(error)


# ---- host names


def host_name(text: str) -> str:
    """A host name in its ASCII form (IDNA), or an address in its shortest; HostError where it is neither.

    The result has no character that is special in a shell, a URL or a configuration.
    """
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    address, percent, zone = inner.partition("%")
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return _name(text)
    if percent and (found.version != 6 or not _ZONE.fullmatch(zone)):
        raise _neither(text)
    return f"{found}{percent}{zone}"


def _name(text: str) -> str:
    try:
        name = text.encode("idna").decode()
    except UnicodeError:
        raise _neither(text) from None
    labels = name.split(".")
    numbers = len(labels) > 1 and labels[-1].isdigit()  # a mistyped IPv4 address
    if len(name) > _LONGEST or numbers or not all(map(_LABEL.fullmatch, labels)):
        raise _neither(text)
    return name


def _neither(text: str) -> HostError:
    return HostError(f"{text[:80]!a} is not a host name or address", 2)


def is_loopback(host: str) -> bool:
    """Does `host` mean the machine that it is used on?"""
    host = host.strip("[]").lower()
    return host in ("localhost", "::1", "0.0.0.0", "::") or host.endswith(".localhost") or host.startswith("127.")


# ---- this machine


def own_addresses() -> list[str]:
    """The IPv4 addresses of this machine, loopback last."""
    import ifaddr

    found = {ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if isinstance(ip.ip, str)}
    return sorted(found, key=lambda ip: (ip.startswith("127."), tuple(map(int, ip.split(".")))))


def lan_addresses() -> list[str]:
    """The IPv4 addresses at which other machines reach this one."""
    return [ip for ip in own_addresses() if not is_loopback(ip) and not ip.startswith("169.254.")]
