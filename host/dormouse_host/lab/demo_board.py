"""`dormouse demo --board`: the three phases on a virtual board, and then faults as in the field.

The board is flashed through its serial port by the code of `dormouse flash`. What is printed comes from the board's
log, the simulation's events or the ledger. A broken promise ends the demo with exit code 1.
"""

import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

from dormouse_host.errors import HostError
from dormouse_host.ledger.queries import CommandView
from dormouse_host.terminal import Console
from dormouse_host.virtual.device import VirtualDevice, WakeLog
from dormouse_host.virtual.kind import load

_APP = Path(__file__).with_name("demo_board_app.py")
_SETTINGS = {"budget": 10, "patience": 1000, "watchdog": 10}  # short, because a person watches
_GONE = 5  # wakes without an access point
_WAKES = 4  # that a command may need after a fault
_WITHIN = 20  # seconds in which an event must be seen


def run(name: str, messages: int, console: Console) -> None:
    """Run all steps. HostError with code 1 for the first broken promise."""
    kind = load(name)
    with tempfile.TemporaryDirectory(prefix="dormouse-board-") as folder:
        device = VirtualDevice(name, Path(folder), _APP, id="demo", say=lambda _line: None, settings=_SETTINGS)
        console.line(f"Broker: {device.broker.name}")
        console.line(
            f"Board:  a virtual {kind.machine}, {kind.heap // 1024} KiB of heap, {kind.flash // 1024} KiB of flash"
        )
        demo = BoardDemo(device, console)
        console.headline("Phase 1: the board is flashed, connects and subscribes")
        with device:
            demo.flashed()
            demo.offline(messages)
            demo.wifi_drops()
            demo.access_point_gone()
            demo.handler_hangs()
    console.line()
    console.step("Nothing lost, nothing run twice, never stuck")


class BoardDemo:
    """The steps, each printed as it happens."""

    def __init__(self, device: VirtualDevice, console: Console) -> None:
        self._device = device
        self._say = console

    def _check(self, kept: bool, text: str) -> None:
        self._say.step(text, done=kept)
        if not kept:
            raise HostError(f"promise broken: {text}")

    def flashed(self) -> None:
        """Phase 1: the blank board was flashed, and its first wake is over."""
        board = self._device.board
        wait = self._wait_asleep()
        self._say.step(f"{len(board.files())} files on its littlefs, sent through mpremote to {board.port}")
        self._check(wait, f"First wake reported; {self._sleeper()}")

    def _wait_asleep(self) -> bool:
        end = time.monotonic() + _WITHIN
        while time.monotonic() < end:
            if self._asleep:
                return True
            time.sleep(0.02)
        return False

    @property
    def _asleep(self) -> bool:
        return self._device.board.state == "asleep" or self._device.board.in_light_sleep

    def _sleeper(self) -> str:
        board = self._device.board
        if board.state == "asleep":
            return "it is in deep sleep without a process"
        radio, watchdog = ("on" if on else "off" for on in (board.radio_on, board.watchdog_on))
        return f"it is in light sleep, radio {radio}, watchdog {watchdog}"

    def offline(self, count: int) -> None:
        """Phases 2 and 3."""
        self._say.headline(f"Phase 2: the board is asleep, {count} messages are sent")
        texts = [f"Offline message {n}" for n in range(1, count + 1)]
        names = [self._device.send("say", text=text) for text in texts]
        self._check(self._asleep, f"{count} sent, each acknowledged by the broker; {self._sleeper()}")
        self._say.headline("Phase 3: its sleep ends")
        heard, wakes = self._until_settled(names)
        for text in heard:
            self._say.message(f"Received offline message: {text}")
        last = wakes[-1]
        self._tell_wake(last)
        self._check(heard == texts, f"{len(heard)} of {count} messages arrived, each exactly once and in order")

    def wifi_drops(self) -> None:
        """The connection is lost while the second of three commands runs."""
        self._say.headline("Wi-Fi drops in the middle of a wake")
        board = self._device.board
        names = [self._device.send("work", n=n) for n in (1, 2, 3)]
        before = len(board.events)
        watch = threading.Thread(target=self._drop_at, args=('say {"text":"work 2"}', len(board.console)))
        watch.start()
        heard, wakes = self._until_settled(names)
        watch.join()
        self._check(any(e.name == "wifi lost" for e in board.events[before:]), "The connection was lost during work 2")
        for wake in wakes:
            self._tell_wake(wake)
        self._check(heard == ["work 1", "work 2", "work 3"], "Each ran exactly once, and each result is known")

    def _drop_at(self, text: str, position: int) -> None:
        self._device.board.wait_console(text, _WITHIN, after=position)
        self._device.board.wifi.drop()

    def access_point_gone(self) -> None:
        """No access point for five wakes, then it returns."""
        self._say.headline(f"No access point for {_GONE} wakes")
        wifi = self._device.board.wifi
        name = self._device.send("say", text="sent into the dark")
        wifi.present = False
        sleeps = []
        for _ in range(_GONE):
            wake = self._device.wake()
            stage = next((fields["stage"] for fields in wake.all("error")), "none")
            sleeps.append(wake.asleep["next"])
            self._say.note(f"{wake.asleep['ms']} ms awake, stopped at stage {stage}, asleep for {sleeps[-1]} s")
        wifi.present = True
        rising = all(later > earlier for earlier, later in pairwise(sleeps))
        self._check(rising and sleeps[-1] > 8 * sleeps[0], f"Backoff: {', '.join(map(str, sleeps))} s")
        heard, wakes = self._until_settled([name])
        self._tell_wake(wakes[-1])
        self._check(heard == ["sent into the dark"], "The message arrived at the first wake with an access point")

    def handler_hangs(self) -> None:
        """A command that never ends, and one after it."""
        self._say.headline("A handler hangs until the watchdog resets the board")
        names = [self._device.send("hang"), self._device.send("say", text="after the hang")]
        heard, wakes = self._until_settled(names, ("interrupted", "succeeded"))
        self._check("watchdog" in [wake.ended for wake in wakes], "The watchdog reset the board")
        self._tell_wake(wakes[-1])
        self._check(heard == ["hang", "after the hang"], "hang is interrupted and not run again; the next command ran")

    # ---- used by the steps

    def _tell_wake(self, wake: WakeLog) -> None:
        told = wake.asleep
        if told:
            how = "queue empty" if told["drained"] else "stopped early"
            self._say.step(f"{told['ms']} ms awake, {how}, asleep for {told['next']} s", done=told["drained"])

    def _until_settled(self, names: list[str], wanted: tuple[str, ...] = ()) -> tuple[list[str], list[WakeLog]]:
        """Wake the board until every command is final. Returns what it logged and its wakes."""
        device, heard, wakes = self._device, [], []
        views: list[CommandView] = []
        for _ in range(_WAKES):
            wake = device.wake()
            wakes.append(wake)
            heard += [fields["text"] for fields in wake.all("say")]
            confirmed = wake.asleep.get("drained")
            views = [device.fleet.wait(name, _WITHIN if confirmed else 0) for name in names]
            if all(view.final for view in views):
                break
        got = tuple(view.status for view in views)
        expected = wanted or ("succeeded",) * len(names)
        if got != expected:
            raise HostError(f"promise broken: after {len(wakes)} wakes the commands are {', '.join(got)}")
        return heard, wakes
