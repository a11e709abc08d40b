"""What a command's handler and a reading get to see of the wake they run in.

Must stay true: a handler waits through `hold` only, which feeds the watchdog and ends it at its limit; nothing
here reaches into the session or the journal.
"""

_STEP = 100  # ms between two feedings of the watchdog


class Overrun(Exception):
    """A handler went past its declared limit."""


class Wake:
    """Handed to every handler and every reading. `config` is the device's configuration, a plain dict."""

    def __init__(self, port, config, log):
        self._port = port
        self._end = None  # port.ms() at which the running handler's limit is reached
        self.config = config
        self.log = log  # log(event, **fields): one line to the console

    def start(self, limit):
        """A handler begins that may take `limit` seconds; the agent calls this."""
        self._end = self._port.ms() + int(limit * 1000)
        self._port.arm(int((limit + self.config["watchdog"]) * 1000))

    def stop(self):
        """The handler has returned. True where it went past its limit."""
        end, self._end = self._end, None
        self._port.arm(int(self.config["watchdog"] * 1000))
        return self._port.ms() > end

    def hold(self, seconds):
        """Wait `seconds` (float). Raises Overrun when the command's limit comes first."""
        end = self._port.ms() + int(seconds * 1000)
        while True:
            now = self._port.ms()
            if self._end is not None and now >= self._end and end > self._end:
                raise Overrun("limit")
            self._port.feed()
            if now >= end:
                return
            self._port.pause(min(_STEP, end - now))

    def battery(self):
        """Volts as a float, read before the radio started, or None where the board can't tell."""
        return self._port.battery()

    def time(self):
        """Unix seconds as an int, or None while the clock is not known."""
        return self._port.time()
