"""A folder with all that a mosquitto for field trials needs: configuration, rights, passwords, CA, the relay's way in.

Must stay true: nobody comes in without a credential or without TLS; a client id is its user's name, so that nobody
takes over another's session; a device reads and writes its own topics and no other's; the broker itself can read
neither the CA's key nor the relay's password.
"""

import contextlib
import os
import pwd
import re
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host.door import files, passwords
from dormouse_host.door.authority import Authority, alternative
from dormouse_host.errors import HostError

PORT = 8883  # IANA: MQTT over TLS
RELAY_PREFIX = "dormouse-relay-"  # no device's id begins so
QUEUE = 100_000
PACKET = 66_000  # bytes; the largest payload that the relay reads is 64 KiB
_RELOADS = 0.3  # seconds: mosquitto says nothing when it has read its files again
_SERVICE_USER = "mosquitto"  # what a mosquitto that is started as root becomes

_CONFIGURATION = """\
# mosquitto for Dormouse, made by `dormouse broker init`. mosquitto -c {folder}/mosquitto.conf
per_listener_settings false
pid_file {broker}/mosquitto.pid
{user}
# Who comes in: nobody without a credential; rights by user name in the file `acl`.
allow_anonymous false
password_file {broker}/passwd
acl_file {broker}/acl

# Sleepers' sessions and what waits for them outlive a kill, but for the last tenth of a second: saved at every change.
# That writes the whole database each time, 3 ms at 1000 waiting messages: where many thousand wait, take
# `autosave_on_changes false`, which loses the last two seconds. The relay notices either and sends again.
persistence true
persistence_location {broker}/data/
autosave_on_changes true
autosave_interval 1

# A sleeper is never owed more than some 300 messages by the relay; this bounds what waits for the relay itself.
# Above it mosquitto drops what it has acknowledged.
max_queued_messages {queue}
max_packet_size {message}

# Without it, Nagle's algorithm costs a wake about one round trip more.
set_tcp_nodelay true
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S

# Devices and relays with user and password.
listener {port}
certfile {broker}/broker.crt
keyfile {broker}/broker.key
tls_version tlsv1.2
use_username_as_clientid true

# Devices with a certificate (`dormouse provision --cert`): its name is the user's name.
listener {cert_port}
cafile {folder}/ca.crt
crlfile {broker}/revoked.pem
certfile {broker}/broker.crt
keyfile {broker}/broker.key
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
"""

_RIGHTS = """\
# A device: its own topics, by its user name, and nothing else.
pattern read {root}/%u/down/#
pattern write {root}/%u/down/fence
pattern write {root}/%u/up/#
"""

