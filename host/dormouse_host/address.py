"""The address of a broker: one URL, and the credentials that may stand in the environment instead.

Must stay true: whatever is typed becomes a BrokerAddress or a HostError with exit code 2, and no message, repr or
log ever shows a password; so nothing of a malformed URL is echoed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from dormouse_host.errors import HostError

_FORM = "mqtt://[user:password@]host[:port], or mqtts:// for TLS"
_PORTS = {False: 1883, True: 8883}  # MQTT 3.1.1, section 4.2
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?"
_IPV6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]{1,15})?"
_HOST = re.compile(f"{_NAME}|{_IPV6}")


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker is and who we are to it. Printing it shows host and port only."""

    host: str
    port: int = 1883
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | None = None  # file of the CA that is trusted for it, PEM; None: those that the system trusts

    def __str__(self) -> str:
        """`host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL without credentials, as it may stand in a device's config.json."""
        return f"mqtt{'s' if self.tls else ''}://{self}"


def _malformed(why: str) -> HostError:
    return HostError(f"malformed broker URL: {why}; write {_FORM}", 2)


def _split(url: str) -> tuple[str, str, int | None, str | None, str | None]:
    """Scheme, host, port, user and password; ValueError where urllib can make nothing of it."""
    parts = urlsplit(url)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _malformed("there is something behind the host (%-encode / ? # and @ inside a password)")
    user, password = (None if text is None else unquote(text) for text in (parts.username, parts.password))
    return parts.scheme, parts.hostname or "", parts.port, user, password


def parse(url: str, environment: Mapping[str, str]) -> BrokerAddress:
    """Turn a URL into an address; MQTT_USERNAME and MQTT_PASSWORD of `environment` stand in for what it leaves out, and
    DORMOUSE_CA names the CA of a broker with TLS.
    """
    if "://" not in url:
        raise _malformed("the scheme is missing")
    try:
        scheme, host, port, user, password = _split(url)
    except ValueError:
        raise _malformed("host or port is not valid") from None
    if scheme not in ("mqtt", "tcp", "mqtts"):
        raise _malformed("the scheme is neither mqtt nor mqtts")
    tls = scheme == "mqtts"
    if not _HOST.fullmatch(host):
        raise _malformed("the host is missing or is not a host name or address")
    if port == 0:
        raise _malformed("port 0 does not exist")
    if user is None:
        user, password = environment.get("MQTT_USERNAME") or None, None
    if password is None:
        password = environment.get("MQTT_PASSWORD") or None
    if password is not None and not user:
        raise HostError("a password needs a user: give both in the URL, or set MQTT_USERNAME too", 2)
    ca = environment.get("DORMOUSE_CA") or None if tls else None
    return BrokerAddress(host, port or _PORTS[tls], user, password, tls, ca)
