"""`dormouse broker init`: a folder with all that a mosquitto for field trials needs.

Nobody connects without a credential or without TLS. A client id is its user's name, so that nobody takes over another's
session; a device reads and writes its own topics only; the broker can read neither the CA's key nor the relay's
password. A folder is made whole or not at all.
"""

import contextlib
import os
import pwd
import re
import shlex
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host import address, files
from dormouse_host.broker import access
from dormouse_host.broker.authority import Authority
from dormouse_host.broker.client import PACKET
from dormouse_host.broker.folder import BrokerFolder, let_broker_in
from dormouse_host.errors import HostError

PORT = 8883  # IANA: MQTT over TLS
QUEUE = 100_000
_SERVICE_USER = "mosquitto"  # the user that a mosquitto started by root becomes

CONFIGURATION = """\
# mosquitto for Dormouse, made by `dormouse broker init`. mosquitto -c {folder}/mosquitto.conf
per_listener_settings false
pid_file {broker}/mosquitto.pid
{user}
# A credential is required; rights by user name are in the file `acl`.
allow_anonymous false
password_file {broker}/passwd
acl_file {broker}/acl

# Sessions and queued messages outlive a kill, but for the last tenth of a second: they are saved at every change.
# That writes the whole database each time, 3 ms at 1000 queued messages; for many thousands use
# `autosave_on_changes false`, which loses the last two seconds. The relay notices either and sends again.
persistence true
persistence_location {broker}/data/
autosave_on_changes true
autosave_interval 1

# The relay queues at most some 300 messages for a sleeping device; this bounds the queue for the relay itself.
# Above it mosquitto drops messages that it has acknowledged.
max_queued_messages {queue}
max_packet_size {message}

# Without it, Nagle's algorithm costs a wake about one more round trip.
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

# Devices with a certificate (`dormouse provision --cert`), whose name is the user name.
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

SHARED_KEYS = """\

# Devices with a key that both share (`dormouse provision --psk`), whose identity is the user name.
psk_file {broker}/psk
listener {psk_port}
psk_hint dormouse
ciphers PSK+AESGCM
tls_version tlsv1.2
use_identity_as_username true
use_username_as_clientid true
"""

RIGHTS = """\
# A device: its own topics by its user name, and no others.
pattern read {root}/%u/down/#
pattern write {root}/%u/down/fence
pattern write {root}/%u/up/#
"""


def init(
    path: Path,
    names: Sequence[str],
    *,
    port: int = PORT,
    cert_port: int | None = None,
    psk_port: int | None = None,
    relay: str = "main",
    queue: int = QUEUE,
    root: str = protocol.ROOT,
    user: str | None = None,
) -> BrokerFolder:
    """Create the folder for a broker with these names and addresses; devices use the first.

    `psk_port`: with a listener for devices that share a key with the broker. `user`: the user that mosquitto becomes
    when root starts it. HostError where the folder is not empty or a name is invalid.
    """
    if not names:
        raise HostError("the broker needs a name or address: --name", 2)
    names = [address.host_name(name) for name in names]
    access.check_relay(relay)
    check_root(root)
    owner = _owner(user or _SERVICE_USER)
    made = BrokerFolder(path.resolve())
    _check_vacant(made.path)
    text = CONFIGURATION.format(
        folder=made.path,
        broker=made.broker,
        user=f"user {owner}" if owner else "",
        queue=queue,
        message=PACKET,
        port=port,
        cert_port=port + 1 if cert_port is None else cert_port,
    )
    if psk_port is not None:
        text += SHARED_KEYS.format(broker=made.broker, psk_port=psk_port)
    files.folder(made.path, 0o755)
    with made.alone():
        _check_vacant(made.path)
        try:
            _fill(made, names, text, owner, root)
            access.let_relay_in(made, relay)
        except BaseException:
            shutil.rmtree(made.path, ignore_errors=True)  # it was empty before
            raise
    return made


def _check_vacant(path: Path) -> None:
    """HostError unless a broker's folder can be created there."""
    if re.search(r"\s", str(path)):
        raise HostError("mosquitto accepts no path with a space", 2)
    if path.exists() and not path.is_dir():
        raise HostError(f"{path} is not a folder", 2)
    if path.exists() and any(path.iterdir()):
        raise HostError(f"{path} is not empty: give a new folder; that of an earlier broker init is used as it is", 2)


def _fill(made: BrokerFolder, names: Sequence[str], configuration: str, owner: str, root: str) -> None:
    files.write(made.path / ".gitignore", "*\n", files.PUBLIC)  # first, so that no secret is ever without it
    files.folder(made.broker)
    files.folder(made.broker / "data")
    let_broker_in(made, owner)
    authority = Authority.create(made.path / "ca")
    served = authority.server(names)
    files.write(made.ca, authority.pem, files.PUBLIC)
    files.write(made.broker / "revoked.pem", authority.revoke(), files.PUBLIC)
    files.write(made.broker / "broker.key", served.key_pem, files.SHARED)
    files.write(made.broker / "broker.crt", served.pem, files.PUBLIC)
    files.write(made.passwd, "", files.SHARED)
    files.write(made.psk, "", files.SHARED)
    files.write(made.broker / "acl", RIGHTS.format(root=root), files.SHARED)
    files.write(made.path / "names", "".join(f"{name}\n" for name in names), files.PUBLIC)
    files.write(made.configuration, configuration, files.PUBLIC)


def check_root(root: str) -> None:
    """HostError unless this can be the first levels of every topic, and so be written to the ACL."""
    try:
        protocol.check_root(root)
    except ConfigError as error:
        raise HostError(error.reason, 2) from None


def _owner(user: str) -> str:
    """The user that root's mosquitto becomes and that its files belong to; "" where root does not start it."""
    if os.geteuid() != 0:
        return ""
    with contextlib.suppress(KeyError, ValueError):
        pwd.getpwnam(user)
        return user
    hint = "name the one that mosquitto is to become"
    if user == _SERVICE_USER:
        hint = "install mosquitto first (apt-get install mosquitto)"
    raise HostError(f"no user {user} on this machine: {hint}", 2)


def shut_out(made: BrokerFolder) -> str:
    """Why the user that root's mosquitto becomes can't enter the folder, and what to do; "" where it can, by the owners
    and permissions of the folder and of all above it.
    """
    for name in made.said(r"^user (\S+)$"):
        user = pwd.getpwnam(name)
        groups = os.getgrouplist(name, user.pw_gid)
        found = [(path, path.stat()) for path in (*reversed(made.path.parents), made.path)]
        closed = [(path, bit) for path, there in found if (bit := _closed_by(there, user.pw_uid, groups))]
        if closed and user.pw_uid != 0:
            chmod = "; ".join(f"chmod {bit}+x {shlex.quote(str(path))}" for path, bit in closed)
            return f"mosquitto becomes user {name}, who can't enter {closed[0][0]}: use another folder, or {chmod}"
    return ""


def _closed_by(folder: os.stat_result, user: int, groups: Sequence[int]) -> str:
    """Whose missing permission keeps this user out: the owner's, the group's or others'; "" for nobody's."""
    which, bit = "o", stat.S_IXOTH
    if folder.st_uid == user:
        which, bit = "u", stat.S_IXUSR
    elif folder.st_gid in groups:
        which, bit = "g", stat.S_IXGRP
    return "" if folder.st_mode & bit else which
