"""A folder with all that a mosquitto for field trials needs: configuration, rights, passwords, CA, the relay's way in.

Must stay true: nobody comes in without a credential or without TLS; a client id is its user's name, so that nobody
takes over another's session; a device reads and writes its own topics and no other's; the broker itself can read
neither the CA's key nor the relay's password. A folder is made whole or not at all, and changed by one process at a
time.
"""

import contextlib
import os
import pwd
import re
import shlex
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host import address, files
from dormouse_host.broker import bounded, environment, passwords, running, texts
from dormouse_host.broker.authority import Authority
from dormouse_host.errors import HostError

PORT = 8883  # IANA: MQTT over TLS
RELAY_PREFIX = "dormouse-relay-"  # no device's id begins so
QUEUE = 100_000
_SERVICE_USER = "mosquitto"  # what a mosquitto that is started as root becomes


@dataclass(frozen=True)
class BrokerFolder:
    """The folder that `dormouse broker init` made."""

    path: Path

    @property
    def broker(self) -> Path:
        """What the broker itself reads and writes."""
        return self.path / "broker"

    @property
    def configuration(self) -> Path:
        return self.path / "mosquitto.conf"

    @property
    def passwd(self) -> Path:
        return self.broker / "passwd"

    @property
    def pid(self) -> Path:
        """Where the broker writes its process's number down."""
        return self.broker / "mosquitto.pid"

    @property
    def ca(self) -> Path:
        """The CA's certificate, for whoever connects."""
        return self.path / "ca.crt"

    @property
    def authority(self) -> Authority:
        """The CA. HostError where it isn't there."""
        return Authority.load(self.path / "ca")

    @property
    def command(self) -> str:
        """What starts the broker."""
        return f"mosquitto -c {shlex.quote(str(self.configuration))}"

    def alone(self) -> AbstractContextManager[None]:
        """No other process changes the folder meanwhile; not to be nested."""
        return files.alone(self.path)

    def reload(self) -> bool:
        """Have the running broker read passwords, rights and revoked certificates again. Is it known that it has?"""
        return running.reload(self)

    def relay_file(self, name: str) -> Path:
        """The environment of the relay `name`."""
        return self.path / f"relay-{name}.env"

    def said(self, pattern: str) -> list[str]:
        """What a regular expression finds in the configuration."""
        return re.findall(pattern, files.read(self.configuration), re.MULTILINE)

    @property
    def root(self) -> str:
        """The first levels of every topic."""
        found = re.search(r"^pattern read (.+)/%u/down/#$", files.read(self.broker / "acl"), re.MULTILINE)
        if found is None:
            raise HostError(f"{self.broker / 'acl'} is not as `dormouse broker init` wrote it", 2)
        return found[1]

    @property
    def ports(self) -> tuple[int, int]:
        """For those with a password, and for those with a certificate."""
        ports = [int(port) for port in self.said(r"^listener (\d+)")]
        if len(ports) != 2:
            raise HostError(f"{self.configuration} has not the two listeners of `dormouse broker init`", 2)
        return ports[0], ports[1]

    @property
    def names(self) -> list[str]:
        """The names and addresses under which the broker is reached."""
        return [address.host_name(name) for name in files.read(self.path / "names").splitlines()]

    @property
    def host(self) -> str:
        """The one of them that clients use: the first that was given."""
        return self.names[0]

    def url(self, *, cert: bool = False, user: str = "") -> str:
        """Where a client finds the broker, without a password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtts://{user}{'@' if user else ''}{host}:{self.ports[cert]}"


def open_folder(path: Path) -> BrokerFolder:
    """A folder that `init` made. HostError where it is none."""
    made = BrokerFolder(path.resolve())
    if not made.configuration.is_file() or not (made.path / "ca" / "ca.key").is_file():
        raise HostError(f"{path} is not a broker's folder: dormouse broker init {path}", 2)
    if made.path.stat().st_uid == 0 and made.broker.stat().st_uid != 0:  # made before the broker's folder was root's
        for user in made.said(r"^user (\S+)$"):
            _let_broker_in(made, user)
    return made


def init(
    path: Path,
    names: Sequence[str],
    *,
    port: int = PORT,
    cert_port: int | None = None,
    relay: str = "main",
    queue: int = QUEUE,
    root: str = protocol.ROOT,
    user: str | None = None,
) -> BrokerFolder:
    """Make the folder for a broker that is reached under `names`, host names and addresses; devices use the first.

    `user`: what mosquitto becomes when root starts it; by default its own user. HostError where the folder is not
    empty or something is not a name.
    """
    if not names:
        raise HostError("under which names and addresses is the broker reached? --name", 2)
    names = [address.host_name(name) for name in names]
    _check_relay(relay)
    check_root(root)
    owner = _owner(user or _SERVICE_USER)
    made = BrokerFolder(path.resolve())
    _check_vacant(made.path)
    text = texts.CONFIGURATION.format(
        folder=made.path,
        broker=made.broker,
        user=f"user {owner}" if owner else "",
        queue=queue,
        message=bounded.PACKET,
        port=port,
        cert_port=port + 1 if cert_port is None else cert_port,
    )
    files.folder(made.path, 0o755)
    with made.alone():
        _check_vacant(made.path)
        try:
            _fill(made, names, text, owner, root)
            _let_relay_in(made, relay)
        except BaseException:
            shutil.rmtree(made.path, ignore_errors=True)  # it was empty before
            raise
    return made


def _check_vacant(path: Path) -> None:
    """HostError unless a broker's folder can be made there."""
    if re.search(r"\s", str(path)):
        raise HostError("mosquitto takes no path with a space in it", 2)
    if path.exists() and not path.is_dir():
        raise HostError(f"{path} is no folder", 2)
    if path.exists() and any(path.iterdir()):
        raise HostError(f"{path} is not empty", 2)


