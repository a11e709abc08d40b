"""Devices' credentials: created, written where `dormouse flash` finds them, and revoked.

A device has one credential of its own. A password exists in its secrets.json and nowhere else in clear. What is revoked
is refused at once, connected or not. A device's name cannot lead out of its folder.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host import files
from dormouse_host.broker.folder import (
    RELAY_PREFIX,
    BrokerFolder,
    add_rights,
    fresh_password,
    put_passwords,
    put_shared_keys,
    remove_password,
    remove_rights,
    users,
)
from dormouse_host.errors import HostError

DEVICES = "devices"  # beside dormouse.toml; never in git
_SHARED_KEY = 32  # bytes: as many as mbedtls takes
_SIGNED = "command_key"  # of secrets.json


@dataclass(frozen=True)
class Provisioned:
    """The folders with the files of devices, and whether the running broker has reloaded its files."""

    folders: dict[str, Path]
    told: bool

    @property
    def folder(self) -> Path:
        """Of the only device."""
        (folder,) = self.folders.values()
        return folder


def check_name(device: str) -> str:
    """A device's id, as it may be in a path, a topic and a certificate. HostError where it is none."""
    try:
        protocol.check_device_id(device)
    except ConfigError as error:
        raise HostError(error.reason, 2) from None
    if device.startswith(RELAY_PREFIX):
        raise HostError(f"{device}: names with {RELAY_PREFIX} are reserved for relays", 2)
    return device


def has_credential(made: BrokerFolder, device: str) -> bool:
    """Does the broker accept this device?"""
    return device in users(made.passwd) or bool(issued(made, device)) or device in sharing(made)


def fresh_key() -> str:
    """A new key for a device to share with the broker, in hex."""
    return token_hex(_SHARED_KEY)


def sharing(made: BrokerFolder) -> list[str]:
    """The devices that share a key with the broker."""
    return [] if files.find(made.psk) is None else users(made.psk)


def issued(made: BrokerFolder, device: str) -> list[int]:
    """Serial numbers of this device's valid certificates."""
    return _issued(made).get(device, [])


def issue(made: BrokerFolder, serials: Mapping[str, int]) -> None:
    """Record another valid certificate of each of these devices."""
    known = _issued(made)
    _record(made, {device: sorted({*known.get(device, ()), serial}) for device, serial in serials.items()})


def keep_only(made: BrokerFolder, device: str, *serials: int) -> None:
    """Revoke all certificates of a device but these. The broker is not reloaded here."""
    kept = [serial for serial in issued(made, device) if serial in serials]
    gone = [serial for serial in issued(made, device) if serial not in serials]
    files.write(made.broker / "revoked.pem", made.authority.revoke(*gone), files.PUBLIC)
    _record(made, {device: kept})


def put_certificate(project: Path, device: str, cert: bytes, key: bytes) -> None:
    """Write certificate and key for `dormouse flash`, both in DER."""
    folder = _device_folder(project, device)
    files.write(folder / "cert.der", cert)
    files.write(folder / "key.der", key)


def provision(made: BrokerFolder, device: str, project: Path, *, cert: bool = False, psk: bool = False) -> Provisioned:
    """Create a device's credential: a password, a certificate, or a shared key. HostError where it has one already."""
    return provision_all(made, [device], project, cert=cert, psk=psk)


def provision_all(
    made: BrokerFolder,
    devices: Sequence[str],
    project: Path,
    *,
    cert: bool = False,
    psk: bool = False,
    missing: bool = False,
    on_progress: Callable[[int], object] = lambda done: None,
) -> Provisioned:
    """Create a credential of its own for each device, a password, a certificate or a shared key, and tell the broker
    once.

    HostError where a name is no device's, or one has a credential already: then nothing is written. `missing`: those
    that have one are passed over. The broker's files take passwords and keys last, so that a call that was killed is
    repeated with the same names. `on_progress` is told how many devices are done.
    """
    if cert and psk:
        raise HostError("use --cert or --psk, not both", 2)
    if psk and made.psk_port is None:
        raise HostError(f"{made.path} has no listener for shared keys: dormouse broker init --psk makes one", 2)
    devices = list(dict.fromkeys(map(check_name, devices)))
    with made.alone():
        there = {*users(made.passwd), *_issued(made), *sharing(made)}
        known = [device for device in devices if device in there]
        if known and not missing:
            more = f" (and {len(known) - 1} others)" if len(known) > 1 else ""
            skip = ", or pass over such devices with --missing" if len(devices) > 1 else ""
            raise HostError(f"{known[0]}{more} has a credential already: first dormouse revoke {known[0]}{skip}", 2)
        new = [device for device in devices if device not in there]
        return _provision(made, new, project, on_progress, cert=cert, psk=psk) if new else Provisioned({}, True)


