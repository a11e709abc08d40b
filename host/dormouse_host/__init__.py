"""The host's side of Dormouse: it runs on a computer and speaks to the devices through the broker.

Nothing is imported here before somebody asks for it, so each CLI command costs only what it uses.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dormouse_host.async_fleet import AsyncFleet
    from dormouse_host.fleet import Fleet

__version__ = "0.1.0"
__all__ = ["AsyncFleet", "Fleet", "__version__"]
_WHERE = {"AsyncFleet": "async_fleet", "Fleet": "fleet"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"dormouse_host.{_WHERE[name]}"), name)
