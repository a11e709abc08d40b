"""Orders: a command for some devices is checked against what each device is known to understand, before it is stored.

What the device would refuse is refused here, with the device's own check of arguments; what cannot be known is let
through with a warning. Names that go into topics are checked here, too.
"""

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dormouse import codec, protocol
from dormouse.errors import ConfigError, ProtocolError
from dormouse.signing import SIZE
from dormouse_host import near
from dormouse_host.errors import HostError
from dormouse_host.ledger.entry import Order, unknown_device
from dormouse_host.ledger.queries import DeviceView
from dormouse_host.ledger.rows import UPDATE
from dormouse_host.ledger.rules import Row, payload
from dormouse_host.ledger.shown import CREDENTIALS, left_out

_MOST_VOLTS = 100
_LONGEST_WAIT = 10 * 366 * 86400  # seconds that a command may wait
_LONGEST_STATE = "x" * 12  # of a device that has not yet said its own
_BOOLS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_TYPES = {"int", "float", "str", "bool", "list", "dict"}

Spec = dict[str, Any]


def name(text: str, what: str = "device") -> str:
    """The name of a device, a group or a relay; HostError for what none can have."""
    try:
        checked: str = protocol.check_device_id(text)
    except ConfigError as error:
        raise HostError(f"{what} {error.reason}", 2) from None
    return checked


def several(names: Iterable[str]) -> list[str]:
    """Names in a list, whatever gives them; HostError for a single text, which is no list of its letters."""
    if isinstance(names, str):
        raise HostError(f"{names}: expected a list of names, [{names!r}] for one", 2)
    return list(names)


def devices(names: Iterable[str]) -> list[str]:
    """The names of devices, likewise."""
    return [name(device) for device in several(names)]


def limit(most: int) -> int:
    """How many there may be at most. HostError below one: a database takes that for all, or for an error."""
    if most < 1:
        raise HostError(f"a limit of {most}: expected 1 or more", 2)
    return most


def until(expires: float | None, now: float) -> int | None:
    """The Unix time that lies `expires` seconds ahead. HostError where that is no time to come."""
    if expires is None:
        return None
    if expires != expires:
        raise HostError("the expiry is no number of seconds", 2)
    if not 0 < expires <= _LONGEST_WAIT:
        raise HostError("the expiry is in the past" if expires <= 0 else "the expiry is more than 10 years away", 2)
    return int(now + expires) + 1


def volts(least: float | None) -> float | None:
    """The voltage below which nothing is sent. HostError where that is none of a battery."""
    if least is not None and not 0 < least <= _MOST_VOLTS:
        raise HostError(f"a battery of {least:g} V: expected volts above 0, at most {_MOST_VOLTS}", 2)
    return least


def make(
    devices: Sequence[str],
    known: Mapping[str, DeviceView],
    do: str,
    args: Mapping[str, Any] | Sequence[str],
    expires: int | None,
    after: str | None,
    on_progress: Callable[[int], object],
) -> tuple[list[Order], list[str | None]]:
    """An order for each device, and a warning or None. `known`: those that may get one; `expires`: Unix seconds."""
    if do in CREDENTIALS:
        raise HostError(f"{do} alone may lock a device out: dormouse rotate DEVICE does it safely", 2)
    if do == UPDATE:
        raise HostError("update has steps of its own: dormouse update DEVICE", 2)
    orders, warnings = [], []
    for device in devices:
        if device not in known:
            raise unknown_device(device, known)
        text, warning = check(known[device], do, _given(known[device], do, args), expires)
        orders.append(Order(device, do, text, expires, after))
        warnings.append(warning)
        on_progress(len(orders))
    return orders, warnings


def alike(
    devices: Sequence[str],
    known: Mapping[str, DeviceView],
    do: str,
    args: Mapping[str, Any] | Sequence[str],
    expires: int | None,
) -> dict[str, Any]:
    """What a rollout sends to each of these devices, {"do", "args"}; HostError where one would refuse it."""
    checked, _ = make(devices, known, do, args, expires, None, lambda done: None)
    if len({order.args for order in checked}) > 1:
        raise HostError(f"{do}: the devices declare its arguments differently", 2)
    return {"do": do, "args": checked[0].args}


