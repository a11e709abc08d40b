"""What the app declares, its commands with the types of their arguments and its readings, and what its handlers get.

Must stay true: declaring touches no hardware; the catalogue is a plain value that `describe` can send, and its
hash changes exactly when a name, a type, a default, a limit or `repeatable` does. A handler waits through `hold` only,
which feeds the watchdog and ends it at its limit; nothing here reaches into the session or the journal.
"""

import json
import sys
from binascii import crc32

from dormouse.codec import check_args, encode_within, type_name
from dormouse.errors import ConfigError, ProtocolError
from dormouse.protocol import STANDARD, VALUE_LIMIT

_STEP = 100  # ms between two feedings of the watchdog
_LONGEST = 3600  # s; the longest limit, and the longest wake
_RAREST = 31622400  # s; the longest time between two readings, a leap year
commands = {}  # name -> Handler
readings = {}  # name -> (function, seconds between two readings)
refused = []  # of each declaration that is refused: which it is, and why; all others hold


class Handler:
    """A declared command: `spec` maps each argument to its type's name, or to [name, default]; `limit` in seconds;
    `most` bytes of JSON in its value.
    """

    def __init__(self, function, limit, repeatable, spec, most=VALUE_LIMIT):
        self.most = most
        self.function = function
        self.limit = limit
        self.repeatable = repeatable
        self.spec = spec


def command(name, limit=5, repeatable=False, **types):
    """Declare a command. An argument's type is int, float, str, bool, list or dict, or (type, default) if it may be
    left out. `limit` is in seconds; `repeatable` says that running it again after an interruption does no harm.
    """
    if callable(name):
        return _refuse("command", name, 'write @command("name")')
    spec = {}
    why = None
    try:
        for arg in types:
            kind = types[arg]
            spec[arg] = [type_name(kind[0]), _default(*kind)] if isinstance(kind, tuple) else type_name(kind)
    except (ConfigError, TypeError, IndexError) as e:
        why = "argument %s: %s" % (arg, e)
    if not isinstance(name, str) or not 0 < len(name) <= 32 or name in commands:
        why = "a name is text of 1 to 32 characters, declared once"
    elif name in STANDARD:
        why = "a built-in command has this name"
    elif not _is_number(limit) or not 0 < limit <= _LONGEST:
        why = "limit is a number of seconds from 0 to %d" % _LONGEST
    if why:
        _refuse("command", name, why)

    def declare(function):
        if not why and _can_run("command", name, function):
            commands[name] = Handler(function, limit, bool(repeatable), spec)
        return function

    return declare


def _refuse(what, piece, why):
    """Note that this piece is refused, a function or a name, and why. Returns the piece."""
    name = getattr(piece, "__name__", piece)
    refused.append("%s %s: %s" % (what, name if isinstance(name, str) else repr(name), why))
    return piece


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _can_run(what, name, function):
    """Can a call run it to its end? Where it can't, it is refused."""
    why = None
    yields = type(function).__name__ == "generator"
    if sys.implementation.name == "cpython":
        yields = getattr(getattr(function, "__code__", None), "co_flags", 0) & 0x2A0  # generator, coroutine, both
    if not callable(function):
        why = "it is declared over %r, which is no function" % function
    elif yields:
        why = "async def and yield are not run: write a plain function"
    if why:
        _refuse(what, name, why)
    return not why


def _default(kind, value):
    """The default of an argument, which `describe` can send and the handler can be given."""
    try:
        if value is not None:
            check_args({"default": type_name(kind)}, {"default": value})
    except ProtocolError as e:
        raise ConfigError(e.reason)
    if encode_within(value) is None:
        raise ConfigError("a default is JSON of at most %d bytes" % VALUE_LIMIT)
    return value


def telemetry(every=0):
    """Declare a reading, taken at most once in `every` seconds (0: at each sample). It returns a dict of values."""
    if callable(every):
        return _refuse("telemetry", every, "write @telemetry()")

    def declare(function):
        name = str(getattr(function, "__name__", function))
        if name in readings:
            _refuse("telemetry", name, "a reading of this name is declared already")
        elif not _is_number(every) or not 0 <= every <= _RAREST:
            _refuse("telemetry", name, "every is a number of seconds from 0 to %d" % _RAREST)
        elif _can_run("telemetry", name, function):
            readings[name] = (function, every)
        return function

    return declare


def catalogue():
    """The declared commands as a plain value: [[name, arguments, limit, repeatable], …], sorted by name."""
    plain = []
    for name in sorted(commands):
        handler = commands[name]
        arguments = [[arg, handler.spec[arg]] for arg in sorted(handler.spec)]
        plain.append([name, arguments, handler.limit, handler.repeatable])
    return plain


def catalogue_hash():
    """CRC-32 of the catalogue as 8 hex digits."""
    return "%08x" % crc32(json.dumps(catalogue(), separators=(",", ":")).encode())


def clear():
    """Forget all declarations: a process that loads another app starts here."""
    commands.clear()
    readings.clear()
    refused.clear()


class Overrun(Exception):
    """A handler went past its declared limit."""


class Context:
    """What a handler and a reading get to see of the wake they run in. `config`: the device's configuration, a dict."""

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
        """Wait `seconds` (float). Raises Overrun when the limit of the command, or of the wake, comes first."""
        limit = self._end or self.config["total"] * 1000  # a reading's is the wake's own
        end = self._port.ms() + int(seconds * 1000)
        while True:
            now = self._port.ms()
            if now >= limit and end > limit:
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
