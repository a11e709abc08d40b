"""One wake from boot to sleep: what comes first, what comes last, and what happens when something fails.

Must stay true: whatever fails, the wake ends in sleep within its budget; an app that raises ends only itself; what
is remembered is on flash before the last word to the broker. A wake that only samples imports neither link nor
session.
"""

import gc
import sys

from dormouse import app as catalogue
from dormouse import codec, protocol
from dormouse.app import Wake
from dormouse.errors import ConfigError, DormouseError, LinkError
from dormouse.log import Log, describe
from dormouse.report import end_record, last_wake, wake_report
from dormouse.results import Outbox
from dormouse.state import CAP, ENDINGS, PHASES, State, connect_in, due, sleep_for

_GARBAGE = 8192  # bytes allocated between two collections: without it, what is kept lies scattered over the whole heap
_PERSON = ("power", "reset", "pin")  # causes of a boot that somebody waits for


def run(app, port=None):
    """One wake with the commands and readings of module `app`. Returns the error that kept it from finishing, or
    None, where the port's sleep returns at all.
    """
    return Agent(port or find_port()).wake(app)


def find_port(*cause):
    """The port of this platform; a board's is told the cause of the boot."""
    name = {"linux": "posix", "darwin": "posix"}.get(sys.platform, sys.platform)
    module = "dormouse.ports." + name
    __import__(module)
    return sys.modules[module].Port(*cause)


def _let_go():
    """Let go of the module config, with its table of all keys."""
    if sys.implementation.name == "micropython":
        sys.modules.pop("dormouse.config")
        setattr(sys.modules["dormouse"], "config", None)  # noqa: B010 (mypy knows no such attribute)


