"""What the device tells of itself: log lines, the wake report, the summary of a wake.

Must stay true: a log line is one event on one line, and no secret is ever in one; a report costs no flash and can't
fail, whatever the app did.
"""

from dormouse import catalogue, protocol
from dormouse.errors import ProtocolError


def describe(error):
    """An exception as one line for a result: its kind and its text."""
    return ("%s: %s" % (type(error).__name__, error))[: protocol.TEXT_LIMIT]


class Log:
    """Log lines: `dormouse <ms since boot> <event>[ <JSON object>]`; fields that are None are left out."""

    def __init__(self, port):
        self.port = port

    def __call__(self, event, **fields):
        fields = {key: fields[key] for key in fields if fields[key] is not None}
        line = "dormouse %d %s" % (self.port.ms(), event)
        if fields:
            try:
                line += " " + protocol.encode(fields).decode()
            except ProtocolError as e:
                line += ' {"why":"%s"}' % e.reason
        self.port.emit(line)


def wake_report(port, state, config, plan, app_error):
    """The wake report as bytes: the first thing that the host learns of this wake. `plan` is in seconds."""
    report = {
        "wake": state.wake,
        "cause": port.cause(),
        "next": int(plan),
        "battery": port.battery(),
        "rssi": port.rssi(),
        "free": port.free(),
        "agent": protocol.VERSION,
        "fw": port.firmware(),
        "limit": config["payload"],
        "catalogue": catalogue.catalogue_hash(),
        "failures": state.failures,
        "app": app_error,
    }
    return protocol.encode({key: report[key] for key in report if report[key] is not None})
