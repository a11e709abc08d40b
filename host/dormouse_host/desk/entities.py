"""A device as Home Assistant has it: the message of device discovery (since 2024.11), its state, and its commands.

Must stay true: no text of a device becomes part of a template or of a topic; what can be commanded from there is what
its catalogue lists and no built-in command, and an update that was ordered before and failed; the same device gives the
same bytes.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dormouse import protocol
from dormouse_host.ledger.home import Standing
from dormouse_host.ledger.offers import Program

_UPDATE = "d_update"
_MOST = 60  # readings of a device that are shown
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,32}")  # names of commands and arguments that may stand in a template
_TEXT = 255  # characters of a state, as Home Assistant has them
_KINDS = {  # the last word of a reading's name -> device class, unit
    **dict.fromkeys(("temp", "temperature", "t"), ("temperature", "°C")),
    **dict.fromkeys(("hum", "humidity", "rh"), ("humidity", "%")),
    **dict.fromkeys(("moisture", "soil"), ("moisture", "%")),
    **dict.fromkeys(("vbat", "vin", "volt", "volts", "voltage", "battery", "v"), ("voltage", "V")),
    **dict.fromkeys(("ma",), ("current", "mA")),
    **dict.fromkeys(("hpa", "pressure"), ("atmospheric_pressure", "hPa")),
    **dict.fromkeys(("lux", "lx", "light"), ("illuminance", "lx")),
    **dict.fromkeys(("co2",), ("carbon_dioxide", "ppm")),
    **dict.fromkeys(("rssi", "dbm"), ("signal_strength", "dBm")),
    **dict.fromkeys(("pm25",), ("pm25", "µg/m³")),
    **dict.fromkeys(("cm", "distance"), ("distance", "cm")),
    **dict.fromkeys(("rain",), ("precipitation", "mm")),
}
_RANGES = {
    "percent": (0, 100),
    "level": (0, 100),
    "s": (0, 86400),
    "seconds": (0, 86400),
}  # of an argument, by its name
_WIDEST = (-1_000_000, 1_000_000)
_STATES = {  # of the device itself: key -> name, device class, unit
    "battery": ("Battery", "voltage", "V"),
    "rssi": ("Signal", "signal_strength", "dBm"),
    "seen": ("Last seen", "timestamp", None),
    "next": ("Next wake", "timestamp", None),
}


@dataclass(frozen=True)
class Places:
    """The topics below a discovery prefix."""

    prefix: str

    @property
    def relay(self) -> str:
        """`online` while a relay is connected."""
        return f"{self.prefix}/dormouse/relay"

    @property
    def orders(self) -> str:
        """What a relay subscribes to."""
        return f"{self.prefix}/dormouse/+/set"

    def config(self, device: str) -> str:
        """The discovery message."""
        return f"{self.prefix}/device/dormouse_{object_id(device)}/config"

    def of(self, device: str, leaf: str) -> str:
        """`state`, `availability` or `set`."""
        return f"{self.prefix}/dormouse/{object_id(device)}/{leaf}"


def object_id(device: str) -> str:
    """A device's id in topics of Home Assistant, where it may have no dot."""
    if "." not in device:
        return device
    return f"{device.replace('.', '_')}_{hashlib.sha256(device.encode()).hexdigest()[:8]}"


def _slug(name: str) -> str:
    """A reading's name as a plain word; another name never gives the same."""
    plain = re.sub(r"[^a-z0-9_]", "_", name.lower())
    if plain == name and len(name) <= 40:
        return plain
    return f"{plain[:40]}_{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


# ---- commands


@dataclass(frozen=True)
class Command:
    """A command that Home Assistant may send. `platform`: button, number or switch; `argument`: the one that is set."""

    name: str
    platform: str
    argument: str | None = None
    whole: bool = True


def commands(catalogue: Mapping[str, Any] | None) -> dict[str, Command]:
    """Those of a catalogue: without required arguments a button, with one that is a number or a bool what sets it."""
    found = {}
    for entry in (catalogue or {}).get("commands", ()):
        command = _command(entry)
        if command is not None:
            found[command.name] = command
    return found


