"""`[alerts]` and `[homeassistant]` of dormouse.toml: each turns its part on, and is enough as an empty table.

    [alerts]
    notify = ["ntfy://ntfy.example/greenhouse"]     # Apprise's URLs; also DORMOUSE_NOTIFY, separated by spaces
    webhook = "https://example.com/dormouse"        # also DORMOUSE_WEBHOOK
    webhook_key = "whsec_…"                         # also DORMOUSE_WEBHOOK_KEY

Bad input is told with file, line and key. No error repeats a value, because these URLs hold passwords.
"""

import base64
import binascii
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host import near, written
from dormouse_host.errors import HostError
from dormouse_host.ledger.alerts import KINDS, Limits, Rules
from dormouse_host.settings import FILE

MQTT, NOTIFY, WEBHOOK = "mqtt", "notify", "webhook"  # channels
PREFIX = "homeassistant"
KEY_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_WANTED = {bool: "true or false", str: "text", list: "a list of texts", float: "a number", int: "a whole number"}
_LIMITS: dict[str, type] = {"off": list, "overdue": int, "minutes": float, "battery": float}
_ALERTS: dict[str, type] = {
    **_LIMITS,
    "groups": dict,
    "calm": float,
    "fleet": float,
    "every": float,
    "quiet": str,
    "mqtt": bool,
    "notify": list,
    "webhook": str,
    "webhook_key": str,
}
_HOME: dict[str, type] = {"prefix": str, "expires": float}
_RANGES = {  # least and most
    "overdue": (0, 1000),
    "minutes": (0, 10_000),
    "battery": (0, 60),
    "calm": (60, 30 * 86400),
    "fleet": (0.01, 1),
    "every": (1, 3600),
    "expires": (60, 7 * 86400),
}


@dataclass(frozen=True)
class Quiet:
    """Hours without notifications, in minutes of this machine's day; none where both are the same."""

    first: int = 0
    last: int = 0

    def end(self, now: float) -> float:
        """`now` (Unix seconds), or where these hours have begun their end."""
        at = time.localtime(now)
        minute = 60 * at.tm_hour + at.tm_min
        since_first, length = (minute - self.first) % 1440, (self.last - self.first) % 1440
        return now + 60 * (length - since_first) - at.tm_sec if since_first < length else now


@dataclass(frozen=True)
class Alerts:
    """`rules` of the fleet, looked at every `every` seconds. The URLs of `notify` and `webhook` and `key`, the key of
    the webhook's signatures, are secret.
    """

    rules: Rules
    every: float = 30.0
    notify: tuple[str, ...] = field(default=(), repr=False)
    webhook: str | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Home:
    """Home Assistant's discovery `prefix`, and the seconds within which a command from there is to start."""

    prefix: str = PREFIX
    expires: float = 86400.0


@dataclass(frozen=True)
class Wanted:
    """What a relay is to do beside its work; None: not that."""

    alerts: Alerts | None = None
    home: Home | None = None


class _File:
    """dormouse.toml, to say where in it something is wrong."""

    def __init__(self, path: Path) -> None:
        self.values, self._lines = written.toml(path)

    def wrong(self, key: str, why: str) -> HostError:
        """The error about a key."""
        line = self._lines.get(key)
        return HostError(f"{FILE}{f', line {line}' if line else ''}: {key}: {why}", 2)

    def table(self, name: str, types: Mapping[str, type], value: object) -> dict[str, Any]:
        """A table with only these keys, of these types."""
        if not isinstance(value, dict):
            raise self.wrong(name, f"expected a table, [{name}]")
        for key, said in value.items():
            path = f"{name}.{key}"
            if key not in types:
                hint = near.question(key, types) or f": expected one of {', '.join(types)}"
                raise self.wrong(path, f"unknown key{hint}")
            self._check(path, key, types[key], said)
        return value

    def _check(self, path: str, key: str, wanted: type, said: object) -> None:
        number = isinstance(said, int | float) and not isinstance(said, bool)
        right = number if wanted is float else type(said) is wanted
        if isinstance(said, list):
            right = right and all(isinstance(item, str) for item in said)
        if wanted is dict:
            return
        if not right:
            raise self.wrong(path, f"expected {_WANTED[wanted]}")
        if key in _RANGES and isinstance(said, int | float):
            least, most = _RANGES[key]
            if not least <= said <= most:
                raise self.wrong(path, f"expected {least:g} to {most:g}")


