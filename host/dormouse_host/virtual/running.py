"""A board that a thread of this process runs: what its owner does and sees, whatever simulates the hardware.

Must stay true: every method may be called from any other thread; an action is carried out by the board's own thread,
between two steps of it; an error there is raised by the next call and hides from nobody.
"""

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, Self, TypeVar

from dormouse_host import processes
from dormouse_host.errors import HostError
from dormouse_host.virtual.console import Console
from dormouse_host.virtual.cuts import parse_cut
from dormouse_host.virtual.hardware import Event
from dormouse_host.virtual.image import list_files, read_file
from dormouse_host.virtual.kind import BoardKind
from dormouse_host.virtual.wifi import Wifi

_Found = TypeVar("_Found")


class Pins(Protocol):
    """The pins and what is connected to them. `battery` in volts; `driven`: the last changes of outputs."""

    battery: float

    @property
    def driven(self) -> Iterable[tuple[int | str, int]]:
        """Pin and level, in order."""

    def level(self, pin: int | str) -> int:
        """The level of a pin."""


class Simulation(Protocol):
    """What the thread drives; every method is called with the lock held."""

    events: list[Event]
    orders: list[Callable[[], object]]
    output: bytearray
    console: Console
    state: str
    cut: str | None
    wifi: Wifi

    @property
    def pins(self) -> Pins:
        """The pins."""

    @property
    def speed(self) -> float:
        """The factor by which sleep passes faster."""

    def set_speed(self, speed: float) -> None:
        """Set that factor."""

    @property
    def in_light_sleep(self) -> bool:
        """Is the processor in machine.lightsleep?"""

    @property
    def radio_on(self) -> bool:
        """Is the Wi-Fi chip switched on?"""

    @property
    def watchdog_on(self) -> bool:
        """Does the watchdog run?"""

    def power_on(self) -> None:
        """Turn power on."""

    def power_cut(self) -> None:
        """Cut power."""

    def press_reset(self) -> None:
        """Press the reset button."""

    def set_pin(self, pin: int | str, level: int | None) -> None:
        """Drive a pin from outside, or release it."""

    def type(self, data: bytes) -> None:
        """Input on the serial line."""

    def listens(self) -> bool:
        """Does the program accept input?"""

    def register(self, poll: select.poll) -> None:
        """Register what to wait for."""

    def until_turn(self) -> float:
        """Seconds until the next timed event."""

    def turn(self, ready: set[int]) -> None:
        """Do everything that is due."""

    def close(self) -> None:
        """End it."""


def _check_speed(speed: float) -> None:
    if not 1 <= speed <= 1000:
        raise HostError(f"speed {speed:g}: expected 1 to 1000", 2)


