"""Credentials of the host's own clients at the broker: relays, and users that look on or send, such as a dashboard.

A relay has a credential of its own, because the broker makes the user's name the client id: two relays with one would
take each other's session. A user that may only read cannot pass for a device either. A password exists in its
`.env` file and nowhere else in clear. No name is given twice, to whatever client.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host import files
from dormouse_host.address import BrokerAddress
from dormouse_host.broker import credentials
from dormouse_host.broker.folder import (
    RELAY_PREFIX,
    BrokerFolder,
    add_rights,
    fresh_password,
    put_password,
    remove_password,
    remove_rights,
    users,
)
from dormouse_host.errors import HostError

RELAY_RIGHTS = """\
topic read {root}/+/up/#
topic write {root}/+/down/cmd
topic write {root}/+/up/wake
topic write {root}/alerts/#
topic readwrite homeassistant/#
"""  # the third to clear a removed device's report, the others for alerts and Home Assistant
USER_RIGHTS = "topic read {root}/+/up/#\ntopic read {root}/alerts/#\n"
HOME_RIGHTS = "topic readwrite homeassistant/#\n"
SENDER_RIGHTS = "topic write {root}/+/down/cmd\n"


@dataclass(frozen=True)
class Added:
    """The file with a client's environment (broker, password, CA), and whether the running broker knows of it."""

    file: Path
    told: bool


def relay_of(user: str | None) -> str | None:
    """The relay whose credential has this user name; None where it is no relay's."""
    return user.removeprefix(RELAY_PREFIX) if user and user.startswith(RELAY_PREFIX) else None


def as_device(broker: BrokerAddress, project: Path, device: str) -> BrokerAddress:
    """The broker with this device's own login, as `dormouse provision` put it into the project; as it is where there is
    none. HostError where that is a relay's: the broker would take us for the relay, and end its session.
    """
    held = files.read_object(project / credentials.DEVICES / device / "secrets.json")
    if isinstance(held.get("user"), str) and isinstance(held.get("password"), str):
        return replace(broker, user=held["user"], password=held["password"])
    if relay_of(broker.user) is not None:
        own = f"log in as {device}, with MQTT_USERNAME and MQTT_PASSWORD, or give --offline"
        raise HostError(f"{broker.user} is a relay's login, whose session would end at the broker: {own}", 2)
    return broker


def check_relay(name: str) -> None:
    """HostError unless this can be a relay's name."""
    try:
        protocol.check_device_id(RELAY_PREFIX + name)
    except ConfigError:
        raise HostError(f"{name!a} is not a relay's name: use letters, digits, - _ and .", 2) from None


def add_relay(made: BrokerFolder, name: str) -> Added:
    """Create a relay's credential. HostError where it has one already."""
    check_relay(name)
    with made.alone():
        if RELAY_PREFIX + name in users(made.passwd):
            hint = f"it is in {made.relay_file(name)}, or first dormouse broker remove-relay {name}"
            raise HostError(f"relay {name} has a credential already: {hint}", 2)
        let_relay_in(made, name)
        return Added(made.relay_file(name), made.reload())


def let_relay_in(made: BrokerFolder, name: str) -> None:
    """Write a relay's credential; the caller holds the folder's lock, and tells the broker."""
    _let_in(made, RELAY_PREFIX + name, RELAY_RIGHTS.format(root=made.root), made.relay_file(name))


def remove_relay(made: BrokerFolder, name: str) -> bool:
    """Remove a relay's credential. Has the running broker reloaded? HostError where it has none."""
    check_relay(name)
    return _remove(made, RELAY_PREFIX + name, made.relay_file(name), f"relay {name}")


def add_user(made: BrokerFolder, name: str, *, read_only: bool, home: bool = False) -> Added:
    """Create a user that reads what all devices say and, unless it is `read_only`, sends commands; or one for Home
    Assistant, which has its own topics alone. HostError where the name is taken, by a device too.
    """
    credentials.check_name(name)
    own = USER_RIGHTS + ("" if read_only else SENDER_RIGHTS)
    rights = (HOME_RIGHTS if home else own) + "topic deny {root}/{name}/#\n"  # it is no device
    with made.alone():
        if credentials.has_credential(made, name):
            raise HostError(f"{name} is taken at this broker: choose another name", 2)
        _let_in(made, name, rights.format(root=made.root, name=name), made.user_file(name))
        return Added(made.user_file(name), made.reload())


def remove_user(made: BrokerFolder, name: str) -> bool:
    """Remove a user of `add_user`. Has the running broker reloaded? HostError where there is none."""
    credentials.check_name(name)
    if files.find(made.user_file(name)) is None:
        raise HostError(f"no user {name} here: a device's credential is revoked with dormouse revoke", 2)
    return _remove(made, name, made.user_file(name), f"user {name}")


def _let_in(made: BrokerFolder, user: str, rights: str, file: Path) -> None:
    password = fresh_password()
    values = {"DORMOUSE_BROKER": made.url(user=user), "MQTT_PASSWORD": password, "DORMOUSE_CA": str(made.ca)}
    if made.root != protocol.ROOT:
        values["DORMOUSE_ROOT"] = made.root
    files.write(file, environment_text(values))
    add_rights(made, user, rights)
    put_password(made.passwd, user, password)


def _remove(made: BrokerFolder, user: str, file: Path, what: str) -> bool:
    with made.alone():
        there = remove_password(made.passwd, user)
        remove_rights(made, user)
        files.remove(file)
        if not there:
            raise HostError(f"{what} has no credential here", 2)
        return made.reload()


# ---- files of NAME=value lines, which a shell sources, systemd reads as EnvironmentFile, and we read


def environment_text(values: Mapping[str, str]) -> str:
    """The text of such a file. HostError for a value that does not fit into a line."""
    for name, value in values.items():
        if not value.isprintable():
            raise HostError(f"{name}={value!a} has a control character", 2)
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def read_environment(said: str) -> dict[str, str]:
    """The values in such a text. HostError where it is malformed."""
    try:
        words = [word.partition("=") for line in said.splitlines() for word in shlex.split(line)]
    except ValueError:
        raise HostError("expected lines of NAME=value", 2) from None
    return {name: value for name, _, value in words}
