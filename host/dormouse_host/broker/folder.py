"""The folder of a broker that `dormouse broker init` made: its files, passwords and rights, and the reload.

A password file holds `user:$7$101$salt$hash`, PBKDF2 with HMAC-SHA512 as mosquitto 2 reads and writes it; it is written
here and not by mosquitto_passwd, whose arguments every process of the machine can read. The broker counts as reloaded
only after it has accepted a credential that was made for this question.
"""

import base64
import contextlib
import hashlib
import math
import os
import pwd
import re
import secrets
import shlex
import signal
import socket
import time
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from dormouse_host import files
from dormouse_host.address import host_name, tls_context
from dormouse_host.broker.authority import Authority
from dormouse_host.errors import HostError

RELAY_PREFIX = "dormouse-relay-"  # reserved: no device's id begins with it
_RELOADED = "reload#"  # not a possible id; mosquitto grants no rights by pattern to a name with #
_WITHIN = 10.0  # seconds; an idle machine needs some hundredths
_ONE_TRY = 2.0
_LOOK = 0.02
_ACCEPTED = b"\x20\x02\x00\x00"  # CONNACK: MQTT 3.1.1, section 3.2
_ITERATIONS = 101  # mosquitto's default; our passwords are 128 random bits, so no dictionary helps
_SALT = 12  # bytes, mosquitto's default
_EXPIRY = re.compile(r"^\s*persistent_client_expiration\s+(\d+)([hdwmy])\s*$", re.MULTILINE)
_HOUR = 3600.0
_LENGTHS = {"h": _HOUR, "d": 24 * _HOUR, "w": 168 * _HOUR, "m": 720 * _HOUR, "y": 8760 * _HOUR}  # as mosquitto has them


@dataclass(frozen=True)
class BrokerFolder:
    """The folder that `dormouse broker init` made."""

    path: Path

    @property
    def broker(self) -> Path:
        """The files that the broker itself reads and writes."""
        return self.path / "broker"

    @property
    def configuration(self) -> Path:
        return self.path / "mosquitto.conf"

    @property
    def passwd(self) -> Path:
        return self.broker / "passwd"

    @property
    def psk(self) -> Path:
        """The keys that devices share with the broker, in clear."""
        return self.broker / "psk"

    @property
    def pid(self) -> Path:
        """The file with the broker's process id."""
        return self.broker / "mosquitto.pid"

    @property
    def ca(self) -> Path:
        """The CA's certificate, for clients."""
        return self.path / "ca.crt"

    @property
    def authority(self) -> Authority:
        """The CA. HostError where it is missing."""
        return Authority.load(self.path / "ca")

    @property
    def command(self) -> str:
        """The command that starts the broker."""
        return f"mosquitto -c {shlex.quote(str(self.configuration))}"

    def alone(self) -> AbstractContextManager[None]:
        """Lock the folder against changes by other processes; not to be nested."""
        return files.alone(self.path)

    def reload(self) -> bool:
        """Make the broker reload passwords, rights and revoked certificates. Has it confirmed that?

        mosquitto reads all of them at once and serves nobody meanwhile, so that one accepted login proves it.
        The caller holds the lock of the folder.
        """
        pid = self.running()
        if pid is None:
            return False
        password = fresh_password()
        put_password(self.passwd, _RELOADED, password)
        deadline = time.monotonic() + _WITHIN
        try:
            while not handles(pid) and time.monotonic() < deadline:
                time.sleep(_LOOK)
            if handles(pid):
                os.kill(pid, signal.SIGHUP)
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    if self._lets_in(password):
                        return True
                time.sleep(_LOOK)
        except OSError:  # ended meanwhile, or another user's
            pass
        finally:
            remove_password(self.passwd, _RELOADED)
        return False

    def running(self) -> int | None:
        """The process id of this folder's broker, where it runs on this machine. The file with it may be that of a
        second start, which found the port taken and has ended.
        """
        try:
            said = int(files.find(self.pid) or b"")
        except (ValueError, HostError):
            said = 0
        if self._has_started(said):
            return said
        others = sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
        return next((pid for pid in others if self._has_started(pid, "mosquitto")), None)

    def _has_started(self, pid: int, program: str = "") -> bool:
        """Was this process started with our configuration, and as this program?"""
        try:
            words = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
            there = os.readlink(f"/proc/{pid}/cwd")  # a relative path is one from here
        except OSError:
            return False
        named = {os.path.normpath(os.path.join(there, word)) for word in words[1:]}
        return program in os.path.basename(words[0]) and str(self.configuration) in named

    def _lets_in(self, password: str) -> bool:
        """Does the broker accept this password? OSError where it cannot be reached."""
        context = tls_context(str(self.ca))
        context.check_hostname = False  # loopback may be missing in its names, and this CA has signed only one server
        fields = (b"", _RELOADED.encode(), password.encode())
        head = b"\x00\x04MQTT\x04\xc2\x00\x0a"  # 3.1.1, user and password, clean session, 10 s
        body = head + b"".join(len(text).to_bytes(2, "big") + text for text in fields)
        with (
            socket.create_connection(("127.0.0.1", self.ports[0]), _ONE_TRY) as plain,
            context.wrap_socket(plain) as secure,
        ):
            secure.sendall(bytes((0x10, len(body))) + body)
            if secure.recv(len(_ACCEPTED)) != _ACCEPTED:
                return False
            secure.sendall(b"\xe0\x00")
            return True

    def relay_file(self, name: str) -> Path:
        """The environment of the relay `name`."""
        return self.path / f"relay-{name}.env"

    def user_file(self, name: str) -> Path:
        """The environment of the user `name`, who is no relay and no device."""
        return self.path / f"user-{name}.env"

    def said(self, pattern: str) -> list[str]:
        """The matches of a regular expression in the configuration."""
        return re.findall(pattern, files.read(self.configuration), re.MULTILINE)

    @property
    def root(self) -> str:
        """The first levels of every topic."""
        found = re.search(r"^pattern read (.+)/%u/down/#$", files.read(self.broker / "acl"), re.MULTILINE)
        if found is None:
            raise HostError(
                f"{self.broker / 'acl'} was changed since `dormouse broker init`: it has no rule for devices", 2
            )
        return found[1]

    @property
    def ports(self) -> tuple[int, int]:
        """The port for passwords and the port for certificates."""
        ports = self._listeners
        return ports[0], ports[1]

    @property
    def psk_port(self) -> int | None:
        """The port for shared keys, where there is one."""
        return self._listeners[2] if len(self._listeners) > 2 else None

    @property
    def _listeners(self) -> list[int]:
        ports = [int(port) for port in self.said(r"^listener (\d+)")]
        if len(ports) not in (2, 3):
            raise HostError(
                f"{self.configuration} was changed since `dormouse broker init`: it needs its two or three listeners", 2
            )
        return ports

    @property
    def names(self) -> list[str]:
        """The names and addresses of the broker."""
        return [host_name(name) for name in files.read(self.path / "names").splitlines()]

    @property
    def host(self) -> str:
        """The name that clients use: the first one."""
        return self.names[0]

    def url(self, *, cert: bool = False, user: str = "", port: int | None = None) -> str:
        """The broker's URL for a client, without a password; `port`: that one instead."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtts://{user}{'@' if user else ''}{host}:{port or self.ports[cert]}"


def handles(pid: int) -> bool:
    """Does this process handle SIGHUP? The signal ends one that does not; mosquitto writes its id too early."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)