def _provision(
    made: BrokerFolder,
    devices: Sequence[str],
    project: Path,
    on_progress: Callable[[int], object],
    *,
    cert: bool,
    psk: bool,
) -> Provisioned:
    authority, root = made.authority, {"root": made.root} if made.root != protocol.ROOT else {}
    config = {"broker": made.url(cert=cert), "ca": "ca.der", **root}
    passwords: dict[str, str] = {}
    keys: dict[str, str] = {}
    folders: dict[str, Path] = {}
    for done, device in enumerate(devices, 1):
        folder = folders[device] = _device_folder(project, device)
        if psk:
            for left in folder.glob("*.der"):  # of a certificate that was revoked
                files.remove(left)
            keys[device] = fresh_key()
            _keep_secrets(folder, {"password": keys[device]})
            _keep(folder / "config.json", {"id": device, "broker": made.url(port=made.psk_port), "psk": True, **root})
            on_progress(done)
            continue
        files.write(folder / "ca.der", authority.der)
        if cert:
            signed = authority.client(device)
            issue(made, {device: signed.certificate.serial_number})  # before anybody can have it
            put_certificate(project, device, signed.der, signed.key_der)
            _keep_secrets(folder, {})
            _keep(folder / "config.json", {"id": device, **config, "cert": "cert.der", "key": "key.der"})
        else:
            passwords[device] = fresh_password()
            _keep_secrets(folder, {"user": device, "password": passwords[device]})
            _keep(folder / "config.json", {"id": device, **config})
        on_progress(done)
    remove_rights(made, *devices)  # the denials of those that were revoked before
    if passwords:
        put_passwords(made.passwd, passwords)
    if keys:
        put_shared_keys(made.psk, keys)
    return Provisioned(folders, made.reload())


def sign(device: str, project: Path) -> tuple[Path, str]:
    """Write a new key for signed commands to secrets.json. Returns the folder, and the key for the ledger."""
    check_name(device)
    key = token_hex(32)
    return put_secrets(project, device, {_SIGNED: key}), key


def put_secrets(project: Path, device: str, values: dict[str, str]) -> Path:
    """Change these values in the device's secrets.json. Returns its folder."""
    folder = _device_folder(project, device)
    path = folder / "secrets.json"
    with files.alone(folder):
        _keep(path, {**files.read_object(path), **values})
    return folder


def rotation(made: BrokerFolder, device: str) -> Path:
    """The file of a rotation that is in progress (rotation.py)."""
    return made.path / "rotating" / f"{device}.json"


def _device_folder(project: Path, device: str) -> Path:
    folder = files.folder(files.folder(project / DEVICES) / device)
    if files.find(project / DEVICES / ".gitignore") is None:
        files.write(project / DEVICES / ".gitignore", "*\n")
    return folder


def revoke(made: BrokerFolder, device: str) -> bool:
    """Revoke a device's credential. Has the running broker reloaded? HostError where the device has none."""
    check_name(device)
    with made.alone():
        if not has_credential(made, device):
            raise HostError(f"{device} has no credential here", 2)
        files.remove(rotation(made, device))
        if issued(made, device):
            keep_only(made, device)
        remove_password(made.passwd, device)
        if device in sharing(made):
            remove_password(made.psk, device)
        add_rights(made, device, f"topic deny {made.root}/{device}/#\n")  # for a device that is connected now
        return made.reload()


def _keep(path: Path, values: Mapping[str, object]) -> None:
    files.write(path, json.dumps(values, indent=1, sort_keys=True) + "\n")


def _keep_secrets(folder: Path, values: Mapping[str, object]) -> None:
    """A new credential, beside the key of signed commands: the ledger goes on signing with it."""
    path = folder / "secrets.json"
    key = files.read_object(path).get(_SIGNED)
    _keep(path, {**values, _SIGNED: key} if key else values)


def _issued(made: BrokerFolder) -> dict[str, list[int]]:
    """Serial numbers of the valid certificates by device."""
    path = made.path / "ca" / "issued.json"
    found = files.read_object(path)
    if not all(isinstance(serials, list) and all(isinstance(n, int) for n in serials) for serials in found.values()):
        raise files.damaged(path)
    return found


def _record(made: BrokerFolder, serials: Mapping[str, list[int]]) -> None:
    issued = {**_issued(made), **serials}
    files.write(made.path / "ca" / "issued.json", json.dumps({k: v for k, v in issued.items() if v}, indent=1) + "\n")
