"""Orders out of what somebody asks for: one command for some devices.

Must stay true: whatever is wrong with an order is found here, before anything is stored; a name that goes into a topic
is one that may.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host import catalogues
from dormouse_host.errors import HostError
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.queries import CREDENTIALS, DeviceView

_LONGEST = 10 * 366 * 86400  # seconds that a command may wait


def name(text: str, what: str = "device") -> str:
    """The name of a device, a group or a relay; HostError for what none can have."""
    try:
        checked: str = protocol.check_device_id(text)
    except ConfigError as error:
        raise HostError(f"{what} {error.reason}", 2) from None
    return checked


def until(expires: float | None, now: float) -> int | None:
    """The Unix time that lies `expires` seconds ahead. HostError where that is no time to come."""
    if expires is None:
        return None
    if not 0 < expires <= _LONGEST:
        raise HostError("the expiry is in the past" if expires <= 0 else "the expiry is more than 10 years away", 2)
    return int(now + expires) + 1


def check(
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
    orders, warnings = [], []
    for device in devices:
        if device not in known:
            raise HostError(f"device {device} is not known: dormouse devices add {device}", 2)
        text, warning = catalogues.check(known[device], do, _given(known[device], do, args), expires)
        orders.append(Order(device, do, text, expires, after))
        warnings.append(warning)
        on_progress(len(orders))
    return orders, warnings


def _given(view: DeviceView, do: str, args: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    """Values by name, out of such values or out of `key=value` words."""
    return dict(args) if isinstance(args, Mapping) else catalogues.read_words(list(args), catalogues.spec_of(view, do))
