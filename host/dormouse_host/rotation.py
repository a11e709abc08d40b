"""A device's credential changed from afar, and no instant at which it is locked out.

Must stay true. Of passwords, and of shared keys, mosquitto knows one a user:
1. the broker's file takes the new one only after the device has answered that it holds both, on its flash: until then
   the old one is accepted, and stays so where the device never comes;
2. the device drops an old one only after the broker has accepted the newest, and the file never goes back.
Of certificates mosquitto takes all that are not revoked, so there is no instant at which the device has to try:
3. the new one is valid before the device can have it, and the old ones are revoked only after the device has answered
   over a connection made with the new one, with which it has dropped the others; no new one is ever revoked while a
   device may hold it, whatever it answered;
4. what is flashed next is a pair that is valid: the files of the device change before the old one is revoked.
So what the broker accepts is at each instant among what the device tries, whether or not the broker has read its files
again, and whichever of host, broker and device was killed between two steps.
For both: what is under way stands in a file before the command is entered, and that file goes last: the same call again
goes on with the same credential. One call at a time; a revocation ends it.
"""

import json
import os
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509

from dormouse_host import files, orders
from dormouse_host.broker import credentials, folder
from dormouse_host.broker.folder import BrokerFolder
from dormouse_host.errors import HostError
from dormouse_host.fleet import Fleet
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.queries import CommandView
from dormouse_host.releases import LOOK

_HELD, _USED = "on trial", "in use"  # what the device answers: it holds the new one; it has connected with it
_AT_ONCE = 200  # devices that are rotated together: each has a lock file open
_ASKS = 6  # how often it is asked whether it has


@dataclass(frozen=True)
class Rotated:
    """A `password`, a `certificate` or a `shared key` has been changed; does the running broker know?"""

    what: str
    told: bool


@dataclass(frozen=True)
class _Password:
    """How a password is changed."""

    made: BrokerFolder
    device: str
    project: Path
    what: ClassVar[str] = "password"
    do: ClassVar[str] = "set_password"
    enough: ClassVar[tuple[str, ...]] = (_HELD, _USED)  # the answers after which the broker changes

    def fresh(self) -> dict[str, str]:
        """The command's arguments."""
        return {"password": folder.fresh_password()}

    def whole(self, args: dict[str, str]) -> bool:
        """Is it what `fresh` has made?"""
        return bool(args.get("password")) and all(isinstance(value, str) for value in args.values())

    def allow(self, args: dict[str, str]) -> None:
        """Before the device can have it: nothing, for mosquitto would take the old one no more."""

    def finish(self, args: dict[str, str]) -> bool:
        """Let the device in with the new one alone. Does the running broker know?"""
        folder.put_password(self.made.passwd, self.device, args["password"])
        told = self.made.reload()
        credentials.put_secrets(self.project, self.device, {"user": self.device, "password": args["password"]})
        return told


@dataclass(frozen=True)
class _SharedKey(_Password):
    """How a key that device and broker share is changed: mosquitto knows one a device of these, too."""

    what: ClassVar[str] = "shared key"

    def fresh(self) -> dict[str, str]:
        """The command's arguments."""
        return {"password": credentials.fresh_key()}

    def finish(self, args: dict[str, str]) -> bool:
        """Let the device in with the new one alone. Does the running broker know?"""
        folder.put_shared_keys(self.made.psk, {self.device: args["password"]})
        told = self.made.reload()
        credentials.put_secrets(self.project, self.device, {"password": args["password"]})
        return told


