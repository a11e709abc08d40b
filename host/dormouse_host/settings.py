"""Where the ledger and the broker are: from options, the environment, or dormouse.toml in the working folder.

An option goes before the environment, and that before the file. A folder with such a file is a project, which has a
ledger of its own; without one it is this user's. A file that cannot be understood is an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dormouse import protocol
from dormouse.config import KEYS as DEVICE_KEYS
from dormouse.errors import ConfigError
from dormouse_host import near, profile, written
from dormouse_host.errors import HostError

FILE = "dormouse.toml"
LEDGER = "ledger.db"  # of a project
_KEYS = ("db", "broker", "root")


@dataclass(frozen=True)
class Settings:
    """`db`: a file or a database URL, None for this user's ledger; `own`: nobody named one, and it is the project's;
    `broker`: a URL, None if not configured.
    """

    db: str | None
    broker: str | None
    root: str
    own: bool = False
    waiting: int = protocol.WINDOW  # commands that may wait at the broker for one device


def read(db: str | None, broker: str | None, environment: Mapping[str, str], folder: Path) -> Settings:
    """The settings from all three places."""
    said, of_broker = _file(folder / FILE)
    root = environment.get("DORMOUSE_ROOT") or said.get("root") or protocol.ROOT
    try:
        protocol.check_root(root)
    except ConfigError as error:
        raise HostError(error.reason, 2) from None
    named = db or environment.get("DORMOUSE_DB") or said.get("db")
    own = not named and (folder / FILE).exists()
    url = broker or environment.get("DORMOUSE_BROKER") or said.get("broker")
    waiting = profile.waiting(of_broker) if profile.is_of(of_broker, url) else protocol.WINDOW
    return Settings(LEDGER if own else named, url, root, own, waiting)


def meant(key: str, known: Sequence[str]) -> str:
    """What was meant by a key at the top of the file that is none of those that are known there."""
    like = near.meant(key, [*known, *DEVICE_KEYS])
    if not like:
        return f"expected one of {', '.join(known)}; settings of devices belong below [device]"
    if like in known:
        return f"did you mean {like}?"
    return f"{'it' if like == key else like} belongs below [device]"


def _file(path: Path) -> tuple[dict[str, str], object]:
    """The keys of this module, and the broker's profile."""
    said, lines = written.toml(path)
    for key, value in said.items():
        if isinstance(value, dict):
            continue
        if key not in _KEYS:
            raise HostError(f"{path.name}, line {lines.get(key, 1)}: unknown key {key}: {meant(key, _KEYS)}", 2)
        if not isinstance(value, str):
            raise HostError(f"{path.name}, line {lines.get(key, 1)}: {key}: expected text", 2)
    told = {key: value for key, value in said.items() if key in _KEYS and isinstance(value, str)}
    if broker := profile.url(said.get("broker")):
        told["broker"] = broker
    return told, said.get("broker")  # the other tables belong to flash/project.py
