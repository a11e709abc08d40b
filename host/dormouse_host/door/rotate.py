"""A device's password changed from afar, and no instant at which it is locked out.

Must stay true, mosquitto knowing one password a user:
1. the broker's file takes the new one only after the device has answered that it holds both, on its flash: until then
   the old one is accepted, and stays so where the device never comes;
2. the device drops an old one only after the broker has accepted the newest, and the file never goes back.
So what the broker accepts is at each instant among what the device tries, whether or not the broker has read its file
again, and whichever of host, broker and device was killed between two steps;
3. what is under way stands in a file before the command is entered, and that file goes last: the same call again goes
on with the same password. One call at a time; a revocation ends it.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dormouse_host import Fleet
from dormouse_host.door import files, passwords
from dormouse_host.door.broker import BrokerFolder
from dormouse_host.door.provision import check_name, has_credential, put_secrets, rotation
from dormouse_host.errors import HostError
from dormouse_host.ledger.views import SET_PASSWORD

_HELD = "on trial"  # what the device answers once it holds both


def rotate(
    made: BrokerFolder,
    fleet: Fleet,
    device: str,
    project: Path,
    seconds: float | None = None,
    tell: Callable[[str], object] = lambda name: None,
) -> bool:
    """Give a device a new password, and return when the broker's file has it: does the running broker know?

    Waits for the device as long as it takes or `seconds`; `tell` is told the command's name first. HostError where the
    device has no password, has not answered in time (the same call goes on), or keeps its old one.
    """
    check_name(device)
    if device not in passwords.users(made.passwd):
        why = (
            "has a certificate: revoke it, provision --cert and flash" if has_credential(made, device) else "is unknown"
        )
        raise HostError(f"{device} {why}; rotate changes passwords", 2)
    path = rotation(made, device)
    with _alone(path):
        under_way = _entered(path, fleet, device)
        name = under_way["command"]
        tell(name)
        view = fleet.wait(name, seconds)
        if not view.final:
            raise HostError(f"{device} has not answered yet; its password still holds: dormouse rotate goes on, {name}")
        if view.status != "succeeded" or view.value != _HELD:
            path.unlink(missing_ok=True)
            raise HostError(
                f"{device} keeps its password: {name} {view.status}" + (f", {view.why}" if view.why else "")
            )
        if _read(path) != under_way:
            raise HostError(f"{device} was revoked meanwhile")
        passwords.put(made.passwd, device, under_way["password"])
        told = made.reload()
        put_secrets(project, device, {"user": device, "password": under_way["password"]})
        path.unlink()
        return told


def _entered(path: Path, fleet: Fleet, device: str) -> dict[str, Any]:
    """What is under way, with the command in the ledger; begun where nothing was."""
    under_way = _read(path)
    if not under_way:
        under_way = {"password": passwords.fresh()}
        files.write(path, json.dumps(under_way))
    if "command" in under_way:
        try:
            fleet.result(under_way["command"])
            return under_way
        except HostError:  # deleted as old, or in a ledger that is gone: to be told the same again does no harm
            pass
    under_way["command"] = fleet.send(device, SET_PASSWORD, {"password": under_way["password"]}).name
    files.write(path, json.dumps(under_way))
    return under_way


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files.read(path)) if path.exists() else {}
    return found


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process rotates this device meanwhile."""
    files.folder(path.parent)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, files.PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise HostError(f"{path.stem} is being rotated by another process") from None
    finally:
        os.close(descriptor)
