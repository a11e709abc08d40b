"""Where the ledger and the broker are: from options, the environment, or dormouse.toml in the working folder.

An option goes before the environment, and that before the file. A file that cannot be understood is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host import profile, written
from dormouse_host.errors import HostError

FILE = "dormouse.toml"
_KEYS = ("db", "broker", "root")


@dataclass(frozen=True)
class Settings:
    """`db`: a file or a database URL, None for this user's ledger; `broker`: a URL, None if not configured."""

    db: str | None
    broker: str | None
    root: str
    waiting: int = protocol.WINDOW  # commands that may wait at the broker for one device


def read(db: str | None, broker: str | None, environment: Mapping[str, str], folder: Path) -> Settings:
    """The settings from all three places."""
    said, of_broker = _file(folder / FILE)
    root = environment.get("DORMOUSE_ROOT") or said.get("root") or protocol.ROOT
    try:
        protocol.check_root(root)
    except ConfigError as error:
        raise HostError(error.reason, 2) from None
    url = broker or environment.get("DORMOUSE_BROKER") or said.get("broker")
    waiting = profile.waiting(of_broker) if profile.url(of_broker) in (None, url) else protocol.WINDOW
    return Settings(db or environment.get("DORMOUSE_DB") or said.get("db"), url, root, waiting)


def _file(path: Path) -> tuple[dict[str, str], object]:
    """The keys of this module, and the broker's profile."""
    said, lines = written.toml(path)
    for key, value in said.items():
        if not isinstance(value, dict) and (key not in _KEYS or not isinstance(value, str)):
            raise HostError(f"{path.name}, line {lines.get(key, 1)}: {key}: expected db, broker or root, as text", 2)
    told = {key: value for key, value in said.items() if key in _KEYS and isinstance(value, str)}
    if broker := profile.url(said.get("broker")):
        told["broker"] = broker
    return told, said.get("broker")  # the other tables belong to flash/project.py
