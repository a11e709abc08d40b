"""A whole device on a virtual board: broker, ledger, relay, and a board flashed with the agent and an app.

Everything but the board's hardware is real. The device sleeps at real speed until `wake` accelerates its sleep, so that
what is sent meanwhile is sent to a sleeping device. Nothing outlives `close`.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from dormouse_host import processes
from dormouse_host.agent import toolchain
from dormouse_host.agent.log import Event, parse
from dormouse_host.broker.local import Mosquitto
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds, project
from dormouse_host.flash.flash import Flashed, Request
from dormouse_host.flash.flash import flash as flash_board
from dormouse_host.flash.ports import Place
from dormouse_host.fleet import Fleet
from dormouse_host.ledger.queries import CommandView
from dormouse_host.virtual.board import VirtualBoard
from dormouse_host.virtual.running import RunningBoard
from dormouse_host.virtual.wifi import Wifi

_EVERY = 60  # seconds between two wakes: at 1000 times the speed, a sixteenth of a second
_FAST = 1000.0
_LOOK = 0.01  # seconds between two queries
_TOLD = 20.0  # seconds until the results of a drained wake are in the ledger
_CUT_SHORT = 5.0  # the same for a wake that was cut short
_SETTINGS = {"connect_every": _EVERY, "clock": "none"}


@dataclass(frozen=True)
class WakeLog:
    """One wake as the device logged it. `ended`: "asleep", or what prevented its sleep: "watchdog", "cut"."""

    events: tuple[Event, ...]
    ended: str

    def all(self, name: str) -> list[dict[str, Any]]:
        """The fields of all events of that name."""
        return [event.fields for event in self.events if event.name == name]

    @property
    def asleep(self) -> dict[str, Any]:
        """The figures of the wake: ms, next, turns, drained, …; empty if it did not end in sleep."""
        return next(iter(self.all("asleep")), {})


def flash(
    board: RunningBoard, app: Path, device: str, settings: Mapping[str, Any], say: Callable[[str], None]
) -> Flashed:
    """Flash agent, app and configuration onto such a board, for its access point, and follow its first wake.

    Files and packages of [app] in the project file beside the app are flashed too; its broker and secrets are not used.
    """
    kind = kinds.load(board.kind.name)
    here = project.read(app.parent)
    here = project.Project(here.folder, {"app": here.values["app"]} if "app" in here.values else {})
    over = {"ssid": board.wifi.ssid, **settings}
    files = project.device_files(here, kind, device, over, {"WIFI_PASSWORD": board.wifi.password})
    broker = board.from_here(files.full["host"], files.full["port"])
    request = Request(here, kind, Place(board.port), files, app, patience=board.patience, broker=broker)
    done = flash_board(request, say)
    if done.wake and not done.wake.succeeded:
        raise HostError(done.wake.explain(files.full))
    return done


class VirtualDevice(processes.Started):
    """A device called `id` on a virtual board of that kind, running `app`; a context manager.

    `settings` are further keys of config.json. The broker is a mosquitto of its own.
    """

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
        make: Callable[..., RunningBoard] = VirtualBoard,
        **hardware: Any,
    ) -> None:
        """`broker_settings`: further lines of mosquitto.conf. `flashed`: `folder` is that of an earlier device, which
        goes on. `make`: VirtualBoard or EmulatedBoard; `hardware`: further arguments of it, as `battery_pin`.
        """
        program = toolchain.mosquitto()
        if program is None:
            raise HostError("mosquitto is not installed: apt-get install mosquitto")
        if not app.is_file():
            raise HostError(f"{app}: no such app", 2)
        self.id, self._app, self._say = id, app, say
        self._flashed = flashed
        self._settings = {**_SETTINGS, **(settings or {})}
        folder.mkdir(parents=True, exist_ok=True)
        self._ends = contextlib.ExitStack()
        try:
            self.broker = self._ends.enter_context(Mosquitto(program, broker_settings))
            self.fleet = self._ends.enter_context(Fleet(str(folder / "ledger.db")))
            self.board = make(kind, folder / "board", wifi=wifi, **hardware)
        except BaseException:
            self._ends.close()
            raise
        self._at = 0  # position in the board's output behind the last wake

    def start(self) -> Self:
        """Flash the blank board and follow its first wake, or let a flashed one boot. HostError where that fails."""
        try:
            self._ends.callback(self.board.close)
            self.board.start().wait_boot()
            if not self._flashed:
                self.fleet.add(self.id)
            self._start_relay()
            if not self._flashed:
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

    def flash(self) -> Flashed:
        """Flash agent, app and configuration, as `dormouse flash` does; returns after the wake that follows."""
        settings = {"broker": replace(self.broker.address, host=self.board.host).url, **self._settings}
        done = flash(self.board, self._app, self.id, settings, self._say)
        self._at = self.board.wait_console("asleep {", after=self.board.console.rfind(" boot {"))
        return done

    # ---- commands

    def send(self, do: str, **args: Any) -> str:
        """Send a command and wait until the broker has it. Returns its id."""
        name = self.fleet.send(self.id, do, args).name
        end = time.monotonic() + _TOLD
        while self.fleet.result(name).status in ("queued", "publishing"):
            if time.monotonic() > end:
                raise HostError(f"{do}: not published by the relay in {_TOLD:g} s")
            time.sleep(_LOOK)
        return name

    def wake(self, timeout: float = 60) -> WakeLog:
        """End the sleep early, and return the wake that follows once it has ended."""
        before = len(self.board.events)
        events: list[Event] = []
        self.board.speed = _FAST
        try:
            end = time.monotonic() + timeout * self.board.patience
            while time.monotonic() < end:
                for event in self.told():
                    events.append(event)
                    if event.name == "boot":
                        self.board.speed = 1.0
                    elif event.name == "asleep":
                        return WakeLog(tuple(events), "asleep")
                for happened in self.board.events[before:]:
                    if happened.name in ("watchdog", "cut") and events:
                        return WakeLog((*events, *self.told()), happened.name)
                time.sleep(_LOOK)
        finally:
            self.board.speed = 1.0
        raise HostError(f"{self.board.kind.name}: no wake in time; last: {self.board.console[-200:]!r}")

    def told(self) -> list[Event]:
        """The device's log since the last call of this or `wake`."""
        text = self.board.console[self._at :]
        whole = text[: text.rfind("\n") + 1]
        self._at += len(whole)
        return [event for event in map(parse, whole.replace("\r", "").splitlines()) if event]

    def settle(self, name: str, wakes: int = 3) -> CommandView:
        """Wake until the command is final, at most `wakes` times. Returns the command."""
        for _ in range(wakes):
            drained = self.wake().asleep.get("drained")
            view = self.fleet.wait(name, _TOLD if drained else _CUT_SHORT)
            if view.final:
                break
        return view

    def run(self, do: str, **args: Any) -> CommandView:
        """Send a command and wake the device until it is final."""
        return self.settle(self.send(do, **args))

    def telemetry(self) -> list[dict[str, Any]]:
        """All telemetry records in the ledger."""
        return list(self.fleet.export("telemetry"))