_RELAY_RIGHTS = """\
topic read {root}/+/up/#
topic write {root}/+/down/cmd
topic write {root}/+/up/wake
"""  # the last to clear a removed device's report


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
        return f"mosquitto -c {self.configuration}"

    def reload(self) -> bool:
        """Have the running broker read passwords, rights and revoked certificates again. Is there one we may tell?"""
        try:
            pid = int((self.broker / "mosquitto.pid").read_text())
            if str(self.configuration).encode() not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return False
            os.kill(pid, signal.SIGHUP)
        except (OSError, ValueError):
            return False
        time.sleep(_RELOADS)
        return True

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
    def host(self) -> str:
        """The name or address that clients use: the first that was given."""
        return files.read(self.path / "names").splitlines()[0]

    def url(self, *, cert: bool = False, user: str = "") -> str:
        """Where a client finds the broker, without a password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtts://{user}{'@' if user else ''}{host}:{self.ports[cert]}"


def open_folder(path: Path) -> BrokerFolder:
    """A folder that `init` made. HostError where it is none."""
    if not (path / "mosquitto.conf").is_file() or not (path / "ca" / "ca.key").is_file():
        raise HostError(f"{path} is not a broker's folder: dormouse broker init {path}", 2)
    return BrokerFolder(path.resolve())


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
    for name in names:
        alternative(name)
    _check_relay(relay)
    path = path.resolve()
    if re.search(r"\s", str(path)):
        raise HostError("mosquitto takes no path with a space in it", 2)
    if path.exists() and any(path.iterdir()):
        raise HostError(f"{path} is not empty", 2)
    made = BrokerFolder(path)
    files.folder(path, 0o755)
    files.folder(made.broker)
    files.folder(made.broker / "data")
    user = user or _SERVICE_USER
    line = _give_to(user, made.broker, made.broker / "data")
    authority = Authority.create(path / "ca")
    served = authority.server(names)
    files.write(made.ca, authority.pem, files.PUBLIC)
    files.write(made.broker / "revoked.pem", authority.revoke(), files.PUBLIC)
    files.write(made.broker / "broker.key", served.key_pem)
    files.write(made.broker / "broker.crt", served.pem, files.PUBLIC)
    files.write(made.passwd, "")
    files.write(made.broker / "acl", _RIGHTS.format(root=root))
    files.write(path / "names", "".join(f"{name.strip('[]')}\n" for name in names), files.PUBLIC)
    text = _CONFIGURATION.format(
        folder=path,
        broker=made.broker,
        user=line,
        queue=queue,
        message=PACKET,
        port=port,
        cert_port=port + 1 if cert_port is None else cert_port,
    )
    files.write(made.configuration, text, files.PUBLIC)
    add_relay(made, relay)
    return made


def _check_relay(name: str) -> None:
    try:
        protocol.check_device_id(RELAY_PREFIX + name)
    except ConfigError:
        raise HostError(f"{name!a} can't be a relay's name: letters, digits, - _ and .", 2) from None


def _give_to(user: str, *folders: Path) -> str:
    """Let root's mosquitto, which becomes `user`, read and write there. Returns the line of its configuration."""
    if os.geteuid() != 0:
        return ""
    with contextlib.suppress(KeyError):
        pwd.getpwnam(user)
        for folder in folders:
            shutil.chown(folder, user)
        return f"user {user}"
    raise HostError(f"there is no user {user} on this machine: install mosquitto first (apt-get install mosquitto)", 2)


def add_relay(made: BrokerFolder, name: str) -> Path:
    """Let a relay in. Returns the file with its environment: the broker, its password and the CA."""
    _check_relay(name)
    user, password = RELAY_PREFIX + name, passwords.fresh()
    add_rights(made, user, _RELAY_RIGHTS.format(root=made.root))
    passwords.put(made.passwd, user, password)
    lines = [f"DORMOUSE_BROKER={made.url(user=user)}", f"MQTT_PASSWORD={password}", f"DORMOUSE_CA={made.ca}"]
    if made.root != protocol.ROOT:
        lines.append(f"DORMOUSE_ROOT={made.root}")
    files.write(made.relay_file(name), "".join(f"{line}\n" for line in lines))
    return made.relay_file(name)


def remove_relay(made: BrokerFolder, name: str) -> None:
    """Let a relay in no more."""
    remove_rights(made, RELAY_PREFIX + name)
    passwords.remove(made.passwd, RELAY_PREFIX + name)
    made.relay_file(name).unlink(missing_ok=True)


def add_rights(made: BrokerFolder, user: str, lines: str) -> None:
    """Give a user rights of its own, instead of those it had of its own."""
    remove_rights(made, user)
    acl = made.broker / "acl"
    files.write(acl, f"{files.read(acl)}\nuser {user}\n{lines}")


def remove_rights(made: BrokerFolder, user: str) -> None:
    """Take a user's own rights, or denials, away; those by pattern stay."""
    acl = made.broker / "acl"
    blocks = files.read(acl).split("\nuser ")
    files.write(acl, "\nuser ".join([blocks[0], *(b for b in blocks[1:] if b.partition("\n")[0] != user)]))
