"""The broker that runs from a folder of `broker init`: told of a change, and asked whether it knows.

Must stay true: it is said to know only after it has let in a credential that was made for this question and is gone
afterwards; no process is told that is not this folder's broker; the question has an end.
"""

import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dormouse_host import address, files
from dormouse_host.broker import passwords
from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from dormouse_host.broker.setup import BrokerFolder

USER = "reload#"  # nobody's id; to a name with # in it mosquitto gives no rights by pattern
_WITHIN = 10.0  # seconds; an idle machine takes a few hundredths of one
_ONE_TRY = 2.0
_LOOK = 0.02
_ACCEPTED = b"\x20\x02\x00\x00"  # CONNACK: MQTT 3.1.1, section 3.2


def reload(made: "BrokerFolder") -> bool:
    """Have the broker read passwords, rights and revoked certificates again. Is it known that it has?

    mosquitto reads all of them in one go and serves nobody meanwhile, so that one question is enough. The folder is
    held by the caller.
    """
    pid = _pid(made)
    if pid is None:
        return False
    password = passwords.fresh()
    passwords.put(made.passwd, USER, password)
    deadline = time.monotonic() + _WITHIN
    try:
        while not handles(pid) and time.monotonic() < deadline:
            time.sleep(_LOOK)
        if handles(pid):
            os.kill(pid, signal.SIGHUP)
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if _lets_in(made, password):
                    return True
            time.sleep(_LOOK)
    except OSError:  # gone meanwhile, or another user's
        pass
    finally:
        passwords.remove(made.passwd, USER)
    return False


def handles(pid: int) -> bool:
    """Does this process handle SIGHUP? It ends one that does not, and mosquitto writes its id down before it does."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)


def _pid(made: "BrokerFolder") -> int | None:
    """This folder's broker, where it runs on this machine."""
    try:
        pid = int(files.find(made.pid) or b"")
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, HostError):
        return None
    return pid if str(made.configuration).encode() in words else None


def _lets_in(made: "BrokerFolder", password: str) -> bool:
    """Does it take this password? OSError where it can't be asked."""
    context = address.tls_context(str(made.ca))
    context.check_hostname = False  # loopback need not be among its names, and this CA has signed one server only
    fields = (b"", USER.encode(), password.encode())
    head = b"\x00\x04MQTT\x04\xc2\x00\x0a"  # 3.1.1, user and password, clean session, 10 s
    body = head + b"".join(len(text).to_bytes(2, "big") + text for text in fields)
    with (
        socket.create_connection(("127.0.0.1", made.ports[0]), _ONE_TRY) as plain,
        context.wrap_socket(plain) as secure,
    ):
        secure.sendall(bytes((0x10, len(body))) + body)
        if secure.recv(len(_ACCEPTED)) != _ACCEPTED:
            return False
        secure.sendall(b"\xe0\x00")
        return True
