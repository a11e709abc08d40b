"""The server of the page: its address, its gate, its pages, from the start to an orderly end.

Must stay true: without `lan` it listens on this machine alone; with it never without a password; nothing is loaded from
elsewhere; when `serve` returns, nothing listens any more.
"""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dormouse_host.address import lan_addresses
from dormouse_host.errors import HostError
from dormouse_host.fleet import Fleet
from dormouse_host.web.gate import Gate
from dormouse_host.web.live import Actions, Hub

_LOOPBACK, _EVERYWHERE = "127.0.0.1", "0.0.0.0"
_GRACE = 3  # seconds for open connections at the end


@dataclass(frozen=True)
class Asked:
    """How to serve: a `port` (0: any), on the network too with `lan`, a `password` or None, `cert` and `key` as PEM
    files for HTTPS, and whether a page may change nothing.
    """

    port: int
    lan: bool = False
    password: str | None = None
    cert: Path | None = None
    key: Path | None = None
    read_only: bool = False


def serve(fleet: Fleet, asked: Asked, told: Callable[[list[str]], object]) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; `told` is given the URLs once it listens. HostError where it cannot."""
    if asked.lan and not asked.password:
        raise HostError("a page on the network needs a password: set DORMOUSE_WEB_PASSWORD", 2)
    _check_certificate(asked)
    with _listening(asked) as listener, tempfile.TemporaryDirectory(prefix="dormouse-web-") as scratch:
        os.environ["NICEGUI_STORAGE_PATH"] = scratch  # read when it is imported; nothing of ours is stored there
        asyncio.run(_serve(fleet, asked, listener, told))


def _check_certificate(asked: Asked) -> None:
    if (asked.cert is None) != (asked.key is None):
        raise HostError("HTTPS takes a certificate and its key: pass --cert and --key", 2)
    if asked.cert is not None and asked.key is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(asked.cert, asked.key, password="")
        except (OSError, ssl.SSLError) as error:
            why = getattr(error, "reason", None) or error.strerror or type(error).__name__
            raise HostError(f"{asked.cert}, {asked.key}: {why}: expected PEM files that belong together", 2) from None


@contextlib.contextmanager
def _listening(asked: Asked) -> Iterator[socket.socket]:
    where = _EVERYWHERE if asked.lan else _LOOPBACK
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((where, asked.port))
            listener.listen(128)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise HostError(f"port {asked.port}: {why}: choose another with --port", 1) from None
        yield listener


async def _serve(fleet: Fleet, asked: Asked, listener: socket.socket, told: Callable[[list[str]], object]) -> None:
    try:
        import uvicorn

        from dormouse_host.web.pages import application
    except ModuleNotFoundError as error:
        raise HostError(f"the page needs {error.name}: pip install 'dormouse-mqtt[web]'", 2) from None
    hub = Hub(fleet, Actions(fleet, read_only=asked.read_only))
    secure = asked.cert is not None
    gate = Gate(application(hub, guarded=asked.password is not None), password=asked.password, secure=secure)
    config = uvicorn.Config(
        gate,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        ssl_certfile=asked.cert,
        ssl_keyfile=asked.key,
        ws_max_size=1 << 20,
        h11_max_incomplete_event_size=1 << 16,
    )

    class Server(uvicorn.Server):
        """Ends when it is told to; signals are ours."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    server = Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    await asyncio.to_thread(hub.look)
    looking = asyncio.create_task(hub.run())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.02)
        if server.started:
            told(_urls(asked, listener.getsockname()[1]))
        await serving
    finally:
        looking.cancel()


def _urls(asked: Asked, port: int) -> list[str]:
    scheme = "https" if asked.cert else "http"
    return [f"{scheme}://{host}:{port}/" for host in (_LOOPBACK, *(lan_addresses() if asked.lan else ()))]
