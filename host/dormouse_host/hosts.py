"""Names and addresses of a broker, as they stand in its certificate, in URLs and in files that a shell reads.

Must stay true: what comes out has no character that a shell, a URL or a configuration gives a meaning, and reading it
again gives the same; what is neither a host name nor an address is a HostError.
"""

import ipaddress
import re

from cryptography import x509

from dormouse_host.errors import HostError

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")  # an interface's name or number: Linux has 15 characters at most
_LONGEST = 253  # characters of a name (RFC 1035)


def plain(text: str) -> str:
    """A name in its ASCII form (IDNA), or an address in its shortest. HostError where it is neither."""
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
    return HostError(f"{text[:80]!a} is neither a host name nor an address", 2)


def alternative(text: str) -> x509.GeneralName:
    """The same as it stands in a certificate, where an address has no zone."""
    name = plain(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        return x509.DNSName(name)