@dataclass(frozen=True)
class _Certificate:
    """How a certificate is changed."""

    made: BrokerFolder
    device: str
    project: Path
    what: ClassVar[str] = "certificate"
    do: ClassVar[str] = "set_certificate"
    enough: ClassVar[tuple[str, ...]] = (_USED,)

    def fresh(self) -> dict[str, str]:
        """The command's arguments: certificate and key, in DER, as base64."""
        signed = self.made.authority.client(self.device)
        return {"cert": b64encode(signed.der).decode(), "key": b64encode(signed.key_der).decode()}

    def whole(self, args: dict[str, str]) -> bool:
        """Is it what `fresh` has made? ValueError or TypeError where it isn't, too."""
        return bool(_serial(args)) and bool(b64decode(args.get("key", "")))

    def allow(self, args: dict[str, str]) -> None:
        """Before the device can have it: a revocation of the device is one of this certificate, too."""
        credentials.issue(self.made, {self.device: _serial(args)})

    def finish(self, args: dict[str, str]) -> bool:
        """Let the device in with the new one alone. Does the running broker know?"""
        credentials.put_certificate(self.project, self.device, b64decode(args["cert"]), b64decode(args["key"]))
        credentials.keep_only(self.made, self.device, _serial(args))
        return self.made.reload()


def _serial(args: dict[str, str]) -> int:
    return x509.load_der_x509_certificate(b64decode(args.get("cert", ""))).serial_number


def rotate(
    made: BrokerFolder,
    fleet: Fleet,
    device: str,
    project: Path,
    seconds: float | None = None,
    tell: Callable[[str], object] = lambda name: None,
) -> Rotated:
    """Give a device a new password or certificate, and return when the broker takes no other.

    Waits for the device as long as it takes or `seconds`; `tell` is told the name of each command that is waited for.
    HostError where the device has no credential, has not answered in time (the same call goes on), or keeps its old
    one (the same call begins anew).
    """
    steps = _steps(made, fleet, device, project, _until(seconds), tell)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            done: Rotated = end.value
            return done
        time.sleep(LOOK)


def rotate_all(
    made: BrokerFolder,
    fleet: Fleet,
    devices: Sequence[str],
    project: Path,
    seconds: float | None = None,
    tell: Callable[[str], object] = lambda name: None,
) -> Iterator[tuple[str, Rotated | HostError]]:
    """The same for several devices at once, in whatever order they wake: each as it is done, or why it is not. The
    others go on after an error of one.
    """
    until = _until(seconds)
    waiting = list(dict.fromkeys(devices))[::-1]
    running: dict[str, Iterator[None]] = {}
    while waiting or running:
        while waiting and len(running) < _AT_ONCE:
            device = waiting.pop()
            running[device] = _steps(made, fleet, device, project, until, tell)
        for device, steps in list(running.items()):
            try:
                next(steps)
                continue
            except StopIteration as end:
                done: Rotated | HostError = end.value
            except HostError as error:
                done = error
            del running[device]
            yield device, done
        time.sleep(LOOK * (1 + len(running) / 10) if running else 0)


