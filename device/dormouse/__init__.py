"""Dormouse, the agent: commands for devices that sleep.

Must stay true: what a user's app imports is here and costs next to nothing; `run` brings in the rest.

    from dormouse import command, telemetry
"""

import sys

from dormouse.app import command, telemetry


def start(app, cause, on_healthy, slots):
    """What boot.py starts on a board: one wake, with what the boot has found out. An older boot.py calls it, too."""
    name = "dormouse.ports." + sys.platform
    __import__(name)
    from dormouse.agent import Agent

    return Agent(sys.modules[name].Port(cause, on_healthy, slots)).run(app)


def run(app="app", port=None):
    """One wake of the agent with the commands and readings that module `app` declares. Ends in sleep."""
    if port is None:
        if sys.platform in ("esp32", "rp2"):
            from dormouse.ports.boot import run as boot

            return boot(app)
        name = "dormouse.ports.posix"
        __import__(name)
        port = sys.modules[name].Port()
    from dormouse.agent import Agent

    return Agent(port).run(app)


__all__ = ("command", "run", "telemetry")
