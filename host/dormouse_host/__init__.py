"""The host's side of Dormouse: what runs on a computer and speaks to the devices through the broker.

Must stay true: nothing is imported here before somebody asks for it, so that a command of the line costs only what it
uses.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dormouse_host.fleet import Fleet

__version__ = "0.1.0"
__all__ = ["Fleet", "__version__"]


def __getattr__(name: str) -> Any:
    if name != "Fleet":
        raise AttributeError(name)
    from dormouse_host.fleet import Fleet

    return Fleet
