"""The fleet as Prometheus metrics, over HTTP.

Must stay true: a figure that a device told in its last wake is gone once the device has missed two wakes, so that
nobody takes it for the present; what no device can say wrong (a text where a number belongs) is left out; a ledger
that can't be read is an answer of 503, and never the end of the server; one question at a time is put to the ledger.
"""

import math
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from dormouse_host.errors import HostError
from dormouse_host.fleet import GRACE, DeviceView, Fleet

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError:
    raise HostError("metrics need a library: pip install 'dormouse-mqtt[metrics]'", 2) from None

_STALE = 2  # wakes missed, after which what a device told is no longer the present
_SLOW = 10  # seconds that a client has for its question
_WORDS = 80  # characters of a label that a device has said
FILES = ("grafana.json", "alerts.yml")  # a dashboard, and rules for Prometheus


class FleetCollector(Collector):
    """Reads the ledger when it is asked."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        """HostError where the ledger can't be read."""
        now = self._fleet.clock()
        views = self._fleet.status()
        yield from _devices(views, now)
        yield from _groups(views)
        counts = self._fleet.ledger.counts()
        yield _gauge("dormouse_commands", "Commands in the ledger", ("status",), [((s,), n) for s, n in counts.items()])
        backlog, oldest = self._fleet.ledger.backlog()
        yield GaugeMetricFamily("dormouse_relay_backlog", "Commands that a relay has yet to publish", backlog)
        age = max(0.0, now - oldest) if oldest is not None else 0.0
        yield GaugeMetricFamily("dormouse_relay_backlog_age_seconds", "Age of the oldest of those", age)
        alive = [((relay.name,), float(relay.alive)) for relay in self._fleet.relays()]
        yield _gauge("dormouse_relay_up", "1 while the relay is alive", ("relay",), alive)
        strangers = self._fleet.strangers().messages
        yield CounterMetricFamily("dormouse_strangers", "Messages from ids that nobody registered", strangers)


def _gauge(name: str, what: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], Any]]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=labels)
    for words, value in values:
        family.add_metric(words, value)
    return family


def _devices(views: list[DeviceView], now: float) -> Iterator[Metric]:
    def each(name: str, what: str, value: Callable[[DeviceView], object]) -> Metric:
        found = ((view, _number(value(view))) for view in views)
        name = f"dormouse_device_{name}"
        return _gauge(name, what, ("device",), [((view.id,), value) for view, value in found if value is not None])

    def told(name: str, what: str, value: Callable[[DeviceView], object]) -> Metric:
        return each(name, what, lambda view: value(view) if missed[view.id] < _STALE else None)

    missed = {view.id: view.missed(now) for view in views}
    yield each("last_seen_timestamp_seconds", "When the device was last heard", lambda view: view.seen)
    yield each(
        "next_wake_timestamp_seconds",
        "When it said that it would wake",
        lambda view: None if view.revoked else view.next_due,
    )
    yield each("missed_wakes", "Wakes missed since, its backoff counted in", lambda view: missed[view.id])
    yield each("overdue", "1 once it has missed more than two wakes", lambda view: float(missed[view.id] > GRACE))
    yield each("revoked", "1 while its credential is revoked", lambda view: float(view.revoked is not None))
    yield each("pending_commands", "Its commands that are not final", lambda view: view.pending)
    yield each("faults", "What its program did wrong by its last report", lambda view: len(view.faults))
    yield told("battery_volts", "Battery by its last report", lambda view: view.report.get("battery"))
    yield told("rssi_dbm", "Signal by its last report", lambda view: view.report.get("rssi"))
    yield told("free_bytes", "Free heap by its last report", lambda view: view.report.get("free"))
    yield told("awake_seconds", "How long the wake before its last report took", lambda view: _last(view, "ms", 1000))
    yield told("erases", "Flash erases in the wake before its last report", lambda view: _last(view, "erases", 1))
    yield told(
        "failures", "Wakes in a row that had failed by its last report", lambda view: view.report.get("failures")
    )
    dropped = CounterMetricFamily(
        "dormouse_device_dropped_records", "Telemetry records that it lost", labels=("device",)
    )
    for view in views:
        dropped.add_metric((view.id,), view.dropped)
    yield dropped


def _groups(views: list[DeviceView]) -> Iterator[Metric]:
    """Names that go with a device: by them others are chosen (`* on(device) group_left`)."""
    pairs = [((view.id, group), 1.0) for view in views for group in view.groups]
    yield _gauge("dormouse_device_group", "1 for each group that the device is in", ("device", "group"), pairs)
    known = [
        ((view.id, _word(view.report.get("agent")), _word(view.report.get("fw"))), 1.0) for view in views if view.report
    ]
    yield _gauge("dormouse_device_info", "1, with its versions", ("device", "agent", "firmware"), known)


def _last(view: DeviceView, key: str, unit: float) -> object:
    last = view.report.get("last")
    value = _number(last.get(key)) if isinstance(last, dict) else None
    return None if value is None else value / unit


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _word(value: object) -> str:
    """A device's word as a label."""
    return "".join(c if c.isprintable() else "�" for c in value[:_WORDS]) if isinstance(value, str) else ""


def exposition(fleet: Fleet) -> bytes:
    """All of it, as Prometheus reads it. HostError where the ledger can't be read."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(fleet))
    return generate_latest(registry)


# ---- over HTTP


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """As the base class does, but for the name of this machine, for which that may ask a name server."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    timeout = _SLOW

    def log_message(self, format: str, *args: object) -> None:
        """A question is not worth a line."""


class MetricsServer:
    """Answers `/metrics`. A context manager: it listens from its making to its end."""

    def __init__(self, fleet: Fleet, host: str, port: int, tell: Callable[[str], object] = lambda why: None) -> None:
        """HostError where it can't listen there. `tell` is told why a question could not be answered."""
        self._fleet = fleet
        self._tell = tell
        self._one = threading.Lock()
        try:
            self._server = _Server(host, port)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise HostError(f"cannot listen on {host}:{port}: {why}: choose another --port or --listen", 1) from None
        self._server.set_app(self._answer)
        self.port: int = self._server.server_port

    def __enter__(self) -> "MetricsServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    def run(self) -> None:
        """Until `stop`, or an exception of a signal."""
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """End `run`, which is in another thread."""
        self._server.shutdown()

    def _answer(self, question: dict[str, Any], start: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
        kind, status = "text/plain; charset=utf-8", "200 OK"
        if question["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, body = "405 Method Not Allowed", b"only GET\n"
        elif question["PATH_INFO"] != "/metrics":
            status, body = "404 Not Found", b"metrics are at /metrics\n"
        else:
            try:
                with self._one:
                    kind, body = CONTENT_TYPE_LATEST, exposition(self._fleet)
            except HostError as error:
                self._tell(str(error))
                kind, status, body = (
                    "text/plain; charset=utf-8",
                    "503 Service Unavailable",
                    b"the ledger can't be read\n",
                )
        start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body if question["REQUEST_METHOD"] != "HEAD" else b""]


def write_files(folder: Path) -> list[Path]:
    """Write the dashboard and the rules into a folder. HostError where that fails; nothing is replaced."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            path = folder / f"dormouse-{name}"
            with path.open("xb") as file:
                file.write(files("dormouse_host.desk").joinpath(name).read_bytes())
            written.append(path)
    except FileExistsError as error:
        raise HostError(f"{error.filename} exists already: give another folder", 2) from None
    except OSError as error:
        raise HostError(f"{error.filename}: {error.strerror}") from None
    return written
