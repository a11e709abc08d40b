"""Dormouse, the agent: commands for devices that sleep.

Must stay true: what a user's app imports is here, and costs a computer next to nothing: on a board the agent is there.

    from dormouse import command, telemetry
"""

import sys

from dormouse.app import command, telemetry


def _port():
    """This platform's Port."""
    if sys.platform == "esp32":
        from dormouse.ports.esp32 import Port as port
    elif sys.platform == "rp2":
        from dormouse.ports.rp2 import Port as port
    else:
        from dormouse.ports.posix import Port as port

    return port


if sys.platform in ("esp32", "rp2"):
    from dormouse.agent import Agent as _Agent

    # What boot.py calls, one of an older version too, with the app, cause, on_healthy and slots: no function of this
    # file, so that no frame of its own lies under a wake.
    start = _Agent(_port).run


def run(app="app", port=None):
    """One wake of the agent with the commands and readings that module `app` declares. Ends in sleep."""
    if port is None and sys.platform in ("esp32", "rp2"):
        from dormouse.ports.boot import run as boot

        return boot(app)
    from dormouse.agent import Agent

    return Agent(port or _port()()).run(app)


__all__ = ("command", "run", "telemetry")
