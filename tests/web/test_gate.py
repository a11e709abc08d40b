"""The gate before the page: foreign names and sites, sessions, guesses, and where a sign-in may lead."""

import asyncio
from typing import Any

import pytest

from dormouse_host.web import gate
from dormouse_host.web.gate import Gate

PASSWORD = "correct horse"
LAN = "192.168.1.20:8420"


class Answer:
    """What came back: a status, headers, a body; of a websocket `open` or what it was closed with."""

    def __init__(self, sent: list[Any]) -> None:
        self.status = next((m["status"] for m in sent if m["type"] == "http.response.start"), 0)
        self.headers = {k.decode(): v.decode() for m in sent for k, v in m.get("headers", ())}
        self.body = b"".join(m.get("body", b"") for m in sent).decode()
        self.types = [m["type"] for m in sent]


class Inside:
    """The app behind the gate: it counts who comes in, and reads a websocket to its end."""

    def __init__(self) -> None:
        self.visits = 0
        self.received: list[str] = []

    async def __call__(self, scope, receive, send):
        self.visits += 1
        if scope["type"] == "websocket":
            while (message := await receive())["type"] != "websocket.disconnect":
                self.received.append(message["type"])
            self.received.append(message["type"])
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the page"})


@pytest.fixture
def inside():
    return Inside()


def ask(
    app: Gate, path: str = "/", method: str = "GET", body: bytes = b"", kind: str = "http", **headers: str
) -> Answer:
    """A request; headers by name, `host` is that of this machine unless given."""
    said = {"host": "127.0.0.1:8420", **headers}
    path, _, query = path.partition("?")
    scope = {"type": kind, "method": method, "path": path, "query_string": query.encode()}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in said.items()]
    sent: list[Any] = []
    waiting = [{"type": "http.request", "body": body}]
    if kind == "websocket":
        waiting = [{"type": "websocket.connect"}, {"type": "websocket.receive"}, {"type": "websocket.disconnect"}]

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return Answer(sent)


def sign_in(app: Gate, password: str = PASSWORD, to: str = "/") -> Answer:
    body = f"password={password}&to={to}".encode()
    return ask(app, gate.SIGN_IN, "POST", body, host=LAN, origin=f"http://{LAN}")


@pytest.mark.parametrize("host", ["127.0.0.1:8420", "localhost:8420", "[::1]:8420", "127.0.0.2"])
def test_without_a_password_this_machine_comes_in(inside, host):
    assert ask(Gate(inside, password=None), host=host).body == "the page"


@pytest.mark.parametrize(
    "host", ["evil.example:8420", LAN, "localhost.evil.example", "127.0.0.1.evil.example", "", "a b"]
)
def test_without_a_password_no_other_name_does(inside, host):
    """A foreign site whose name leads to 127.0.0.1."""
    for kind in ("http", "websocket"):
        answer = ask(Gate(inside, password=None), kind=kind, host=host, origin=f"http://{host}")
        assert answer.status in (0, 403)
        assert inside.visits == 0


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "ftp://127.0.0.1:8420", "http://"]
)
def test_another_site_changes_nothing(inside, origin):
    app = Gate(inside, password=None)
    assert ask(app, method="POST", origin=origin).status == 403
    assert ask(app, kind="websocket", origin=origin).types == ["websocket.close"]
    assert ask(app, origin=origin).status == 403
    assert inside.visits == 0


def test_what_changes_something_has_an_origin(inside):
    app = Gate(inside, password=None)
    assert ask(app, method="POST").status == 403
    assert ask(app, kind="websocket").types == ["websocket.close"]
    assert inside.visits == 0
    assert ask(app, method="POST", origin="http://127.0.0.1:8420").status == 200
    ask(app, kind="websocket", origin="http://127.0.0.1:8420")
    assert inside.received == ["websocket.connect", "websocket.receive", "websocket.disconnect"]


def test_with_https_an_origin_without_it_is_another(inside):
    app = Gate(inside, password=None, secure=True)
    assert ask(app, method="POST", origin="http://127.0.0.1:8420").status == 403
    assert ask(app, method="POST", origin="https://127.0.0.1:8420").status == 200


