"""What the device tells of itself: log lines, the wake report, the end record.

Must stay true: a log line is one event on one line, and no secret is ever in one; a report can't fail, whatever the
app did; of the log only what went wrong costs flash, and at most 2 KiB of it.
"""

from dormouse import catalogue, payloads, protocol
from dormouse.errors import ProtocolError
from dormouse.state import ENDINGS, FENCE_DEAD, PHASES

_KEPT = ("error", "rejected", "rejoin")  # events that are kept
_RAM = 1024  # characters of them in one wake
_FLASH = 2048


def describe(error):
    """An exception as one line for a result: its kind and its text."""
    return ("%s: %s" % (type(error).__name__, error))[: protocol.TEXT_LIMIT]


class Log:
    """Log lines: `dormouse <ms since boot> <event>[ <JSON object>]`; fields that are None are left out."""

    def __init__(self, port):
        self.port = port
        self.wake = 0  # number of this wake, once it is known
        self._lines = []  # of what is kept
        self._size = 0  # characters of them

    def __call__(self, event, **fields):
        try:
            self._tell(event, fields)
        except MemoryError:
            pass  # a line less; the wake ends as it would have

    def _tell(self, event, fields):
        fields = {key: fields[key] for key in fields if fields[key] is not None}
        line = "dormouse %d %s" % (self.port.ms(), event)
        if fields:
            try:
                line += " " + payloads.encode(fields).decode()
            except ProtocolError as e:
                line += ' {"why":"%s"}' % e.reason
        self.port.emit(line)
        if event in _KEPT and (event == "error" or self._size < _RAM):
            line = "%d %s\n" % (self.wake, line[9 : 9 + 2 * protocol.TEXT_LIMIT])
            if self._size >= _RAM:  # the last error is the one that ended the wake
                self._size -= len(self._lines.pop())
            self._lines.append(line)
            self._size += len(line)

    def kept(self):
        """What is kept, the oldest first: `<wake> <ms> <event> …`, a line each."""
        lines = "".join(self._lines)
        text = (self.port.storage.read("log") or b"") + lines.encode()
        if len(text) > _FLASH:  # whole lines only: half a character can't be decoded
            text = text[text.find(b"\n", len(text) - _FLASH - 1) + 1 :]
        try:
            return text.decode()
        except UnicodeError:  # flash was damaged
            return lines

    def last(self, wake):
        """What the last line that is kept of this wake tells: `<event> …`, or None."""
        text = self.kept()[:-1]
        number, _, line = text[text.rfind("\n") + 1 :].partition(" ")
        return line.partition(" ")[2] if number == str(wake) else None

    def keep(self):
        """Put this wake's part on flash."""
        if self._lines:
            try:
                text = self.kept().encode()
            except MemoryError:
                return  # sleep is worth more than a log
            self._lines, self._size = [], 0
            self.port.storage.replace("log", text)


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
        "catalogue": catalogue.catalogue_hash(),
        "failures": state.failures,
        "app": agent.app_error,
        "signed": True if agent.online.intake.signer else None,
        "refused": state.refused or None,
        "dates": False if agent.config["tls"] and port.time() is None else None,
        "undone": agent.settings.undone,
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
