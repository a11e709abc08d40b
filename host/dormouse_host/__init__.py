"""The host's library: what runs on a computer and talks to the devices through the broker.

Names are imported when they are first used, so that a CLI command loads only what it needs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dormouse_host.async_fleet import AsyncFleet
    from dormouse_host.errors import HostError
    from dormouse_host.fleet import Fleet

__version__ = "0.1.0"
__all__ = ["AsyncFleet", "Fleet", "HostError", "__version__"]
_WHERE = {"AsyncFleet": "async_fleet", "Fleet": "fleet", "HostError": "errors"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"dormouse_host.{_WHERE[name]}"), name)