def _command(entry: Any) -> Command | None:
    if not isinstance(entry, list) or len(entry) != 4 or not isinstance(entry[0], str):
        return None
    name, arguments = entry[0], entry[1]
    if not _PLAIN.fullmatch(name) or name in protocol.STANDARD or not isinstance(arguments, list):
        return None
    if not all(isinstance(each, list) and len(each) == 2 and isinstance(each[0], str) for each in arguments):
        return None
    required = [(argument, kind) for argument, kind in arguments if isinstance(kind, str)]
    if not required:
        return Command(name, "button")
    argument, kind = required[0]
    platform = {"int": "number", "float": "number", "bool": "switch"}.get(kind)
    if len(required) > 1 or platform is None or not _PLAIN.fullmatch(argument):
        return None
    return Command(name, platform, argument, kind == "int")


def _template(device: str, command: Command) -> str:
    """The payload of a command. Its time makes each press another message, and one that comes twice the same."""
    value = {"button": "", "number": "{{ value }}", "switch": "{{ 'true' if value == 'ON' else 'false' }}"}
    args = f'{{"{command.argument}": {value[command.platform]}}}' if command.argument else "{}"
    return f'{{"device": "{device}", "do": "{command.name}", "args": {args}, "at": {{{{ now().timestamp() }}}}}}'


# ---- discovery and state


