"""mosquitto's password file: `user:$7$101$salt$hash`, PBKDF2 with HMAC-SHA512, as mosquitto 2 reads and writes it.

Must stay true: the file holds no password, only what it can be checked against; a line that is not ours stays as it
is. Written here and not by mosquitto_passwd, to which a password would have to be given in its arguments, where every
process of the machine can read it.
"""

import base64
import hashlib
import os
import secrets
from pathlib import Path

from dormouse_host import files

_ITERATIONS = 101  # mosquitto's own; our passwords are 128 random bits, which no dictionary has
_SALT = 12  # bytes, as mosquitto's own


def fresh() -> str:
    """A new password: 128 random bits."""
    return secrets.token_urlsafe(16)


def hashed(password: str) -> str:
    """What the file holds of a password."""
    salt = os.urandom(_SALT)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def users(path: Path) -> list[str]:
    """Who is in the file."""
    return [line.partition(":")[0] for line in files.read(path).splitlines() if ":" in line]


def put(path: Path, user: str, password: str) -> None:
    """Let `user` in with this password, and with no other one."""
    _rewrite(path, user, f"{user}:{hashed(password)}\n")


def remove(path: Path, user: str) -> bool:
    """Let `user` in no more. Was it there?"""
    there = user in users(path)
    _rewrite(path, user, "")
    return there


def _rewrite(path: Path, user: str, line: str) -> None:
    before = files.read(path, "")
    kept = [other for other in before.splitlines(keepends=True) if other.partition(":")[0] != user]
    files.write(path, "".join(kept) + line, files.SHARED)
