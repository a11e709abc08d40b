"""Dormouse, the agent: commands for devices that sleep.

Must stay true: what a user's app imports is here and costs next to nothing; `run` brings in the rest.

    from dormouse import command, telemetry
"""

from dormouse.catalogue import command, telemetry


def run(app="app", port=None):
    """One wake of the agent with the commands and readings that module `app` declares. Ends in sleep."""
    from dormouse.agent import run as run_agent

    return run_agent(app, port)


__all__ = ("command", "run", "telemetry")