def test_with_a_password_nobody_comes_in_without(inside):
    app = Gate(inside, password=PASSWORD)
    for path in ("/", "/device/bed-01", "/_nicegui/1/static/x.js", "/nothing"):
        answer = ask(app, path, host=LAN)
        assert answer.status == 401
        assert "the page" not in answer.body
    assert ask(app, kind="websocket", host=LAN, origin=f"http://{LAN}").types == ["websocket.close"]
    assert ask(app, host=LAN, cookie=f"{gate.COOKIE}=guessed").status == 401
    assert ask(app, host=LAN, cookie=f"{gate.COOKIE}=").status == 401
    assert ask(app, host=LAN, cookie="\x00;;=,").status == 401
    assert inside.visits == 0


def test_the_password_makes_a_session_that_ends_when_it_is_signed_out(inside):
    app = Gate(inside, password=PASSWORD)
    answer = sign_in(app, to="/device/bed-01")
    assert (answer.status, answer.headers["location"]) == (303, "/device/bed-01")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert PASSWORD not in str(answer.headers)
    mine = cookie.partition(";")[0]
    assert ask(app, host=LAN, cookie=mine).body == "the page"
    ask(app, kind="websocket", host=LAN, origin=f"http://{LAN}", cookie=mine)
    assert inside.received == ["websocket.connect", "websocket.receive", "websocket.disconnect"]
    assert ask(app, gate.SIGN_OUT, "POST", host=LAN, origin=f"http://{LAN}", cookie=mine).status == 303
    assert ask(app, host=LAN, cookie=mine).status == 401


def test_an_open_connection_ends_with_its_session(inside):
    app = Gate(inside, password=PASSWORD)
    mine = sign_in(app).headers["set-cookie"].partition(";")[0]
    app._sessions = dict.fromkeys(app._sessions, 0.0)
    assert ask(app, kind="websocket", host=LAN, origin=f"http://{LAN}", cookie=mine).types == ["websocket.close"]

    async def ended_meanwhile():
        app._sessions = {mine.partition("=")[2]: float("inf")}
        scope = {"type": "websocket", "path": "/", "query_string": b""}
        scope["headers"] = [(b"host", LAN.encode()), (b"origin", f"http://{LAN}".encode()), (b"cookie", mine.encode())]

        async def receive():
            assert app._sessions, "read once more after the session's end"
            app._sessions = {}
            return {"type": "websocket.receive", "text": "send a command"}

        async def send(message):
            raise AssertionError(message)

        await app(scope, receive, send)

    asyncio.run(ended_meanwhile())
    assert inside.received == ["websocket.disconnect"]


def test_a_token_in_the_address_is_taken_out_of_it(inside):
    app = Gate(inside, password=PASSWORD)
    answer = ask(app, "/device/bed-01?token=correct+horse&x=1", host=LAN)
    assert (answer.status, answer.headers["location"]) == (303, "/device/bed-01?x=1")
    assert ask(app, "/?token=wrong", host=LAN).status == 401


@pytest.mark.parametrize(
    "to", ["//evil.example", "https://evil.example", "/\\evil.example", "/sign-out", "/a%0d%0ab", ""]
)
def test_a_sign_in_leads_nowhere_else(inside, to):
    assert sign_in(Gate(inside, password=PASSWORD), to=to).headers["location"] == "/"


def test_guesses_are_counted(inside, monkeypatch):
    async def at_once(_):
        return None

    monkeypatch.setattr(asyncio, "sleep", at_once)
    app = Gate(inside, password=PASSWORD)
    assert [sign_in(app, f"guess {n}").status for n in range(10)] == [401] * 10
    assert sign_in(app).status == 429, "the right one, too"
    app._wrong = [at - 61 for at in app._wrong]
    assert sign_in(app).status == 303


def test_a_form_has_a_bound(inside):
    app = Gate(inside, password=PASSWORD)
    body = b"password=" + b"x" * 5000
    assert ask(app, gate.SIGN_IN, "POST", body, host=LAN, origin=f"http://{LAN}").status == 413


def test_every_answer_says_what_a_browser_may_do(inside):
    for answer in (ask(Gate(inside, password=None)), ask(Gate(inside, password=PASSWORD), host=LAN)):
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'self'" in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
