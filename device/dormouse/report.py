"""What the device reports of itself: the wake report and the end record.

Must stay true: a report can't fail, whatever the app did.
"""

from dormouse import app, protocol
from dormouse.state import ENDINGS, FENCE_DEAD, PHASES


def end_record(state, name, windows):
    """What is true at the end of wake `state.ended`: the host decides from it alone whether a command is missing.
    `name` is that of the device's own state.
    """
    return {
        "wake": state.ended,
        "state": name,
        "present": state.present,
        "drained": state.drained,
        "fence_dead": state.fence == FENCE_DEAD,
        "acked": state.acked,
        "windows": {w.name: [w.high, w.text()] for w in windows},
    }


def wake_report(facts, port, config, state, signed, name, end):
    """The first thing that the host learns of a wake, and of the one before it.

    `facts`: cause of the boot, what is wrong with the app, readings that failed, settings that are undone, and what
    `last_wake` says; each None where there is none. `name` is that of the device's own state; `end` the end record.
    """
    cause, app_error, failed, undone, last = facts
    report = {
        "wake": state.wake,
        "state": name,
        "cause": cause,
        "clock": port.clock(),
        "next": state.plan,
        "battery": port.battery(),
        "rssi": port.rssi(),
        "free": port.free(),
        "agent": protocol.VERSION,
        "fw": port.firmware(),
        "limit": config["payload"],
        "catalogue": app.catalogue_hash(),
        "failures": state.failures,
        "app": app_error,
        "readings": failed,
        "signed": True if signed else None,
        "refused": state.refused or None,
        "dates": False if config["ca"] and port.time() is None else None,
        "undone": undone,
        "settings": config["changed"] or None,
        "last": last,
        "end": end if state.ended else None,
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