def read(folder: Path, environment: Mapping[str, str]) -> Wanted:
    """What dormouse.toml in this folder wants. HostError naming what is wrong there."""
    file = _File(folder / FILE)
    alerts = _alerts(file, environment) if "alerts" in file.values else None
    home = _home(file) if "homeassistant" in file.values else None
    return Wanted(alerts, home)


def _alerts(file: _File, environment: Mapping[str, str]) -> Alerts:
    said = file.table("alerts", _ALERTS, file.values["alerts"])
    limits = _limits(file, "alerts", said, Limits())
    groups = {}
    within = said.get("groups", {})
    if not isinstance(within, dict):
        raise file.wrong("alerts.groups", "expected tables, [alerts.groups.NAME]")
    for name, table in within.items():
        path = f"alerts.groups.{name}"
        groups[name] = _limits(file, path, file.table(path, _LIMITS, table), limits)
    notify = tuple(environment.get("DORMOUSE_NOTIFY", "").split()) or tuple(said.get("notify", ()))
    webhook = environment.get("DORMOUSE_WEBHOOK") or said.get("webhook")
    key = environment.get("DORMOUSE_WEBHOOK_KEY") or said.get("webhook_key")
    if webhook and not _is_http(webhook):
        raise file.wrong("alerts.webhook", "expected http:// or https:// and a host")
    if webhook and not key:
        raise file.wrong("alerts.webhook", f"webhook_key is missing: {KEY_PREFIX} and `openssl rand -base64 32`")
    signing = None if key is None else _key(file, key)
    quiet = _quiet(file, said.get("quiet", "00:00-00:00"))
    channels = [MQTT] if said.get("mqtt", True) else []
    channels += notify_names(notify)
    channels += [WEBHOOK] if webhook else []

    def due(channel: str, now: float) -> float:
        return quiet.end(now) if channel.startswith(NOTIFY) else now

    rules = Rules(limits, groups, float(said.get("calm", 3600)), float(said.get("fleet", 0.5)), tuple(channels), due)
    return Alerts(rules, float(said.get("every", 30)), notify, webhook or None, signing)


def notify_names(urls: Sequence[str]) -> list[str]:
    """The channel of each of these URLs."""
    return [f"{NOTIFY} {number}" for number in range(1, len(urls) + 1)]


def _limits(file: _File, path: str, said: Mapping[str, Any], base: Limits) -> Limits:
    off = said.get("off", ())
    for kind in off:
        if kind not in KINDS:
            raise file.wrong(f"{path}.off", f"expected some of {', '.join(KINDS)}")
    kinds = frozenset(KINDS) - frozenset(off) if "off" in said else base.kinds
    told = {key: said[key] for key in ("overdue", "minutes", "battery") if key in said}
    return replace(base, kinds=kinds, **told)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        return False


def _key(file: _File, text: str) -> bytes:
    try:
        found = base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not text.startswith(KEY_PREFIX) or len(found) not in _KEY_BYTES:
        why = f"expected {KEY_PREFIX} and 24 to 64 bytes in base64: `openssl rand -base64 32` makes them"
        raise file.wrong("alerts.webhook_key", why)
    return found


def _quiet(file: _File, text: str) -> Quiet:
    found = _HOURS.fullmatch(text)
    if found is None:
        raise file.wrong("alerts.quiet", "expected hours of this machine's day, as 22:00-07:00")
    hours = [int(part) for part in found.groups()]
    return Quiet(60 * hours[0] + hours[1], 60 * hours[2] + hours[3])


def _home(file: _File) -> Home:
    said = file.table("homeassistant", _HOME, file.values["homeassistant"])
    prefix = said.get("prefix", PREFIX)
    try:
        protocol.check_root(prefix)
    except ConfigError:
        raise file.wrong("homeassistant.prefix", "expected levels of letters, digits, _ - . joined by /") from None
    return Home(prefix, float(said.get("expires", 86400)))
