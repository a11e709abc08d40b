"""A project: dormouse.toml, and the configuration of each device.

Board defaults, `broker` and `root` (environment before file), `[device]`, devices/ID, `[devices.ID]` and the command
line override each other in this order. The device's own rules check the result before anything is copied. A secret
comes from a file or the environment, goes to secrets.json, and is in no message.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509

from dormouse import config as device_config
from dormouse.errors import ConfigError, DormouseError
from dormouse_host import near, profile, trust, written
from dormouse_host.errors import HostError
from dormouse_host.flash.kinds import Board
from dormouse_host.settings import FILE, meant

SECRETS = {
    "wifi": {"password": "wifi_password"},
    "mqtt": {"user": "user", "password": "password"},
}  # table and key of dormouse.toml -> key of secrets.json
ENVIRONMENT = {"WIFI_PASSWORD": "wifi_password", "MQTT_USERNAME": "user", "MQTT_PASSWORD": "password"}
_SHARED = {"broker": "DORMOUSE_BROKER", "root": "DORMOUSE_ROOT"}  # shared with ledger and relay: settings.py
_TABLES: dict[str, dict[str, type] | None] = {
    "broker": profile.TYPES,
    "wifi": {"ssid": str, "password": str, "also": list},
    "mqtt": {"user": str, "password": str},
    "app": {"main": str, "files": list, "packages": list},
    "device": None,
    "devices": None,
    "alerts": None,  # these two are desk/config.py's
    "homeassistant": None,
}
PROVISIONED = "devices"  # folder of `dormouse provision`, with a folder per device
_ALSO = ("ssid", "password")  # of each network in `also`
_OWN = ("board", "port", "wifi", "mqtt")  # keys of `[devices.ID]` beside those of config.json
_TOP = ("db", "broker", "root")
_WANTED = {str: "text", list: "a list of texts", bool: "true or false", int: "a whole number"}


@dataclass(frozen=True)
class App:
    """The files of the user's program; paths relative to the project's folder."""

    main: str = "app.py"
    files: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()  # as mpremote mip takes them


@dataclass(frozen=True)
class Project:
    """A project's folder and the values of its dormouse.toml; empty without one."""

    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)  # of its keys, by their dotted names

    @property
    def app(self) -> App:
        """The program."""
        said = self.values.get("app", {})
        return App(said.get("main", "app.py"), tuple(said.get("files", ())), tuple(said.get("packages", ())))

    def device(self, name: str) -> dict[str, Any]:
        """The values of `[devices.<name>]`."""
        said: dict[str, Any] = self.values.get("devices", {}).get(name, {})
        return said

    def wrong(self, path: str, why: str, what: str = "") -> HostError:
        """An error in the value at this dotted name."""
        line = self.lines.get(path)
        return HostError(f"{FILE}{f', line {line}' if line else ''}: {what}{path}: {why}", 2)


@dataclass(frozen=True)
class DeviceFiles:
    """A device's configuration, checked; `config` has only values that are not the agent's defaults."""

    config: dict[str, Any]
    secrets: dict[str, Any] = field(repr=False)  # texts, and in `wifi` pairs of them
    full: dict[str, Any]  # the configuration with all defaults, `host` and `port` of the broker apart
    keys: dict[str, bytes] = field(default_factory=dict, repr=False)  # certificates and keys by file name
    trusted: tuple[x509.Certificate, ...] = ()  # CAs of which a board is to have one: see before.anchored
    ca: str = ""  # where its CA is from: a file beside dormouse.toml, or `system`

    def contents(self) -> dict[str, bytes]:
        """Path on the board -> bytes; the same for the same configuration."""
        return {
            "config.json": _json(self.config),
            "secrets.json": _json(self.secrets),
            **self.keys,
        }


def read(folder: Path) -> Project:
    """The project in `folder`. HostError naming the key that is wrong."""
    values, lines = written.toml(folder / FILE)
    here = Project(folder, values, lines)
    for key, value in values.items():
        _check_top(here, key, value)
    return here


def _check_top(here: Project, key: str, value: object) -> None:
    if key in _TOP and not (key == "broker" and isinstance(value, dict)):
        if not isinstance(value, str):
            raise here.wrong(key, "expected text")
        return
    if key not in _TABLES:
        raise here.wrong(key, meant(key, list(dict.fromkeys((*_TOP, *_TABLES)))), "unknown key ")
    if not isinstance(value, dict):
        raise here.wrong(key, f"expected a table, [{key}]")
    _check_table(here, key, key, value)
    for name, device in value.items() if key == "devices" else ():
        if not isinstance(device, dict):
            raise here.wrong(f"devices.{name}", f"expected a table, [devices.{name}]")
        for table in ("wifi", "mqtt"):
            if not isinstance(device.get(table, {}), dict):
                raise here.wrong(f"devices.{name}.{table}", "expected a table")
            _check_table(here, table, f"devices.{name}.{table}", device.get(table, {}))
        for own in ("board", "port"):
            if not isinstance(device.get(own, ""), str):
                raise here.wrong(f"devices.{name}.{own}", "expected text")


