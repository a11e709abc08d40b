"""The gate before the page: who may come in, from where, and what a browser may do with what it is sent.

Must stay true: without a password only this machine's own names reach the page, so that no foreign site can by a name
of its own; what can change something comes with the page's own Origin; nothing of the page is sent to who is not signed
in; the password is in no answer, log or address that is kept.
"""

import asyncio
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from html import escape
from http.cookies import CookieError, SimpleCookie
from importlib.resources import files
from ipaddress import ip_address
from string import Template
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "dormouse_desk"
SIGN_IN, SIGN_OUT = "/sign-in", "/sign-out"
_SESSION = 7 * 86400  # seconds that a session lasts
_SESSIONS = 1000  # that are remembered; the oldest go
_TRIES, _WINDOW = 10, 60.0  # wrong passwords in so many seconds, from everybody together
_BODY = 4096  # bytes of a form
_SAFE = ("GET", "HEAD", "OPTIONS")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),  # without any, a form of ours would come with the Origin `null`
    (b"cross-origin-opener-policy", b"same-origin"),
]
_FORM = Template(files("dormouse_host.web").joinpath("sign_in.html").read_text())


class Gate:
    """An ASGI app before another. `password`: None where there is none, which only this machine's names may use."""

    def __init__(self, app: App, *, password: str | None, secure: bool = False) -> None:
        """`secure`: it is served over HTTPS."""
        self.app = app
        self._password = password
        self._secure = secure
        self._sessions: dict[str, float] = {}  # until when
        self._wrong: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refused = self._refused(scope)
        if refused:
            await _refuse(scope, receive, send, refused)
        elif scope["type"] == "websocket":
            await self._connect(scope, receive, send)
        else:
            await self._request(scope, receive, send)

    # ---- where it comes from

    def _refused(self, scope: Scope) -> str | None:
        """Why it may not come in, whoever sends it."""
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        if self._password is None and not _is_local(host):
            return "this page is only for the machine on which it runs: open it at http://127.0.0.1"
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE
        if origin is None:
            return "a request that changes something needs an Origin" if changes else None
        scheme, _, place = origin.lower().partition("://")  # https may also be a proxy's before this
        own = place == host.lower() and scheme in (("https",) if self._secure else ("http", "https"))
        return None if own else "a request from another site is refused"

    def _session(self, scope: Scope) -> str | None:
        """The session that a request belongs to."""
        try:
            cookie = SimpleCookie(_header(scope, b"cookie") or "").get(COOKIE)
        except CookieError:
            return None
        name = cookie.value if cookie else ""
        return name if self._sessions.get(name, 0.0) > time.monotonic() else None

    # ---- who it is

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = dict(parse_qsl(scope["query_string"].decode("ascii", "replace"), keep_blank_values=True))
        if self._password is not None:
            if scope["path"] == SIGN_IN and scope["method"] == "POST":
                await self._sign_in(scope, receive, send)
                return
            if "token" in query and scope["method"] == "GET" and scope["path"] != SIGN_IN:
                token = query.pop("token")
                place = _own_path(scope["path"] + (f"?{urlencode(query)}" if query else ""))
                await self._enter(scope, send, token, place)
                return
            session = self._session(scope)
            if scope["path"] == SIGN_OUT and scope["method"] == "POST":
                self._sessions.pop(session or "", None)
                await _answer(send, 303, "", [(b"location", SIGN_IN.encode()), self._cookie("", 0)])
                return
            if session is None:
                await self._show_form(scope, send, 401, _own_path(scope["path"]), "")
                return
        await self.app(scope, receive, _with_headers(send))

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A connection of a page; it ends with its session."""
        if self._password is None:
            await self.app(scope, receive, send)
            return
        if self._session(scope) is None:
            await _refuse(scope, receive, send, "sign in first")
            return

        async def received() -> MutableMapping[str, Any]:
            message = await receive()
            return message if self._session(scope) else {"type": "websocket.disconnect", "code": 1008}

        await self.app(scope, received, send)

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > _BODY or message["type"] != "http.request":
                await _answer(send, 413, "too long", [])
                return
            if not message.get("more_body"):
                break
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        await self._enter(scope, send, fields.get("password", [""])[0], _own_path(fields.get("to", ["/"])[0]))

    async def _enter(self, scope: Scope, send: Send, password: str, place: str) -> None:
        """A session for who knows the password."""
        now = time.monotonic()
        self._wrong = [at for at in self._wrong if at > now - _WINDOW]
        if len(self._wrong) >= _TRIES:
            await self._show_form(scope, send, 429, place, "Too many wrong passwords: wait a minute.")
            return
        if not hmac.compare_digest(password.encode(), (self._password or "").encode()):
            self._wrong.append(now)
            await asyncio.sleep(0.3)
            await self._show_form(scope, send, 401, place, "That is not the password.")
            return
        name = secrets.token_urlsafe(32)
        self._sessions = {other: until for other, until in self._sessions.items() if until > now}
        while len(self._sessions) >= _SESSIONS:
            del self._sessions[min(self._sessions, key=self._sessions.__getitem__)]
        self._sessions[name] = now + _SESSION
        await _answer(send, 303, "", [(b"location", place.encode()), self._cookie(name, _SESSION)])

    async def _show_form(self, scope: Scope, send: Send, status: int, place: str, why: str) -> None:
        if scope["path"].startswith("/_nicegui"):
            await _answer(send, 401, "sign in first", [])
            return
        shown = _FORM.substitute(to=escape(place), why=f'<p role="alert">{why}</p>' if why else "")
        await _answer(send, status, shown, [], kind="text/html; charset=utf-8")

    def _cookie(self, name: str, seconds: int) -> tuple[bytes, bytes]:
        more = "; Secure" if self._secure else ""
        return b"set-cookie", f"{COOKIE}={name}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{more}".encode()


def _header(scope: Scope, name: bytes) -> Any:
    """A header's text; None where it is not there, "" for a host."""
    found = next((value for key, value in scope["headers"] if key == name), None)
    return ("" if name == b"host" else None) if found is None else found.decode("latin-1")


def _is_local(host: str) -> bool:
    """Is this a name of this machine alone?"""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _own_path(place: str) -> str:
    """A path of this page, "/" for what leads elsewhere."""
    known = place.startswith("/") and not place.startswith(("//", "/\\")) and place.isprintable() and place.isascii()
    return place if known and not place.startswith((SIGN_IN, SIGN_OUT, "/_nicegui")) else "/"


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return sent


async def _answer(
    send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]], *, kind: str = "text/plain"
) -> None:
    body = text.encode()
    told = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*told, *headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})


async def _refuse(scope: Scope, receive: Receive, send: Send, why: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    await _answer(send, 403, why, [])