def open_folder(path: Path) -> BrokerFolder:
    """Open a folder of `init`. HostError where it is none."""
    made = BrokerFolder(path.resolve())
    if not made.configuration.is_file() or not (made.path / "ca" / "ca.key").is_file():
        raise HostError(f"{path} is not a broker's folder: create one with dormouse broker init {path}", 2)
    if (
        made.path.stat().st_uid == 0 and made.broker.stat().st_uid != 0
    ):  # created before the broker's folder belonged to root
        for user in made.said(r"^user (\S+)$"):
            let_broker_in(made, user)
    return made


def let_broker_in(made: BrokerFolder, owner: str) -> None:
    """Let a broker that root starts, and that becomes `owner`, read its files; it can write only its data and its pid.

    In a folder of its own it could replace a file by a link to what only root can read.
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


# ---- passwords


def fresh_password() -> str:
    """A new password of 128 random bits."""
    return secrets.token_urlsafe(16)


def hashed(password: str) -> str:
    """The hash of a password as the file holds it."""
    salt = os.urandom(_SALT)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def users(path: Path) -> list[str]:
    """The users in the file of passwords, or of shared keys."""
    return [line.partition(":")[0] for line in files.read(path).splitlines() if ":" in line]


def put_password(path: Path, user: str, password: str) -> None:
    """Set the password of `user`."""
    put_passwords(path, {user: password})


def put_passwords(path: Path, passwords: Mapping[str, str]) -> None:
    """Set the passwords of these users, all in one write."""
    _rewrite(path, passwords, "".join(f"{user}:{hashed(password)}\n" for user, password in passwords.items()))


def put_shared_keys(path: Path, keys: Mapping[str, str]) -> None:
    """Set the shared keys of these devices, each in hex, all in one write."""
    _rewrite(path, keys, "".join(f"{device}:{key}\n" for device, key in keys.items()))


def remove_password(path: Path, user: str) -> bool:
    """Remove `user` from the file of passwords, or of shared keys. Was it there?"""
    there = user in users(path)
    _rewrite(path, {user}, "")
    return there


def _rewrite(path: Path, users: Collection[str], more: str) -> None:
    before = files.read(path, "")
    kept = [other for other in before.splitlines(keepends=True) if other.partition(":")[0] not in users]
    files.write(path, "".join(kept) + more, files.SHARED)


# ---- rights


def add_rights(made: BrokerFolder, user: str, lines: str) -> None:
    """Set a user's own rights."""
    remove_rights(made, user)
    acl = made.broker / "acl"
    files.write(acl, f"{files.read(acl)}\nuser {user}\n{lines}", files.SHARED)


def remove_rights(made: BrokerFolder, *users: str) -> None:
    """Remove the own rights and denials of users; those by pattern stay."""
    acl, gone = made.broker / "acl", set(users)
    first, *blocks = files.read(acl).split("\nuser ")
    kept = [block for block in blocks if block.partition("\n")[0] not in gone]
    if len(kept) < len(blocks):
        files.write(acl, "\nuser ".join([first, *kept]), files.SHARED)


def session_expiry(configuration: Path) -> float:
    """Seconds after which mosquitto with this configuration forgets a sleeper of MQTT 3.1.1; inf: never."""
    found = _EXPIRY.search(files.read(configuration))
    return int(found[1]) * _LENGTHS[found[2]] if found else math.inf