def _given(view: DeviceView, do: str, args: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    """Values by name, out of such values or out of `key=value` words."""
    return dict(args) if isinstance(args, Mapping) else read_words(list(args), spec_of(view, do))


# ---- catalogues


def spec_of(device: DeviceView, do: str) -> Spec | None:
    """The arguments of a command as declared, or None where nobody knows: a device that runs without its program may
    understand it again. HostError where the device has no such.
    """
    if do in protocol.STANDARD:
        return _standard(do)
    if device.catalogue is None:
        return None
    for entry in device.catalogue.get("commands", ()):
        if isinstance(entry, list) and len(entry) == 4 and entry[0] == do:
            return _declared(entry[1])
    if left_out(device.report):
        return None
    raise HostError(f"device {device.id} has no command {do}{near.question(do, known(device))}", 2)


def known(device: DeviceView) -> dict[str, Spec]:
    """The commands that a device is known to understand, and that people send, each with its arguments as declared:
    its own ones first.
    """
    said = (device.catalogue or {}).get("commands", ())
    named = [entry for entry in said if isinstance(entry, list) and len(entry) == 4 and isinstance(entry[0], str)]
    own = {entry[0]: _declared(entry[1]) or {} for entry in named}
    standard = {name: _standard(name) for name in sorted(protocol.STANDARD) if name not in (*CREDENTIALS, UPDATE)}
    return {**own, **standard}


def _standard(name: str) -> Spec:
    return dict(protocol.standard_specs().get(name, {}))


def _declared(arguments: Any) -> Spec | None:
    """The arguments that a device has described, or None where it described nonsense."""
    try:
        spec = dict(arguments)
        types = {kind if isinstance(kind, str) else kind[0] for kind in spec.values()}
        return spec if types <= _TYPES and all(isinstance(arg, str) for arg in spec) else None
    except (TypeError, ValueError, IndexError, KeyError):
        return None


def read_words(words: list[str], spec: Spec | None) -> dict[str, Any]:
    """`key=value` words as arguments: a value is JSON where it is any, unless the argument is declared as text. A bool
    may also be written yes and no, on and off, 1 and 0.
    """
    args: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise HostError(f"{word}: arguments are written key=value", 2)
        if key in args:
            raise HostError(f"argument {key} is given twice", 2)
        kind = (spec or {}).get(key)
        kind = kind[0] if isinstance(kind, list) else kind
        known = _BOOLS.get(text.lower()) if kind == "bool" else None
        args[key] = text if kind == "str" else _json_or_text(text) if known is None else known
    return args


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


@functools.lru_cache(maxsize=64)  # for many devices it is the same text
def _check_legible(text: str) -> None:
    """ProtocolError for JSON that a device does not read: half a character, a number of hundreds of digits."""
    try:
        codec.check_shape(text.encode())
    except ProtocolError as error:
        raise ProtocolError("a number too long" if error.reason.startswith("not JSON") else error.reason) from None


def check(device: DeviceView, do: str, args: dict[str, Any], expires: int | None) -> tuple[str | None, str | None]:
    """(arguments as JSON text, a warning or None); HostError for what the device would refuse."""
    if not 0 < len(do) <= 40 or not do.isprintable():
        raise HostError("a command's name has 1 to 40 printable characters", 2)
    if device.report.get("signed") and not device.key:
        why = f"{device.id} takes signed commands only, and this ledger has no key for it"
        raise HostError(f"{why}: dormouse sign {device.id}, then flash it", 2)
    spec = spec_of(device, do)
    try:
        if spec is not None:
            codec.check_args(spec, args)
        text = codec.encode(args).decode() if args else None
        _check_legible(text or "{}")
        codec.encode({"args": args})  # as deep as it will be
        row = Row(0, "x" * 10, device.id, "x" * 12, protocol.NUMBER_LIMIT - 1, do, text, expires, None)
        size = len(payload(row, device.state or _LONGEST_STATE, None))
    except (ProtocolError, UnicodeError) as error:
        reason = getattr(error, "reason", "not expressible as JSON")
        if reason.startswith("unknown argument ") and spec is not None:
            reason += near.question(reason.split()[-1], spec) or f": {do} takes {', '.join(spec) or 'none'}"
        raise HostError(f"{do}: {reason}", 2) from None
    limit = (device.limit or protocol.PAYLOAD_LIMIT) - (SIZE if device.report.get("signed") else 0)
    if size > limit:
        raise HostError(f"{do}: {size} bytes, and device {device.id} takes {limit}", 2)
    if spec is None:
        unknown = f"what {device.id} understands is not known yet: {do} is sent unchecked"
        if device.catalogue is not None:
            why = left_out(device.report)
            unknown = f"{device.id} runs without its program, {do} waits until it is back, unchecked; app.py: {why}"
        unknown += near.question(do, known(device)).replace(":", ";", 1)
        if said := [value for value in args.values() if isinstance(value, str) and value.lower() in _BOOLS]:
            unknown += f"; {said[0]} is sent as text: a bool is true or false until then"
        return text, unknown
    return text, None
