"""A real HTTP server that takes webhooks. Signatures are judged by the Standard Webhooks' rules, not by our code."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


class Came(NamedTuple):
    """One request: the answer that it got, its `webhook-id`, and its body."""

    status: int
    id: str | None
    said: Any


class Receiver:
    """A context manager. `answer`: the status for the request of this number, from 0."""

    def __init__(self, answer: Callable[[int], int] = lambda number: 200) -> None:
        self.came: list[Came] = []
        self.forged = 0
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                with lock:
                    status = answer(len(self.came))
                    self.forged += not _is_signed(handler.headers, body)
                    self.came.append(Came(status, handler.headers["webhook-id"], json.loads(body)))
                handler.send_response(status)
                handler.end_headers()

            def log_message(handler, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook?token=s3cret"

    @property
    def taken(self) -> list[Came]:
        """Those that were answered with 200."""
        return [each for each in self.came if each.status == 200]

    def __enter__(self) -> "Receiver":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _is_signed(headers: Any, body: bytes) -> bool:
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return hmac.compare_digest(wanted, headers["webhook-signature"] or "")