def _until(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _steps(
    made: BrokerFolder,
    fleet: Fleet,
    device: str,
    project: Path,
    until: float | None,
    tell: Callable[[str], object],
) -> Generator[None, None, Rotated]:
    """The rotation of one device: yields while there is nothing to do but to wait."""
    credentials.check_name(device)
    if not credentials.has_credential(made, device):
        raise HostError(f"{device} is unknown to this broker: dormouse provision {device}", 2)
    way = _Password if device in folder.users(made.passwd) else _Certificate
    kind = (_SharedKey if device in credentials.sharing(made) else way)(made, device, project)
    path = credentials.rotation(made, device)
    with _alone(path):
        told = yield from _Rotation(kind, fleet, path, until, tell).run()
    return Rotated(kind.what, told)


class _Rotation:
    """One call. The file holds the command's arguments and, once it is entered, its name as `command`."""

    def __init__(
        self,
        kind: _Password | _Certificate,
        fleet: Fleet,
        path: Path,
        until: float | None,
        tell: Callable[[str], object],
    ) -> None:
        self.kind = kind
        self.fleet = fleet
        self.path = path
        self.tell = tell
        self.until = until
        self.under_way = self._read()

    def run(self) -> Generator[None, None, bool]:
        """Until the new credential is the only one. Does the running broker know?"""
        with self._not_revoked():
            if not self.under_way:
                self.under_way = self.kind.fresh()
                self._write()
            args = {key: value for key, value in self.under_way.items() if key != "command"}
            self.kind.allow(args)
        yield from self._convince(args)
        with self._not_revoked():
            told = self.kind.finish(args)
            files.remove(self.path)
        return told

    @contextmanager
    def _not_revoked(self) -> Iterator[None]:
        """A revocation comes before this or after it. HostError where it came before."""
        with self.kind.made.alone():
            gone = self.under_way and not self.path.exists()
            if gone or not credentials.has_credential(self.kind.made, self.kind.device):
                raise HostError(f"{self.kind.device} was revoked meanwhile")
            yield

    def _convince(self, args: dict[str, str]) -> Generator[None]:
        """Until the device has given the answer that is enough. HostError where it does not."""
        wake = None
        for _ in range(_ASKS):
            view = yield from self._answer(args)
            if view.status != "succeeded" or view.value not in (_HELD, _USED):
                raise self._given_up(f"{view.name} {view.status}" + (f", {view.why}" if view.why else ""))
            if view.value in self.kind.enough:
                return
            before, wake = wake, self._wake()
            while before is not None and wake == before:  # asked twice in one wake: the next answer is the same
                self._check_time(view.name)
                yield
                wake = self._wake()
            del self.under_way["command"]
        raise self._given_up(f"it has not connected with the new one, though asked {_ASKS} times")

    def _answer(self, args: dict[str, str]) -> Generator[None, None, CommandView]:
        """What the device says to the command, which is entered unless it was before."""
        name = self.under_way.get("command")
        try:
            view = self.fleet.result(name) if name else None
        except HostError:  # deleted as old, or in a ledger that is gone: to be told the same again does no harm
            view = None
        if view is None:
            with self._not_revoked():
                self.under_way["command"] = self._enter(args)
                self._write()
        name = self.under_way["command"]
        self.tell(name)
        while not (view := self.fleet.result(name)).final:
            self._check_time(name)
            yield
        return view

    def _enter(self, args: dict[str, str]) -> str:
        """Fleet.send takes no credentials, so that nobody sends one by hand."""
        [view] = self.fleet.ledger.devices(self.kind.device)
        text, _ = orders.check(view, self.kind.do, args, None)
        [name] = self.fleet.ledger.enter([Order(view.id, self.kind.do, text)])
        return name

    def _wake(self) -> Any:
        """The number of the last wake that is known."""
        [view] = self.fleet.status(self.kind.device)
        return view.report.get("wake")

    def _check_time(self, name: str) -> None:
        if self.until is not None and time.monotonic() >= self.until:
            raise self._not_yet(name)

    def _not_yet(self, name: str) -> HostError:
        device, what = self.kind.device, self.kind.what
        why = f"{device} has not answered yet: {name} waits for it, and its {what} still holds"
        return HostError(f"{why}; go on with dormouse rotate {device}")

    def _given_up(self, why: str) -> HostError:
        """What the device may hold all the same stays valid."""
        files.remove(self.path)
        return HostError(f"{self.kind.device} keeps its {self.kind.what}: {why}")

    def _read(self) -> dict[str, str]:
        found = files.read_object(self.path)
        try:
            whole = not found or self.kind.whole(found)
        except (ValueError, TypeError):
            whole = False
        if not whole:
            raise HostError(f"{self.path} is damaged: remove it, and dormouse rotate begins anew", 2)
        return found

    def _write(self) -> None:
        files.write(self.path, json.dumps(self.under_way))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process rotates this device meanwhile."""
    files.folder(path.parent)
    descriptor, ours = files.lock(path.with_suffix(".lock"))
    try:
        if not ours:
            raise HostError(f"{path.stem} is being rotated by another process")
        yield
    finally:
        os.close(descriptor)
