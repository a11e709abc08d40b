"""TLS towards a broker, for everything on the host that connects to one.

Must stay true: certificate and name are checked always, against the CA that was named or those that the system trusts;
nothing below TLS 1.2; nothing falls back to a connection in clear.
"""

import ssl

from paho.mqtt import client as paho

from dormouse_host.address import BrokerAddress
from dormouse_host.errors import HostError


def context(ca: str | None) -> ssl.SSLContext:
    """What checks a broker. HostError with code 2 where the CA's file is none."""
    try:
        made = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        why = "it is no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise HostError(f"CA {ca}: {why}", 2) from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def secure(client: paho.Client, address: BrokerAddress) -> None:
    """Have `client` use TLS where the address says so."""
    if address.tls:
        client.tls_set_context(context(address.ca))


def reason(error: OSError) -> str:
    """What kept a connection from being made, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'no reason given').lower().replace('_', ' ')}"
    return error.strerror or str(error)
