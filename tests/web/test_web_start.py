"""How `dormouse web` starts: what is refused in one line, and what it listens on."""

import http.client
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import typer.testing

from dormouse_host.cli import app
from dormouse_host.errors import HostError
from dormouse_host.fleet import Fleet
from dormouse_host.web.server import Asked, serve
from support.certificates import Authority
from support.pages_in_browser import Web


@pytest.fixture
def ledger(tmp_path):
    with Fleet(str(tmp_path / "ledger.db")) as fleet:
        fleet.add("bed-01")
    return str(tmp_path / "ledger.db")


def test_what_cannot_be_served_is_one_line(ledger, tmp_path, monkeypatch):
    one, other = (Authority(tmp_path, name).sign("127.0.0.1") for name in ("one", "other"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            Fleet(ledger) as fleet,
            pytest.raises(HostError, match="Address already in use: choose another with --port"),
        ):
            serve(fleet, Asked(taken.getsockname()[1]), print)
    with Fleet(ledger) as fleet:
        for asked, said in (
            (Asked(0, lan=True), "needs a password"),
            (Asked(0, cert=one.cert), "pass --cert and --key"),
            (Asked(0, cert=one.cert, key=other.key), "belong together"),
            (Asked(0, cert=tmp_path / "nowhere.pem", key=one.key), "No such file"),
        ):
            with pytest.raises(HostError, match=said):
                serve(fleet, asked, print)
    monkeypatch.setenv("DORMOUSE_WEB_PASSWORD", "short")
    done = typer.testing.CliRunner().invoke(app.app, ["web", "--db", ledger], standalone_mode=False)
    assert isinstance(done.exception, HostError)
    assert "8 to 256 characters" in str(done.exception)


def test_without_the_extra_it_says_what_to_install(ledger):
    hidden = "import sys; sys.modules['nicegui'] = None; from dormouse_host.cli.app import main; main()"
    program = [sys.executable, "-c", hidden, "web", "--port", "0", "--db", ledger]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dormouse: the page needs nicegui: pip install 'dormouse-mqtt[web]'\n"


def get(url: str, path: str, host: str | None = None, cookie: str = "") -> http.client.HTTPResponse:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("GET", path, headers={"Host": host or parts.netloc, "Cookie": cookie})
    return connection.getresponse()


def test_on_the_network_it_has_a_new_token(ledger):
    with Web(ledger, "--lan") as web:
        token = urlsplit(web.url).query.removeprefix("token=")
        assert len(token) >= 24
        assert get(web.url, "/", "pi.local:8420").status == 401
        entered = get(web.url, f"/?token={token}", "pi.local:8420")
        assert (entered.status, entered.getheader("Location")) == (303, "/")
        cookie = (entered.getheader("Set-Cookie") or "").partition(";")[0]
        assert get(web.url, "/", "pi.local:8420", cookie).status == 200
        code, said = web.stop()
    assert code == 0
    assert "crosses the network in clear" in said
    assert token not in said
