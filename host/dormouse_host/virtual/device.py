"""A whole device on a virtual board: broker, ledger, relay, and a board flashed with the agent and an app.

Everything but the board's hardware is real. The device sleeps at real speed until `wake` accelerates its sleep, so that
what is sent meanwhile is sent to a sleeping device. Nothing outlives `close`.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from dormouse_host import processes
from dormouse_host.agent import toolchain
from dormouse_host.agent.log import Event, parse
from dormouse_host.broker.local import Mosquitto
from dormouse_host.errors import HostError
from dormouse_host.flash import first_wake, kinds, project
from dormouse_host.flash.files import collect, outside
from dormouse_host.flash.flash import Flashed, Request
from dormouse_host.flash.flash import flash as flash_board
from dormouse_host.flash.ports import Place
from dormouse_host.fleet import Fleet
from dormouse_host.ledger.queries import CommandView
from dormouse_host.virtual.board import VirtualBoard
from dormouse_host.virtual.images import Images
from dormouse_host.virtual.running import RunningBoard
from dormouse_host.virtual.wifi import Wifi

_EVERY = 60  # seconds between two wakes: at 1000 times the speed, a sixteenth of a second
_FAST = 1000.0
_LOOK = 0.01  # seconds between two queries
_TOLD = 20.0  # seconds until the results of a drained wake are in the ledger
_CUT_SHORT = 5.0  # the same for a wake that was cut short
_FIRST = 65.0  # seconds of a first wake
_HOST, _PORT = "127.0.0.1", 1883  # of an image's broker: the access point leads from there to that of the test
_SETTINGS = {"connect_every": _EVERY, "clock": "none"}

Board = TypeVar("Board", bound=RunningBoard)


@dataclass(frozen=True)
class WakeLog:
    """One wake as the device logged it. `ended`: "asleep", or what prevented its sleep: "watchdog", "cut", "reset"."""

    events: tuple[Event, ...]
    ended: str

    def all(self, name: str) -> list[dict[str, Any]]:
        """The fields of all events of that name."""
        return [event.fields for event in self.events if event.name == name]

    @property
    def asleep(self) -> dict[str, Any]:
        """The figures of the wake: ms, next, turns, drained, …; empty if it did not end in sleep."""
        return next(iter(self.all("asleep")), {})


class _Place(Place):
    """The port of a board of this process: HostError where it broke, for that port never returns."""

    def __init__(self, board: RunningBoard) -> None:
        super().__init__(board.port)
        self._board = board

    def device(self) -> str | None:
        """The device to open now, None while it is missing."""
        self._board.check()
        return super().device()


def flash(
    board: RunningBoard, app: Path, device: str, settings: Mapping[str, Any], say: Callable[[str], None]
) -> tuple[Flashed, dict[str, Any]]:
    """Flash agent, app and configuration onto such a board, for its access point, and follow its first wake, which may
    have failed.

    Files and packages of [app] in the project file beside the app are flashed too; its broker and secrets are not used.
    Returns the outcome, and the whole configuration that is on the board.
    """
    here, files = _configuration(board.kind.name, app, device, settings, board.wifi)
    broker = board.from_here(files.full["host"], files.full["port"])
    place = _Place(board)
    request = Request(here, kinds.load(board.kind.name), place, files, app, patience=board.patience, broker=broker)
    return flash_board(request, say), files.full


def _configuration(
    kind: str, app: Path, device: str, settings: Mapping[str, Any], wifi: Wifi
) -> tuple[project.Project, project.DeviceFiles]:
    here = project.read(app.parent)
    here = project.Project(here.folder, {"app": here.values["app"]} if "app" in here.values else {})
    over = {"ssid": wifi.ssid, **settings}
    return here, project.device_files(here, kinds.load(kind), device, over, {"WIFI_PASSWORD": wifi.password})


class DeviceOn(processes.Started, Generic[Board]):
    """A device called `id` on a board of that kind, running `app`; a context manager. A subclass says which board.

    `settings` are further keys of config.json. The broker is a mosquitto of its own.
    """

    _make: Callable[..., Board]

    def __init__(
        self,
        kind: str,
        folder: Path,
        app: Path,
        *,
        id: str = "virtual",
        wifi: Wifi | None = None,
        say: Callable[[str], None] = lambda line: None,
        settings: dict[str, Any] | None = None,
        broker_settings: Sequence[str] = (),
        flashed: bool = False,
        images: Images | None = None,
        connect: Callable[[Board], object] = lambda board: None,
        **hardware: Any,
    ) -> None:
        """`broker_settings`: further lines of mosquitto.conf. `flashed`: `folder` is that of an earlier device, which
        goes on. `images`: take the flashed board from there. `connect`: called with the board before it is switched on,
        to connect sensors that the first wake reads. `hardware`: further arguments of the board, as `battery_pin`.
        """
        program = toolchain.mosquitto()
        if program is None:
            raise HostError("mosquitto is not installed: apt-get install mosquitto")
        if not app.is_file():
            raise HostError(f"{app}: no such app", 2)
        self.id, self.app, self._say = id, app, say
        self._flashed, self._images = flashed, None if flashed else images
        self._settings = {**_SETTINGS, **(settings or {})}
        folder.mkdir(parents=True, exist_ok=True)
        self._ends = contextlib.ExitStack()
        try:
            self.broker = self._ends.enter_context(Mosquitto(program, broker_settings))
            self.fleet = self._ends.enter_context(Fleet(str(folder / "ledger.db")))
            if self._images:
                hardware["goes_on"] = True
            self.board = self._make(kind, folder / "board", wifi=wifi, **hardware)
            self._ends.callback(self.board.close)
            connect(self.board)
        except BaseException:
            self._ends.close()
            raise
        self.sent: list[str] = []  # the ids of the commands that were sent
        self._at = 0  # position in the board's output behind the last wake
        self._next: list[Event] = []  # what was read of the wake after it

    def start(self) -> Self:
        """Flash the blank board and follow its first wake, or let a flashed one boot. HostError where that fails."""
        try:
            if not self._flashed:
                self.fleet.add(self.id)
            if self._images:
                full = self._from_image(self._images)
            self._start_relay()
            self.board.start().wait_boot()
            if self._images:
                self._first_wake(full)
            elif not self._flashed:
                self.flash()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End everything."""
        self._ends.close()

    def _start_relay(self) -> None:
        relay = self.fleet.relay(self.broker.address, "virtual")
        thread = threading.Thread(target=relay.run, name="relay", daemon=True)
        thread.start()
        self._ends.callback(thread.join, 10)
        self._ends.callback(relay.stop)
        end = time.monotonic() + _TOLD
        while not relay.connected:  # before the board's first word, or that is lost
            if time.monotonic() > end or not thread.is_alive():
                raise HostError(f"no relay at {self.broker.address} in {_TOLD:g} s")
            time.sleep(_LOOK)

    def _from_image(self, images: Images) -> dict[str, Any]:
        """Put an image in the place of the board's flash. Returns the configuration on it."""
        kind, wifi = self.board.kind.name, self.board.wifi
        port = next(free for free in count(_PORT) if f"{_HOST}:{free}" not in wifi.names)
        wifi.names[f"{_HOST}:{port}"] = (self.broker.address.host, self.broker.address.port)
        settings = {"broker": f"mqtt://{_HOST}:{port}", **self._settings}
        here, files = _configuration(kind, self.app, self.id, settings, wifi)
        at = self.board.from_here(files.full["host"], files.full["port"])
        board = kinds.load(kind)

        def prepare(place: Place) -> Request:
            return Request(here, board, place, files, self.app, watch=False, broker=at)

        flashed = {**collect(here, board, self.app).files, **outside(files)}
        images.put(kind, self.board.image, flashed, prepare, self._say)
        return files.full

    def _first_wake(self, full: Mapping[str, Any]) -> None:
        """Wait for the first wake to end in sleep. HostError saying why it did not succeed."""
        end = time.monotonic() + _FIRST * self.board.patience
        events: list[Event] = []
        while not any(event.name == "asleep" for event in events) and time.monotonic() < end:
            time.sleep(_LOOK)
            events += self.told()
        outcome = first_wake.judge(tuple(events), _FIRST)
        if not outcome.succeeded:
            raise HostError(outcome.explain(full))
        self._stored(WakeLog(tuple(events), "asleep"))

    def flash(self) -> Flashed:
        """Flash agent, app and configuration, as `dormouse flash` does; returns after the wake that follows. HostError
        where that fails.
        """
        settings = {"broker": replace(self.broker.address, host=self.board.host).url, **self._settings}
        done, full = flash(self.board, self.app, self.id, settings, self._say)
        if done.wake and not done.wake.succeeded:
            raise HostError(done.wake.explain(full))
        self._at = self.board.wait_console("asleep {", after=self.board.console.rfind(" boot {"))
        self._next = []
        return done

    # ---- commands

    def send(self, do: str, **args: Any) -> str:
        """Send a command and wait until the broker has it. Returns its id."""
        name = self.fleet.send(self.id, do, args).name
        self.sent.append(name)
        end = time.monotonic() + _TOLD
        while self.fleet.result(name).status in ("queued", "publishing"):
            if time.monotonic() > end:
                raise HostError(f"{do}: not published by the relay in {_TOLD:g} s")
            time.sleep(_LOOK)
        return name

    def wake(self, timeout: float = 60) -> WakeLog:
        """End the sleep early, and return the wake that follows once it has ended and the ledger has what it said."""
        before = len(self.board.events)
        events: list[Event] = []
        self.board.speed = _FAST
        try:
            end = time.monotonic() + timeout * self.board.patience
            while time.monotonic() < end:
                told = self.told()  # of more than one wake, where this machine is busy
                for number, event in enumerate(told):
                    if event.name == "boot" and any(each.name == "boot" for each in events):
                        self._next = told[number:]
                        return WakeLog(tuple(events), self._broken(before) or "reset")
                    events.append(event)
                    if event.name == "boot":
                        self.board.speed = 1.0
                    elif event.name == "asleep":
                        return self._stored(WakeLog(tuple(events), "asleep"))
                if events and (broken := self._broken(before)):
                    return WakeLog((*events, *self.told()), broken)
                time.sleep(_LOOK)
        finally:
            self.board.speed = 1.0
        raise HostError(f"{self.board.kind.name}: no wake in time; last: {self.board.console[-200:]!r}")

    def _broken(self, first: int) -> str | None:
        """What has broken a wake since event number `first`."""
        names = [event.name for event in self.board.events[first:]]
        return next((name for name in names if name in ("watchdog", "cut")), None)

    def _stored(self, wake: WakeLog) -> WakeLog:
        """The wake, once the ledger has its end; one that did not drain the queue may have said nothing."""
        number = next((fields["wake"] for fields in wake.all("boot")), None)
        end = time.monotonic() + _CUT_SHORT
        while wake.asleep.get("drained") and number and not self.fleet.ledger.has_ended(self.id, number):
            if time.monotonic() > end:
                break
            time.sleep(_LOOK)
        return wake

    def told(self) -> list[Event]:
        """The device's log since the last call of this or `wake`. HostError where the board broke."""
        self.board.check()
        text = self.board.console[self._at :]
        whole = text[: text.rfind("\n") + 1]
        self._at += len(whole)
        left, self._next = self._next, []
        return left + [event for event in map(parse, whole.replace("\r", "").splitlines()) if event]

    def settle(self, name: str, wakes: int = 3) -> CommandView:
        """Wake until the command is final, at most `wakes` times. Returns the command."""
        view = self.fleet.result(name)
        for _ in range(wakes):
            drained = self.wake().asleep.get("drained")
            view = self.fleet.wait(name, _TOLD if drained else _CUT_SHORT)
            if view.final:
                break
        return view

    def run(self, do: str, **args: Any) -> CommandView:
        """Send a command and wake the device until it is final. HostError where the device rejects it."""
        view = self.attempt(do, **args)
        if view.status == "rejected":
            raise HostError(f"{do} is rejected: {view.why or 'no reason was given'} (attempt() returns such a command)")
        return view

    def attempt(self, do: str, **args: Any) -> CommandView:
        """As `run`, but a command that the device rejects is returned, too."""
        return self.settle(self.send(do, **args))

    def telemetry(self) -> list[dict[str, Any]]:
        """All telemetry records in the ledger."""
        return list(self.fleet.export("telemetry"))


class VirtualDevice(DeviceOn[VirtualBoard]):
    """Such a device on a virtual board."""

    _make = VirtualBoard