class RunningBoard(processes.Started):
    """The board with its flash in `folder`/flash.img and its port at `folder`/port; `start` switches it on."""

    host = "127.0.0.1"  # this machine's address as the board reaches it
    patience = 1.0  # times as long as a board takes
    _what = "virtual board"

    def __init__(self, kind: BoardKind, folder: str | Path, speed: float) -> None:
        """A subclass sets `_hardware` at the end of its own. HostError for a speed out of its range."""
        _check_speed(speed)
        self.kind = kind
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(f"{self.folder}: {error.strerror}", 2) from None
        self._hardware: Simulation
        self._lock = threading.Condition(threading.RLock())
        self._wake_up = -1, -1  # of a board that runs: a pipe to its thread
        self._thread: threading.Thread | None = None
        self._folder_lock = -1
        self._closing = False
        self._failure: BaseException | None = None

    # ---- power

    def start(self) -> Self:
        """Switch it on. HostError where another board has its folder, and so its flash and port."""
        if self._thread is None:
            self._take_folder()
            self._wake_up = os.pipe()
            os.set_blocking(self._wake_up[0], False)
            self._thread = threading.Thread(target=self._run, name=f"board {self.kind.name}", daemon=True)
            self._thread.start()
        self.power_on()
        return self

    def close(self) -> None:
        """Cut the power and remove the port for good; the flash stays."""
        if self._thread:
            self._closing = True
            self._nudge()
            self._thread.join()
            self._thread = None
            for descriptor in (*self._wake_up, self._folder_lock):
                os.close(descriptor)
        elif not self._closing:
            self._closing = True
            self._hardware.close()

    def _take_folder(self) -> None:
        """Lock the folder itself, which leaves no file and ends with the process."""
        self._folder_lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._folder_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._folder_lock)
            raise HostError(f"{self.folder}: a board runs there already: choose another folder", 2) from None

    def power_on(self) -> None:
        """Turn power on. No effect where it is on."""
        self._do(self._hardware.power_on)

    def power_cut(self) -> None:
        """Cut power at once (SIGKILL), until `power_on`."""
        self._do(self._hardware.power_cut)

    def power_cycle(self) -> None:
        """Cut power and turn it on again."""
        self.power_cut()
        self.power_on()

    def cut_at(self, point: str) -> None:
        """Cut power at a flash operation after the next boot, as `17:torn`. HostError for no such point."""
        parse_cut(point)
        self._do(lambda: setattr(self._hardware, "cut", point))

    def press_reset(self) -> None:
        """Press the reset button."""
        self._do(self._hardware.press_reset)

    # ---- its surroundings

    def from_here(self, host: str, port: int) -> tuple[str, int]:
        """Where this machine reaches what the board reaches at that host and port."""
        host, port = self.wifi.place(host, port)
        return ("127.0.0.1" if host == self.host else host), port

    @property
    def wifi(self) -> Wifi:
        """The access point; change it at any time."""
        return self._hardware.wifi

    @property
    def battery(self) -> float:
        """Volts."""
        return self._hardware.pins.battery

    @battery.setter
    def battery(self, volts: float) -> None:
        self._hardware.pins.battery = volts

    @property
    def speed(self) -> float:
        """The factor by which sleep passes faster, 1 to 1000; a change applies to a running sleep too."""
        return self._hardware.speed

    @speed.setter
    def speed(self, speed: float) -> None:
        _check_speed(speed)
        self._do(lambda: self._hardware.set_speed(speed))

    def set_pin(self, pin: int | str, level: int | None) -> None:
        """Drive an input from outside, None to release it. It may wake the board."""
        self._do(lambda: self._hardware.set_pin(pin, level))

    def pin(self, pin: int | str) -> int:
        """The level of a pin."""
        return self._hardware.pins.level(pin)

    @property
    def driven(self) -> list[tuple[int | str, int]]:
        """The last thousand changes of outputs, in order."""
        return list(self._hardware.pins.driven)

    # ---- its port

    @property
    def port(self) -> str:
        """The serial port, a symbolic link; missing while the board's own USB is."""
        return str(self.folder / "port")

    @property
    def url(self) -> str:
        """The serial line over TCP, for pyserial and mpremote."""
        return f"socket://127.0.0.1:{self._hardware.console.tcp}"

    @property
    def console(self) -> str:
        """All output of the board."""
        with self._lock:
            return self._hardware.output.decode(errors="replace")

    def type(self, text: str) -> None:
        """Send to its serial line."""
        self._do(lambda: self._hardware.type(text.encode()))

    def mpremote(self, *arguments: str, timeout: float = 60) -> str:
        """Run mpremote and return its output. HostError with its message where it fails."""
        argv = [sys.executable, "-m", "mpremote", "connect", self.port, *arguments]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise HostError(f"mpremote {arguments[0] if arguments else ''}: not done in {timeout:g} s") from None
        if done.returncode:
            words = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise HostError(f"mpremote {arguments[0] if arguments else ''}: {words}")
        return done.stdout

    # ---- its flash

    @property
    def image(self) -> Path:
        """The file that is its flash."""
        return self.folder / "flash.img"

    def read_file(self, path: str) -> bytes:
        """A file of the image, read by another implementation of littlefs. HostError where it is missing.

        A running board may be in the middle of a change; what was flushed is there.
        """
        return read_file(self.kind, self.image, path)

    def files(self) -> list[str]:
        """All files in the image, with their folders."""
        return list_files(self.kind, self.image)

    # ---- its state and events

    @property
    def state(self) -> str:
        """off, running, asleep, or locked (an RP2040 whose watchdog expired in its sleep)."""
        return self._hardware.state

    @property
    def in_light_sleep(self) -> bool:
        """Is its processor in machine.lightsleep? Its state is "running" then."""
        return self._hardware.in_light_sleep

    @property
    def radio_on(self) -> bool:
        """Is the Wi-Fi chip switched on?"""
        return self._hardware.radio_on

    @property
    def watchdog_on(self) -> bool:
        """Does the watchdog run?"""
        return self._hardware.watchdog_on

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the simulation, if any."""
        return self._failure

    def check(self) -> None:
        """HostError where an error has ended the simulation: nothing more will come of it."""
        if self._failure:
            raise HostError(f"the {self._what} broke: {self._failure}") from self._failure

    @property
    def events(self) -> list[Event]:
        """All events so far: boot, asleep, awake, reset, watchdog, cut, wifi up, wifi lost, …"""
        with self._lock:
            return list(self._hardware.events)

    def wait_event(
        self, name: str, timeout: float = 30, *, after: int = 0, where: Callable[[Event], bool] = lambda event: True
    ) -> Event:
        """Wait for the first event of that name from number `after` on. HostError after `timeout` seconds."""

        def found() -> Event | None:
            return next((e for e in self._hardware.events[after:] if e.name == name and where(e)), None)

        return self._wait(found, timeout, f"event {name!r}")

    def wait_boot(self, timeout: float = 30, *, after: int = 0) -> Event:
        """Wait until its processor has started and accepts input."""
        event = self.wait_event("boot", timeout, after=after)
        self._wait(lambda: self._hardware.listens() or None, timeout, "that it accepts input")
        return event

    def wait_console(self, text: str, timeout: float = 30, *, after: int = 0) -> int:
        """Wait until `text` is in its output from position `after` on. Returns the position behind it."""

        def found() -> int | None:
            at = self.console.find(text, after)
            return None if at < 0 else at + len(text)

        return self._wait(found, timeout, f"{text!r} on its console")

    def _wait(self, found: Callable[[], _Found | None], timeout: float, what: str) -> _Found:
        end = time.monotonic() + timeout
        with self._lock:
            while (result := found()) is None:
                left = end - time.monotonic()
                self.check()
                if left <= 0 or self._thread is None:
                    last = self.console.strip().splitlines()[-3:]
                    raise HostError(f"{self.kind.name} ({self.state}): waited {timeout:g} s for {what}; last: {last}")
                self._lock.wait(min(left, 0.1))
        return result

    # ---- its thread

    def _do(self, action: Callable[[], object]) -> None:
        with self._lock:
            self.check()
            self._hardware.orders.append(action)
        self._nudge()
        if self._thread:
            self._wait(lambda: action not in self._hardware.orders or None, 30, "it to react")

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_up[1], b"!")

    def _run(self) -> None:
        hardware = self._hardware
        try:
            while not self._closing:
                poll = select.poll()
                poll.register(self._wake_up[0], select.POLLIN)
                with self._lock:
                    hardware.register(poll)
                    seconds = hardware.until_turn()
                ready = {fd for fd, _ in poll.poll(max(0.0, seconds) * 1000)}
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_up[0], 64)
                with self._lock:
                    hardware.turn(ready)
                    self._lock.notify_all()
        except BaseException as failure:
            self._failure = failure  # raised by the next call
        finally:
            with self._lock:
                hardware.close()
                self._lock.notify_all()