class Agent:
    """The life of one wake on `port`."""

    def __init__(self, port):
        self.port = port
        self.log = Log(port)
        self.config = self.state = self.outbox = self.online = None
        self.app_error = self.last = self.cause = None
        self.trial = self.undone = None  # settings: see config.in_force
        self.plan = CAP  # s from boot to the next connect
        self.reset = False
        self.sleep = 0  # s, once it is on flash
        self.since = 0  # port.ms() at which the running phase began

    def wake(self, app):
        """From boot to sleep. Returns what kept it from finishing, or None."""
        failure = None
        if hasattr(gc, "threshold"):  # MicroPython
            gc.threshold(_GARBAGE)
        try:
            self._live(app)
        except DormouseError as e:
            failure = e
        except Exception as e:  # memory above all: whatever it is, the device must come back
            failure = DormouseError(describe(e), "agent")
        if failure:
            self.log("error", kind=type(failure).__name__, stage=failure.stage, why=failure.reason)
        seconds = self.plan
        try:
            if self.state and self.state.device:
                seconds = self._end(failure)
        except Exception as e:
            failure = failure or DormouseError(describe(e), "end")
            self.log("error", kind=type(e).__name__, stage="end", why=describe(e))
        self.port.blink(5 if failure else 2 if self.online else 0)
        self.log("asleep", **self._summary(seconds))
        if self.reset:
            self.port.reset()
        self.port.sleep(seconds * 1000)
        return failure

    def _live(self, app):
        from dormouse.config import in_force

        texts = self.port.config()
        base = codec.load(texts[0], "config.json")
        secrets = codec.load(texts[1], "secrets.json")
        self.state = State(self.port.storage)
        self.config, self.trial, self.undone = in_force(base, self.port.storage)
        _let_go()
        self.port.start(self.config)
        self.last = last_wake(self.state, self.log)
        broken = self.state.begin(self.config["id"])
        self.port.arm(int(self.config["watchdog"] * 1000))
        if broken and self.last:
            self.last["ended"] = ENDINGS[-1]
        self.log.wake = self.state.wake
        cause = self.port.cause()
        if cause == "watchdog" and not broken:
            cause = "reset"  # the watchdog runs only while a wake does; a Pico's every reset looks like it
        self.cause = cause
        self.log("boot", wake=self.state.wake, cause=cause, agent=protocol.VERSION, fw=self.port.firmware())
        self.port.blink(1)
        self._load_app(app)
        self._plan()
        if broken and cause not in _PERSON:
            raise LinkError("the wake before this one never ended", "boot")
        self.outbox = Outbox(self.port.storage, self.state.acked)
        wake = Wake(self.port, self.config, self.log)
        self._sample(wake)
        if cause in _PERSON or self.now() + 1 >= self.state.next_connect:
            self._connect(wake, secrets)
        else:
            self.plan = self.state.next_connect - self.now()
            self.state.unfinished = 0

    def now(self):
        """Seconds of the device's own count, which goes on over sleep by what was planned."""
        return self.state.clock + self.port.ms() // 1000

    def _plan(self, failures=0):
        """Plan the next connect: after so many failed wakes in a row, and as if this one ends well until it has not."""
        volts = self.port.battery()
        self.plan = connect_in(self.config, failures, volts, self.port.random(1)[0])

    def _load_app(self, app):
        """Import the user's module inside a guard: a broken app leaves the device reachable."""
        catalogue.clear()
        sys.modules.pop(app, None)
        try:
            module = __import__(app)
            if hasattr(module, "safe_state"):
                module.safe_state()
        except (Exception, SystemExit) as e:
            self.app_error = describe(e)
            self.log("error", kind="app", stage="import", why=self.app_error)

    def _sample(self, wake):
        """Take the readings and store them."""
        values = {}
        now, before = self.now(), self.state.sampled
        self.state.sampled = now
        for name in sorted(catalogue.readings):
            function, every = catalogue.readings[name]
            if not due(every, now, before):
                continue
            try:
                values.update(function(wake) or {})
            except (Exception, SystemExit) as e:
                self.log("error", kind="telemetry", stage=name, why=describe(e))
        if codec.fits(values) and values:
            self.outbox.record(self.port.time(), self.now(), values)
        elif values:
            self.log(
                "error", kind="telemetry", stage="encode", why="no JSON of at most %d bytes" % protocol.VALUE_LIMIT
            )

    def _connect(self, wake, secrets):
        """Bring the network up and deal with the broker."""
        gc.collect()
        from dormouse.connection import Online

        self.phase("boot")
        if self.trial:
            from dormouse.config import begin

            begin(self.port.storage, self.trial)
            _let_go()
        self.outbox.now = self.now()
        gc.collect()  # the biggest imports and buffers come now
        self.online = Online(self, secrets)
        self.online.run(wake)

    # ---- what the connected part asks for

    def phase(self, name):
        """This phase has ended now."""
        now = self.port.ms()
        self.port.feed()
        self.state.phases[PHASES.index(name)] = (now - self.since) // 10
        self.since = now

    def report(self, inbox):
        """The wake report, a plain value."""
        return wake_report(self, inbox)

    def change(self, values):
        """Keep changed settings from now on. ConfigError names the first wrong key."""
        from dormouse.config import change

        try:
            self.config.update(change(self.port.storage, self.config, values))
        finally:
            _let_go()
        self._plan()

    def try_out(self, values):
        """Let the next wake begin with changed settings, and keep them if it finishes."""
        from dormouse.config import try_out

        try:
            try_out(self.port.storage, self.config, values)
        finally:
            _let_go()

    def finished(self, inbox, session):
        """Everything is confirmed. Remembers it, and then returns the end record."""
        state = self.state
        state.ended, state.present, state.drained = state.wake, session.present, bool(session.drained)
        state.unfinished = state.failures = 0
        if self.trial:
            from dormouse.config import finish

            finish(self.port.storage, self.trial)
            _let_go()
        self.sleep = self._remember(0)
        return end_record(state, inbox)

    # ---- the end

    def _remember(self, ending):
        """Write the state with the planned end of the coming sleep. Returns the seconds to sleep."""
        state, now = self.state, self.now()
        state.acked = self.outbox.acked if self.outbox else state.acked
        if self.online:
            link = self.online.link
            state.ms, state.ending, state.refused = self.port.ms(), ending, self.online.intake.refused
            state.flights, state.up, state.down = link.flights, link.sent, link.received
            state.erases = min(self.port.storage.erases, 65535)
        base = state.clock
        state.next_connect = base + self.plan
        seconds = sleep_for(self.config, now, state.next_connect)
        state.clock = now + seconds
        state.save()
        state.clock = base
        return seconds

    def _end(self, failure):
        state = self.state
        if failure:
            self.port.forget()
            state.unfinished = 0
            state.failures = min(state.failures + (not isinstance(failure, ConfigError)), 255)
            self._plan(state.failures)
        self.log.keep()
        if self.sleep and not failure:
            return self.sleep  # remembered already
        name = type(failure).__name__
        return self._remember(ENDINGS.index(name) if name in ENDINGS else 0)

    def _summary(self, seconds):
        """The wake in figures, for the log."""
        figures = {"ms": self.port.ms(), "next": seconds, "drained": False}
        if self.online:
            link, session = self.online.link, self.online.session
            figures.update(turns=self.online.turns, flights=link.flights, bytes_up=link.sent, bytes_down=link.received)
            if session:
                figures.update(drained=bool(session.drained), present=session.present)
        return figures
