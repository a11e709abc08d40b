"""The broker's profile: `broker` in dormouse.toml, which is its URL alone or a table with what is known of it.

    broker = "mqtt://192.168.1.10"                 or, for one that differs,

    [broker]
    url = "mqtts://example.com"
    preset = "aws-iot-core"                        # a name of presets.py; the keys below go before it
    retain = false

A profile holds for its own URL and for no other. What is written into the file leaves all else in it as it was.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dormouse import protocol
from dormouse.config import KEYS, split_broker
from dormouse.errors import ConfigError
from dormouse_host import files, written
from dormouse_host.errors import HostError
from dormouse_host.presets import PRESETS

_FOUND: dict[str, type] = {"retain": bool, "drain": str, "quiet": int}  # of a device, as the check finds them
TYPES: dict[str, type] = {"url": str, "preset": str, "ca": str, **_FOUND, "waiting": int}
DEFAULTS = {**{key: KEYS[key][0] for key in _FOUND}, "waiting": protocol.WINDOW}  # of all that the check finds
_DEVICE = ("ca", *_FOUND)  # keys of a device's config.json
_KEY = re.compile(r"\s*(?P<before>(?:broker\s*\.\s*)?)[\w-]+\s*=\s*")


def url(value: object) -> str | None:
    """The URL in the value of `broker`."""
    found = value.get("url") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) and found else None


def is_of(value: object, broker: str | None) -> bool:
    """Is the profile that of the broker at this URL? One that names no URL is that of any."""
    own = url(value)
    return own is None or _place(own) == _place(broker or "")


def _place(broker: str) -> tuple[bool, str, int] | str:
    """TLS, host and port, which are the same for several ways to write a URL."""
    scheme, _, rest = broker.partition("://")
    try:
        place: tuple[bool, str, int] = split_broker(f"{scheme}://{rest.rpartition('@')[2]}")
    except ConfigError:
        return broker
    return place


def settings(value: object) -> dict[str, Any]:
    """A device's settings for that broker. HostError as for `told`."""
    return {key: said for key, said in told(value).items() if key in _DEVICE}


def waiting(value: object) -> int:
    """How many commands may wait there for one device. HostError as for `told`, and where it is no such number."""
    said = told(value).get("waiting", protocol.WINDOW)
    if type(said) is not int or said < 1:
        raise HostError("broker.waiting: expected a whole number of at least 1", 2)
    return said


def told(value: object) -> dict[str, Any]:
    """What is known of that broker: the settings of the preset, and over them the profile's own. HostError for a preset
    that is not known, or with which no device works.
    """
    if not isinstance(value, Mapping):
        return {}
    found: dict[str, Any] = {}
    if name := value.get("preset"):
        preset = PRESETS.get(str(name))
        if preset is None:
            raise HostError(f"preset {name}: expected one of {', '.join(PRESETS)}", 2)
        if preset.refused:
            raise HostError(f"preset {name}: no device works with {preset.title}: {preset.refused}", 2)
        found.update(preset.settings)
    return found | {key: said for key, said in value.items() if key not in ("url", "preset")}


def keep(path: Path, values: Mapping[str, Any]) -> bool:
    """Write these keys of the profile into dormouse.toml, which is made where there is none. Was anything changed?

    HostError where the file is written in a way in which that cannot be done without changing more.
    """
    said, at = written.toml(path)
    before = said.get("broker")
    wanted = {**({"url": before} if isinstance(before, str) else before or {}), **values}
    if before == wanted:
        return False
    text = path.read_text() if path.exists() else ""
    lines = text.splitlines()
    new = {key: value for key, value in values.items() if not isinstance(before, Mapping) or before.get(key) != value}
    if isinstance(before, str):
        place = at["broker"] - 1
        lines[place : place + 1] = [f"broker.{key} = {_toml(value)}" for key, value in wanted.items()]
    elif before:
        _into_table(lines, at, new)
    else:
        lines += [""] * bool(lines) + ["[broker]", *(f"{key} = {_toml(value)}" for key, value in new.items())]
    made = "\n".join(lines) + "\n"
    if not _says(made, {**said, "broker": wanted}):
        by_hand = ", ".join(f"{key} = {_toml(value)}" for key, value in new.items())
        raise HostError(f"{path.name}: its `broker` is not written in a way that can be changed: write {by_hand}", 2)
    files.write(path, made, files.PRIVATE)
    return True


def _into_table(lines: list[str], at: Mapping[str, int], new: Mapping[str, Any]) -> None:
    """Change keys of the table where they stand, and put the others behind its last one."""
    there = {name.partition(".")[2]: line - 1 for name, line in at.items() if name.startswith("broker.")}
    last = max(there.values(), default=at.get("broker", 1) - 1)
    head = _KEY.match(lines[last])
    before = head["before"] if head else ""
    for key, value in new.items():
        if key in there and (found := _KEY.match(lines[there[key]])):
            lines[there[key]] = found[0] + _toml(value)
        else:
            last += 1
            lines.insert(last, f"{before}{key} = {_toml(value)}")


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # of texts, numbers, true and false the same in TOML


def _says(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False
