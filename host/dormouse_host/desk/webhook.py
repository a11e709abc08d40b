"""A signed POST, as the Standard Webhooks have it: headers `webhook-id`, `webhook-timestamp`, `webhook-signature`.

Must stay true: a POST has one deadline, however slowly a server answers; no redirection is followed; nothing of the URL
but its host is in an error, because such URLs hold passwords.
"""

import base64
import contextlib
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
from urllib.parse import unquote, urlsplit

from dormouse import protocol
from dormouse_host.errors import HostError

WITHIN = 15.0  # seconds for a whole POST


def signature(key: bytes, id: str, at: int, body: bytes) -> str:
    """What proves that who has the key has sent this: HMAC-SHA256 over `<id>.<at>.<body>`, in base64, behind `v1,`."""
    signed = hmac.new(key, f"{id}.{at}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(signed.digest()).decode()


def host(url: str) -> str:
    """What of a URL may be shown."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def post(url: str, key: bytes, id: str, at: int, body: bytes, within: float = WITHIN) -> None:
    """Deliver it; HostError with the reason where the server does not answer 200 to 299 within so many seconds."""
    parts = urlsplit(url)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"dormouse/{protocol.VERSION}",
        "webhook-id": id,
        "webhook-timestamp": str(at),
        "webhook-signature": signature(key, id, at, body),
    }
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=within, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=within)
    answer: list[int | str] = []

    def work() -> None:
        try:
            connection.request("POST", target, body, headers)
            answer.append(connection.getresponse().status)
        except ssl.SSLCertVerificationError as error:
            answer.append(f"its certificate is not valid: {error.verify_message}")
        except OSError as error:
            answer.append(error.strerror or type(error).__name__)
        except (http.client.HTTPException, ValueError) as error:
            answer.append(f"not an answer in HTTP ({type(error).__name__})")

    thread = threading.Thread(target=work, daemon=True)  # neither getaddrinfo nor a slow answer takes a deadline
    thread.start()
    thread.join(within)
    if thread.is_alive():
        with contextlib.suppress(OSError):
            if isinstance(connection.sock, socket.socket):
                connection.sock.shutdown(socket.SHUT_RDWR)
        raise HostError(f"webhook {host(url)}: no answer within {within:g} s")
    connection.close()
    if not isinstance(answer[0], int):
        raise HostError(f"webhook {host(url)}: {answer[0]}")
    if not 200 <= answer[0] < 300:
        raise HostError(f"webhook {host(url)}: it answers {answer[0]}")