def _check_table(here: Project, table: str, path: str, values: dict[str, Any]) -> None:
    """Check keys and types of `values` against the top table `table`."""
    known = _TABLES[table]
    if known is None:
        return
    for key, value in values.items():
        if key not in known:
            raise here.wrong(f"{path}.{key}", f"expected one of {', '.join(known)}", "unknown key ")
        if type(value) is not known[key]:
            raise here.wrong(f"{path}.{key}", f"expected {_WANTED[known[key]]}")
        if (table, key) == ("wifi", "also"):
            _check_networks(here, f"{path}.{key}", values[key])
        elif isinstance(value, list) and not all(isinstance(item, str) for item in value):
            raise here.wrong(f"{path}.{key}", "expected a list of texts")
        elif isinstance(value, list) and not all(item.strip() for item in value):
            raise here.wrong(f"{path}.{key}", "one of its names is empty: write a name, or take it out")
        if table == "app" and not "".join(values[key]).isprintable():
            raise here.wrong(f"{path}.{key}", "expected no control characters")


def _check_networks(here: Project, path: str, networks: list[Any]) -> None:
    """Check the networks behind the first. No message tells a password."""
    for network in networks:
        if not isinstance(network, dict) or not all(isinstance(value, str) for value in network.values()):
            raise here.wrong(path, 'expected tables of texts: {ssid = "barn", password = "…"}')
        if not network.get("ssid") or set(network) - {*_ALSO}:
            raise here.wrong(path, f"expected {' and '.join(_ALSO)} of each network")
        if why := _wrong_password(network.get("password", "")):
            raise here.wrong(path, f"{network['ssid']}: {why}")


def device_files(
    project: Project, board: Board, device: str, over: Mapping[str, Any], environment: Mapping[str, str]
) -> DeviceFiles:
    """The configuration of `device` on `board`; `over` is the command line's. HostError naming the wrong key."""
    mine = project.device(device)
    given = project.folder / PROVISIONED / device
    config: dict[str, Any] = board.defaults
    for key, variable in _SHARED.items():
        if said := environment.get(variable) or profile.url(project.values.get(key)):
            config[key] = said
    secrets: dict[str, Any] = {}
    for values in (project.values, mine):
        if values.get("wifi", {}).get("ssid") and board.port != "posix":
            config["ssid"] = values["wifi"]["ssid"]
        if (also := values.get("wifi", {}).get("also")) and board.port != "posix":
            secrets["wifi"] = [[network["ssid"], network.get("password", "")] for network in also]
        for table, keys in SECRETS.items():
            secrets.update({keys[key]: value for key, value in values.get(table, {}).items() if key in keys})
    its_secrets, its_config = (written.json(given / name) for name in ("secrets.json", "config.json"))
    secrets.update(its_secrets)
    config.update(project.values.get("device", {}))
    config.update(its_config)
    config.update({key: value for key, value in mine.items() if key not in _OWN})
    config.update(over)
    config = _for_broker(project.values.get("broker"), config)
    there = {key: environment[name] for name, key in ENVIRONMENT.items() if environment.get(name)}
    if its_secrets.get("password") or its_config.get(
        "cert"
    ):  # it has a login of its own, and there a relay's may stand
        there = {key: said for key, said in there.items() if key not in ("user", "password")}
    secrets.update(there)
    if config.setdefault("id", device) != device:
        raise HostError(f"id: the configuration of {device} has the id {config['id']}", 2)
    if not config.get("broker"):
        raise HostError(f"broker is missing: --broker mqtt://host, DORMOUSE_BROKER, or broker in {FILE}", 2)
    der = {file.name: file.read_bytes() for file in sorted(given.glob("*.der"))}
    ca = str(config.get("ca") or "")
    ca = f"{PROVISIONED}/{device}/{ca}" if ca in der else ca
    trusted = _certificates(project, config, der)
    try:
        full = checked(config)
    except HostError as error:
        raise _with_origin(str(error), project, device, over) from None
    _check_secrets(secrets)
    if full["psk"]:
        _check_shared_key(device, secrets.get("password", ""))
    _check_way(board, full)
    if full["cert"] in der and full["key"] in der:
        _check_pair(device, der[full["cert"]], der[full["key"]])
    return DeviceFiles(config, secrets, full, der, trusted, ca)


def lacks_credential(project: Project, device: str, files: DeviceFiles) -> bool:
    """Was it left out where others of the project were provisioned, and has it no credential from elsewhere?"""
    made = project.folder / PROVISIONED
    others = made.is_dir() and not (made / device).is_dir() and any(path.is_dir() for path in made.iterdir())
    return others and not files.secrets.get("password") and not files.full["cert"]


