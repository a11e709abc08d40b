"""Dormouse, the agent: commands for devices that sleep.

Must stay true: what a user's app imports is here and costs next to nothing; `run` brings in the rest.

    from dormouse import command, telemetry
"""

import sys

from dormouse.app import command, telemetry


def start(app, *boot):
    """What boot.py starts on a board, one of an older version too: `boot` are cause, on_healthy and slots."""
    return run(app, _port()(*boot))


def _port():
    """This platform's Port."""
    if sys.platform == "esp32":
        from dormouse.ports.esp32 import Port as port
    elif sys.platform == "rp2":
        from dormouse.ports.rp2 import Port as port
    else:
        from dormouse.ports.posix import Port as port

    return port


def run(app="app", port=None):
    """One wake of the agent with the commands and readings that module `app` declares. Ends in sleep."""
    if port is None:
        if sys.platform in ("esp32", "rp2"):
            from dormouse.ports.boot import run as boot

            return boot(app)
        port = _port()()
    from dormouse.agent import Agent

    return Agent(port).run(app)


__all__ = ("command", "run", "telemetry")
