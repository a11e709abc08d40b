"""Log lines, and those that are kept on flash.

Must stay true: a log line is one event on one line, and no secret is ever in one; of the log only what went wrong costs
flash, and at most 2 KiB of it.
"""

import sys

from dormouse import codec, protocol
from dormouse.errors import DormouseError, ProtocolError, StorageError

_KEPT = ("error", "rejected", "rejoin")  # events that are kept
_RAM = 1024  # characters of them in one wake
_FLASH = 2048


def describe(error, most=protocol.TEXT_LIMIT):
    """An exception as one line for a result: its kind and its text, at most so many characters."""
    try:
        text = str(error)
    except BaseException:  # of an exception that the program has defined
        text = "?"
    return ("%s: %s" % (type(error).__name__, " ".join(text.split())))[:most]


def raised(error):
    """What a piece of the program has raised, as one line: kind, text, and file and line of the innermost frames. The
    first frame is that of the agent's function that calls this. A person's Ctrl-C on a board is raised again.
    """
    if sys.platform in ("esp32", "rp2") and isinstance(error, KeyboardInterrupt):
        raise error
    place = ""
    try:
        if isinstance(error, DormouseError):  # the agent's own, as a built-in command raises it
            return describe(error)
        from dormouse.faults import place as place_of

        place = place_of(error)
        place = place and " at " + place
    except BaseException:
        pass  # no memory for it, or the exception is the program's own and can't be printed
    return describe(error, max(protocol.TEXT_LIMIT - len(place), 40)) + place[: protocol.TEXT_LIMIT - 40]


def failure_of(error, stage):
    """A DormouseError as it is; any other error as one of that stage."""
    return error if isinstance(error, DormouseError) else DormouseError(describe(error), stage)


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
        except (Exception, SystemExit):  # no memory, or the program has broken what prints
            pass  # a line less; the wake ends as it would have

    def _tell(self, event, fields):
        fields = {key: fields[key] for key in fields if fields[key] is not None}
        line = "dormouse %d " % self.port.ms() + event
        if fields:
            try:
                line += " " + codec.encode(fields).decode()
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

    def failed_readings(self, wake):
        """Of the readings and values that the wakes after this one have lost, why each was: a dict, or None."""
        text = self.kept()
        if '"telemetry"' not in text:
            return None
        from dormouse.faults import failed_readings

        return failed_readings(text, wake)

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
                self._lines, self._size = [], 0
                self.port.storage.replace("log", text)
            except (MemoryError, StorageError):
                pass  # sleep, and that it is remembered, are worth more than a log