def _certificates(project: Project, config: dict[str, Any], der: dict[str, bytes]) -> tuple[x509.Certificate, ...]:
    """Bring the files of `ca`, `cert` and `key` that are not a board's yet into `der` and `config`. Returns the CAs,
    where there are several.
    """
    data = {}
    for key in ("ca", "cert", "key"):
        name = config.get(key)
        if isinstance(name, str) and name and name not in der and name != trust.SYSTEM:
            try:
                data[key] = (project.folder / name).read_bytes()
            except OSError as error:
                raise HostError(f"{key}: {name}: {error.strerror}", 2) from None
    if "cert" in data:
        own = trust.certificates(data["cert"], f"cert: {config['cert']}")[0]
        if why := trust.unreadable([own]):
            raise HostError(f"cert: {config['cert']}: MicroPython's TLS cannot read it: {why}", 2)
        config["cert"], der["cert.der"] = "cert.der", trust.der(own)
    if "key" in data:
        der["key.der"] = trust.private_key(data["key"], f"key: {config['key']}")
        config["key"] = "key.der"
    if "ca" not in data and config.get("ca") != trust.SYSTEM:
        return ()
    known = trust.certificates(data["ca"], f"ca: {config['ca']}") if "ca" in data else trust.system()
    config["ca"], der["ca.der"] = "ca.der", trust.der(known[0])
    return tuple(known) if len(known) > 1 else ()


def _for_broker(value: object, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration over the settings of the broker's profile, where that is of this broker."""
    if profile.is_of(value, config.get("broker")):
        return {**profile.settings(value), **config}
    return config


def _with_origin(why: str, project: Project, device: str, over: Mapping[str, Any]) -> HostError:
    """The error in a setting, which names its key, with the place that the value is from."""
    key = why.removeprefix("unknown key ").partition(" ")[0].rstrip(":")
    if key not in over:
        for path in (f"devices.{device}.{key}", f"device.{key}", f"wifi.{key}", key):
            if line := project.lines.get(path):
                return HostError(f"{FILE}, line {line}: {why}", 2)
    return HostError(why, 2)


def _check_pair(device: str, cert: bytes, key: bytes) -> None:
    """Check the pair, of which an interrupted `dormouse rotate` may have written one file only."""
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        belong = x509.load_der_x509_certificate(cert).public_key() == load_der_private_key(key, None).public_key()
    except (ValueError, TypeError):
        belong = False
    if not belong:
        why = f"{PROVISIONED}/{device}: certificate and key do not match"
        raise HostError(f"{why}: continue with dormouse rotate {device}", 2)


def _json(values: Mapping[str, Any]) -> bytes:
    """The same bytes for the same values; UTF-8, because MicroPython reads no surrogate pairs."""
    return json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """The full configuration, checked by the device's own rules. HostError naming the key."""
    for key, value in config.items():
        if not isinstance(value, str | int | float | bool):
            raise HostError(f"{key}: expected text, a number, true or false", 2)
        if isinstance(value, str):
            _check_text(key, value)
    try:
        full: dict[str, Any] = device_config.check(dict(config))
    except ConfigError as error:
        why: str = error.reason.removeprefix("config: ")
        key = why.removeprefix("unknown key ")
        raise HostError(why if key == why else why + near.question(key, device_config.KEYS), 2) from None
    except DormouseError as error:
        raise HostError(error.reason, 2) from None
    return full


def _check_text(key: str, value: str) -> None:
    """The environment and the command line hand over bytes that are no UTF-8 as half surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        hint = ": write the network's name as 0x and hex digits" if key == "ssid" else ""
        raise HostError(f"{key}: not UTF-8{hint}", 2) from None


def _check_secrets(secrets: Mapping[str, Any]) -> None:
    """Check keys and types of secrets.json. No message tells a value."""
    try:
        device_config.check_secrets(dict(secrets))
    except ConfigError as error:
        raise HostError(error.reason, 2) from None
    for key, value in secrets.items():
        for text in [value] if isinstance(value, str) else itertools.chain(*value):
            _check_text(key, text)
    if why := _wrong_password(secrets.get("wifi_password", "")):
        raise HostError(f"wifi password: {why}", 2)


def _check_shared_key(device: str, key: str) -> None:
    """Check the key that device and broker share. No message tells it."""
    try:
        size = len(bytes.fromhex(key))
    except ValueError:
        size = 0
    if not 16 <= size <= 32:  # mbedtls takes no longer one
        why = "expected 32 to 64 hex digits as password in secrets.json"
        raise HostError(f"psk: {why}: dormouse provision {device} --psk makes a key", 2)


def _wrong_password(password: str) -> str | None:
    size = len(password.encode(errors="surrogateescape"))
    if size in (0, 5, *range(8, 65)):  # 5: WEP
        return None
    return f"expected 8 to 63 characters, or 64 hex digits; it has {size} bytes"


def _check_way(board: Board, full: Mapping[str, Any]) -> None:
    """Check what of the network depends on the board or on another key. HostError naming the key."""
    if full["lan"] and board.firmware.chip != "esp32":  # the one chip with an Ethernet MAC
        raise HostError(f"lan: a {board.title} has no Ethernet", 2)
    if full["gateway"] and not full["address"]:
        raise HostError("gateway: expected address, too: without it the network gives both", 2)


def settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` from the command line; a value is JSON where it is JSON, else text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise HostError(f"--set {pair}: expected KEY=VALUE", 2)
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found