def _fill(made: BrokerFolder, names: Sequence[str], configuration: str, owner: str, root: str) -> None:
    files.folder(made.broker)
    files.folder(made.broker / "data")
    _let_broker_in(made, owner)
    authority = Authority.create(made.path / "ca")
    served = authority.server(names)
    files.write(made.ca, authority.pem, files.PUBLIC)
    files.write(made.broker / "revoked.pem", authority.revoke(), files.PUBLIC)
    files.write(made.broker / "broker.key", served.key_pem, files.SHARED)
    files.write(made.broker / "broker.crt", served.pem, files.PUBLIC)
    files.write(made.passwd, "", files.SHARED)
    files.write(made.broker / "acl", texts.RIGHTS.format(root=root), files.SHARED)
    files.write(made.path / "names", "".join(f"{name}\n" for name in names), files.PUBLIC)
    files.write(made.configuration, configuration, files.PUBLIC)


def _let_broker_in(made: BrokerFolder, owner: str) -> None:
    """Root's broker becomes `owner`: it reads what is here, and writes nothing but its data and its process's number.

    In a folder of its own it could put a link in a file's place, to what only root can read.
    """
    if not owner or os.geteuid() != 0:
        return
    user = pwd.getpwnam(owner)
    if user.pw_uid == 0:
        return
    files.give(made.broker, 0, user.pw_gid, 0o750)
    files.give(made.broker / "data", user.pw_uid, user.pw_gid, 0o700)
    if files.find(made.pid) is None:
        files.write(made.pid, "", files.PUBLIC)
        os.chown(made.pid, user.pw_uid, user.pw_gid, follow_symlinks=False)


def check_root(root: str) -> None:
    """HostError unless this can be the first levels of every topic, and so stand in a file of rights."""
    try:
        protocol.check_root(root)
    except ConfigError as error:
        raise HostError(error.reason, 2) from None


def _check_relay(name: str) -> None:
    try:
        protocol.check_device_id(RELAY_PREFIX + name)
    except ConfigError:
        raise HostError(f"{name!a} can't be a relay's name: letters, digits, - _ and .", 2) from None


def _owner(user: str) -> str:
    """What root's mosquitto becomes and what its files must belong to; "" for one that root does not start."""
    if os.geteuid() != 0:
        return ""
    with contextlib.suppress(KeyError, ValueError):
        pwd.getpwnam(user)
        return user
    raise HostError(f"there is no user {user} on this machine: install mosquitto first (apt-get install mosquitto)", 2)


def add_relay(made: BrokerFolder, name: str) -> Path:
    """Let a relay in. Returns the file with its environment: the broker, its password and the CA."""
    _check_relay(name)
    with made.alone():
        return _let_relay_in(made, name)


def _let_relay_in(made: BrokerFolder, name: str) -> Path:
    user, password = RELAY_PREFIX + name, passwords.fresh()
    add_rights(made, user, texts.RELAY_RIGHTS.format(root=made.root))
    passwords.put(made.passwd, user, password)
    values = {"DORMOUSE_BROKER": made.url(user=user), "MQTT_PASSWORD": password, "DORMOUSE_CA": str(made.ca)}
    if made.root != protocol.ROOT:
        values["DORMOUSE_ROOT"] = made.root
    files.write(made.relay_file(name), environment.text(values))
    return made.relay_file(name)


def remove_relay(made: BrokerFolder, name: str) -> None:
    """Let a relay in no more."""
    with made.alone():
        remove_rights(made, RELAY_PREFIX + name)
        passwords.remove(made.passwd, RELAY_PREFIX + name)
    files.remove(made.relay_file(name))


def add_rights(made: BrokerFolder, user: str, lines: str) -> None:
    """Give a user rights of its own, instead of those it had of its own."""
    remove_rights(made, user)
    acl = made.broker / "acl"
    files.write(acl, f"{files.read(acl)}\nuser {user}\n{lines}", files.SHARED)


def remove_rights(made: BrokerFolder, user: str) -> None:
    """Take a user's own rights, or denials, away; those by pattern stay."""
    acl = made.broker / "acl"
    blocks = files.read(acl).split("\nuser ")
    kept = [blocks[0], *(block for block in blocks[1:] if block.partition("\n")[0] != user)]
    files.write(acl, "\nuser ".join(kept), files.SHARED)