def describe(places: Places, standing: Standing, known: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
    """The discovery message and its components (name -> platform). `known`: those that Home Assistant was told of;
    a reading stays, a command that the device has no longer goes.
    """
    view = standing.view
    components: dict[str, dict[str, Any]] = {}
    for slug, name, platform, value in readings(standing):
        components[slug] = _reading(slug, name, platform, value)
    for slug, platform in known.items():
        if slug.startswith("r_") and slug not in components:
            components[slug] = _reading(slug, slug[2:], platform, None)
    for key, (name, kind, unit) in _STATES.items():
        components[f"d_{key}"] = _own(f"d_{key}", name, kind, unit)
    components["d_pending"] = _own("d_pending", "Pending commands", None, None)
    components["d_problem"] = {
        **_own("d_problem", "Problem", "problem", None),
        "platform": "binary_sensor",
        "value_template": "{{ 'ON' if value_json.d_problem else 'OFF' }}",
    }
    for command in commands(view.catalogue).values():
        components[f"c_{_slug(command.name)}"] = _settable(places, view.id, command)
    if standing.program:
        components[_UPDATE] = _update(places, view.id, standing.program)
    for slug, component in components.items():
        component["unique_id"] = f"dormouse_{view.id}_{slug}"
    said = {slug: str(component["platform"]) for slug, component in components.items()}
    gone = {slug: {"platform": platform} for slug, platform in known.items() if slug not in components}
    message = {
        "device": _device(view.id, view.report),
        "origin": {"name": "dormouse", "sw_version": protocol.VERSION},
        "components": {**components, **gone},
        "state_topic": places.of(view.id, "state"),
        "availability": [{"topic": places.relay}, {"topic": places.of(view.id, "availability")}],
        "availability_mode": "all",
        "qos": 1,
    }
    return json.dumps(message, ensure_ascii=False).encode(), said


def _device(name: str, report: Mapping[str, Any]) -> dict[str, Any]:
    told = {"model": report.get("fw"), "sw_version": report.get("agent")}
    more = {key: value[:64] for key, value in told.items() if isinstance(value, str) and value}
    return {"identifiers": [f"dormouse_{name}"], "name": name, "manufacturer": "Dormouse", **more}


def readings(standing: Standing) -> list[tuple[str, str, str, Any]]:
    """(slug, name, platform, value) of what can be shown."""
    found: list[tuple[str, str, str, Any]] = []
    for name, value in sorted(standing.readings.items()):
        if isinstance(value, bool):
            found.append((f"r_{_slug(name)}", name, "binary_sensor", value))
        elif isinstance(value, int | float | str):
            found.append((f"r_{_slug(name)}", name, "sensor", value))
    return found[:_MOST]


def _reading(slug: str, name: str, platform: str, value: object) -> dict[str, Any]:
    if platform == "binary_sensor":
        template = f"{{{{ 'None' if value_json.{slug} is none else 'ON' if value_json.{slug} else 'OFF' }}}}"
        return {"platform": platform, "name": name[:64], "value_template": template}
    found: dict[str, Any] = {"platform": "sensor", "name": name[:64], "value_template": _value(slug)}
    if isinstance(value, str):
        return found
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    kind, unit = _KINDS.get(words[-1], (None, None)) if words else (None, None)
    if kind:
        found |= {"device_class": kind, "unit_of_measurement": unit}
    return found | {"state_class": "measurement"}


def _value(slug: str) -> str:
    return f"{{{{ value_json.{slug} }}}}"


def _own(slug: str, name: str, kind: str | None, unit: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"platform": "sensor", "name": name, "value_template": _value(slug)}
    if kind:
        found["device_class"] = kind
    if unit:
        found |= {"unit_of_measurement": unit, "state_class": "measurement"}
    return found | {"entity_category": "diagnostic"}


def _settable(places: Places, device: str, command: Command) -> dict[str, Any]:
    slug = f"c_{_slug(command.name)}"
    found: dict[str, Any] = {
        "platform": command.platform,
        "name": command.name,
        "command_topic": places.of(device, "set"),
        "command_template": _template(device, command),
    }
    if command.platform == "number":
        least, most = _RANGES.get(command.argument or "", _WIDEST)
        step = 1 if command.whole else 0.001
        found |= {"min": least, "max": most, "step": step, "mode": "box", "value_template": _value(slug)}
    elif command.platform == "switch":
        choice = f"'None' if value_json.{slug} is none else 'ON' if value_json.{slug} else 'OFF'"
        found["value_template"] = f"{{{{ {choice} }}}}"
    return found


def _update(places: Places, device: str, program: Program) -> dict[str, Any]:
    """It can be installed from there only where an update has failed or expired, which is then ordered again."""
    found: dict[str, Any] = {
        "platform": "update",
        "name": "Program",
        "value_template": f"{{{{ value_json.{_UPDATE} | tojson }}}}",
    }
    if program.again:
        order = json.dumps({"device": device, "install": program.again})
        found |= {"command_topic": places.of(device, "set"), "payload_install": order}
    return found


def _versions(device: str, program: Program) -> dict[str, Any]:
    """As MQTT's update entity has it in JSON."""
    status = program.newest.status
    found = {"installed_version": _version(program.kept), "latest_version": _version(program.latest)}
    told = {"title": "Program", "in_progress": not program.newest.final, "update_percentage": program.percent}
    if program.newest.final and status != protocol.SUCCEEDED:
        told["release_summary"] = f"The last update is {status}: dormouse update history {device}"
    return {**found, **told}


def _version(release: str | None) -> str:
    """No number, which Home Assistant would take for older or newer than another one."""
    return "as flashed" if release is None else f"release {release}"


def state(standing: Standing, components: Mapping[str, str]) -> bytes:
    """A value for each of these components that has one; null where it is not known."""
    view = standing.view
    values: dict[str, Any] = dict.fromkeys(components)
    for slug, _, _, value in readings(standing):
        if slug in values:
            values[slug] = value[:_TEXT] if isinstance(value, str) else value
    for key in ("battery", "rssi"):
        said = view.report.get(key)
        values[f"d_{key}"] = said if isinstance(said, int | float) and not isinstance(said, bool) else None
    values["d_seen"], values["d_next"] = _iso(view.seen), _iso(view.next_due)
    values["d_pending"] = view.pending
    values["d_problem"] = bool(view.faults)
    if standing.program:
        values[_UPDATE] = _versions(view.id, standing.program)
    for command in commands(view.catalogue).values():
        if command.argument:
            values[f"c_{_slug(command.name)}"] = standing.set_to.get(command.name, {}).get(command.argument)
    return json.dumps(values, ensure_ascii=False).encode()


def _iso(at: float | None) -> str | None:
    from datetime import UTC, datetime

    try:
        return None if at is None else datetime.fromtimestamp(int(at), UTC).isoformat()
    except (OverflowError, ValueError):
        return None
