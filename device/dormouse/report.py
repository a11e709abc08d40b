"""What the device reports of itself: the wake report and the end record.

Must stay true: a report can't fail, whatever the app did.
"""

from dormouse import app, protocol
from dormouse.state import ENDINGS, FENCE_DEAD, PHASES


def end_record(state, inbox):
    """What is true at the end of wake `state.ended`: the host decides from it alone whether a command is missing."""
    return {
        "wake": state.ended,
        "state": inbox.state,
        "present": state.present,
        "drained": state.drained,
        "fence_dead": state.fence == FENCE_DEAD,
        "acked": state.acked,
        "windows": {w.name: [w.high, w.text()] for w in inbox.windows},
    }


def wake_report(agent, inbox):
    """The first thing that the host learns of a wake, and of the one before it."""
    port, state = agent.port, agent.state
    report = {
        "wake": state.wake,
        "state": inbox.state,
        "cause": agent.cause,
        "clock": port.clock(),
        "next": agent.plan,
        "battery": port.battery(),
        "rssi": port.rssi(),
        "free": port.free(),
        "agent": protocol.VERSION,
        "fw": port.firmware(),
        "limit": agent.config["payload"],
        "catalogue": app.catalogue_hash(),
        "failures": state.failures,
        "app": agent.app_error,
        "signed": True if agent.online.intake.signer else None,
        "refused": state.refused or None,
        "dates": False if agent.config["tls"] and port.time() is None else None,
        "undone": agent.undone,
        "last": agent.last,
        "end": end_record(state, inbox) if state.ended else None,
    }
    return {key: report[key] for key in report if report[key] is not None}


def last_wake(state, log):
    """The wake before this one: how it ended and the last that went wrong in it, and in figures: milliseconds awake
    and in each phase, writes, bytes.
    """
    if state.wake == 0:
        return None
    phases = {name: 10 * ms for name, ms in zip(PHASES, state.phases)}
    figures = {"ended": ENDINGS[state.ending], "ms": state.ms, "phases": phases}
    figures.update(flights=state.flights, up=state.up, down=state.down, erases=state.erases)
    why = log.last(state.wake)
    if why:
        figures["why"] = why
    return figures
