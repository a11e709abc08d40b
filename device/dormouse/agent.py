"""One wake from boot to sleep: what comes first, what comes last, and what happens when something fails.

Must stay true: whatever fails, the wake ends in sleep within its budget; an app that raises ends only itself; what
is remembered is on flash before the last word to the broker. A wake that only samples imports neither link nor
session.
"""

import gc
import sys

from dormouse import app as declared
from dormouse import protocol
from dormouse.app import Context
from dormouse.errors import ConfigError, DormouseError, LinkError, StorageError
from dormouse.log import Log, describe, failure_of, raised
from dormouse.pieces import Pieces
from dormouse.readings import sample
from dormouse.records import LOCAL, UNIX, Telemetry
from dormouse.report import last_wake
from dormouse.state import CAP, ENDINGS, FENCE_DEAD, State, connect_in, sleep_for

_GARBAGE = 8192  # bytes allocated between two collections: without it, what is kept lies scattered over the whole heap
_PERSON = ("power", "reset", "pin")  # causes of a boot that somebody waits for
_DOUBT = 7  # bits of the failures in a row that are all set where the next wake goes without the program
_CUTS = 2  # wakes in a row that never ended, after which the same goes for the next
_OURS = (3, 5)  # of ENDINGS, those that are neither the network's fault nor the configuration's


class Agent:
    """The life of one wake on `port`, or on what `port()` makes of the rest that `run` is given."""

    def __init__(self, port):
        self.port = port
        self.config = self.state = self.telemetry = self.trial = self.pieces = None
        self.good = None  # config.json and secrets.json, where their copy on flash is older
        self.result = None  # the Connection, where this wake went online
        self.sleep = 0  # s, once it is on flash
        self.left_out = True  # until the program has been imported to its end
        self.damaged = False  # is the slot that runs, and will the other one run?

    def run(self, app, *boot):
        """From boot to sleep, with the commands and readings of module `app`. Returns the error that kept the wake from
        finishing, or None, where the port's sleep returns at all.
        """
        failure = None
        if boot:
            self.port = self.port()(*boot)
        self.log = Log(self.port)
        if sys.implementation.name == "micropython":
            gc.threshold(_GARBAGE)  # type: ignore[attr-defined]
        try:
            connection = self._prepare(app)
            if connection:
                while connection.steps:  # from here: a handshake and a handler need what is left of the C stack
                    try:
                        connection.steps.pop(0)()
                    except Exception as e:
                        connection.over(e)
                self.result = connection
                self._conclude(connection)
        except Exception as e:  # memory above all: whatever it is, the device must come back
            failure = failure_of(e, "agent")
            if type(failure) is DormouseError and not self.damaged:
                self._doubt()
            self.log("error", kind=type(failure).__name__, stage=failure.stage, why=failure.reason)
        seconds = CAP
        try:
            if self.config and self.state.device:
                seconds = self._end(failure)
            else:
                self.log.keep()
        except Exception as e:
            failure = failure or failure_of(e, "end")
            self.log("error", kind=type(e).__name__, stage="end", why=describe(e))
        self.port.blink(5 if failure else 2 if self.result else 0)
        self.log("asleep", **self._summary(seconds))
        if self.damaged or (self.result and self.result.resets):
            self.port.reset()
        self.port.sleep(seconds * 1000)
        return failure

    def _prepare(self, app):
        """What comes before the network. Returns the Connection, or None for a wake that only samples."""
        port = self.port
        texts = port.config()
        state = self.state = State(port.storage)
        from dormouse.config import read

        self.config, self.trial, undone, secrets, wrong = read(texts, port.storage)
        del read  # which holds all of config.py
        port.start(self.config)
        last = last_wake(state, self.log)
        cause = port.cause()
        broken = state.begin(self.config["id"], cause == "power")  # so a supply that comes and goes is not the program
        watchdog = int(self.config["watchdog"] * 1000)
        port.arm(watchdog)
        if broken and last:
            last["ended"] = ENDINGS[-1]
        self.log.wake = state.wake
        if cause == "watchdog" and not broken:
            cause = "reset"  # the watchdog runs only while a wake does; a Pico's every reset looks like it
        self.log("boot", wake=state.wake, cause=cause, agent=protocol.VERSION, fw=port.firmware())
        port.blink(1)
        if not wrong and (cause in _PERSON or not port.storage.size("good")):
            self.good = b"\0".join([text or b"" for text in texts])
            if port.storage.read("good") == self.good:
                self.good = None
        del texts
        connects = cause in _PERSON or self.now() + 1 >= state.next_connect
        cut = broken and cause not in ("power", "pin")
        pieces = self.pieces = Pieces(port.storage, self.now(), cut)
        doubt = None  # whether it is the program, one wake without it shows
        if (connects and state.failures & _DOUBT == _DOUBT) or (cut and state.unfinished >> 4 > _CUTS):
            doubt = "import left out: %d wakes have failed" % (state.failures + (state.unfinished >> 4) - 1)
        elif cut and port.slots and port.slots.phase == protocol.TRIAL:
            doubt = "cut off on trial"
        app_error = self._load_app(app, pieces, wrong, doubt)
        self._plan()
        if broken and cause not in _PERSON and not doubt:
            pieces.end()
            raise LinkError("the wake before this one never ended", "boot")
        self.telemetry = Telemetry(port.storage, state.acked)
        context = Context(port, self.config, self.log)
        before, state.sampled = state.sampled, self.now()
        self._store(sample(context, self.log, pieces, state.sampled, before))
        if not connects:
            state.plan = state.next_connect - self.now()
            state.unfinished = 0
            return None
        gc.collect()
        from dormouse.connection import Connection

        port.arm(watchdog)  # again: the program may have changed it
        state.phase("boot", port.ms())
        if self.trial:
            from dormouse.config import begin

            begin(port.storage, self.trial)
        self.telemetry.now = self.now()
        gc.collect()  # the biggest imports and buffers come now
        facts = cause, app_error, self.log.failed_readings(state.ended), undone, last
        connection = Connection(port, self.config, secrets, state, self.log, self.telemetry, facts, context)
        connection.admission.left_out = connection.runner.left_out = self.left_out
        if state.ending + 1 == len(ENDINGS) and connection.inbox.broke:  # it was cut off, in a handler
            pieces.forgive(("import",))
        if connection.inbox.is_new and state.ended:  # the program has taken away what was on flash
            pieces.blame()
        return connection

    def _conclude(self, connection):
        """What a wake that went online leaves: on flash before the last word to the broker."""
        state, result = self.state, self.result
        if result.failure:
            raise result.failure
        state.ended, state.present, state.drained = state.wake, result.present, result.drained
        state.unfinished = state.failures = 0
        self.pieces.forgive()
        if self.good:
            try:
                self.port.storage.replace("good", self.good)
            except StorageError:
                pass  # flash is full: the files themselves are good
        if self.trial:
            from dormouse.config import finish

            finish(self.port.storage, self.config, self.trial)
        if connection.arriving:
            connection.arriving.conclude(result.drained or state.fence == FENCE_DEAD)
        self.sleep = self._remember(0)
        connection.finish()

    def now(self):
        """Seconds of the device's own count, which goes on over sleep by what was planned."""
        return self.state.clock + self.port.ms() // 1000

    def _plan(self, failures=0):
        """Plan the next connect: after so many failed wakes in a row, and as if this one ends well until it has not."""
        volts = self.port.battery()
        self.state.plan = connect_in(self.config, failures, volts, self.port.random(1)[0])

    def _load_app(self, app, pieces, wrong, why):
        """Import the user's module inside a guard: a broken app leaves the device reachable. Returns what broke it, and
        what is `wrong` already. `why`: it is not to be imported, for this reason.
        """
        declared.clear()
        if wrong:
            declared.refused.append(wrong)
        sys.modules.pop(app, None)
        try:
            why = why or pieces.skipped("import")
            if not why:
                module = __import__(app)
                self.left_out = False
                if hasattr(module, "safe_state"):
                    why = pieces.skipped("safe_state")
                    if not why:
                        module.safe_state()
            if why:
                declared.refused.append(why)
        except BaseException as e:
            declared.refused.append(raised(e))
        for why in declared.refused:
            self.log("error", kind="app", stage="import", why=why)
        if declared.refused:
            self._doubt(pieces)
        return "; ".join(declared.refused)[: 2 * protocol.TEXT_LIMIT] or None

    def _doubt(self, pieces=None):
        """What should be there can't be loaded, or does not run: another release may run from the next boot on."""
        if self.port.slots:
            try:
                from dormouse.update import doubt
            except Exception:
                return  # it is gone, too, or memory is: three boots like this, and the guard goes back

            self.damaged = doubt(self.port, self.log, pieces)
            if pieces and self.damaged:  # commands wait for a program that can run them
                raise ConfigError(declared.refused[0], "slot")

    def _store(self, records):
        """Store what a sample has come to."""
        for data in records:
            unix = self.port.time()
            if unix is None or unix >> 32:  # no record holds it: the program has turned the clock
                self.telemetry.add(LOCAL, self.now(), data)
            else:
                self.telemetry.add(UNIX, unix, data)

    # ---- the end

    def _remember(self, ending):
        """Write the state with the planned end of the coming sleep. Returns the seconds to sleep."""
        state, now = self.state, self.now()
        state.acked = self.telemetry.acked if self.telemetry else state.acked
        if self.result:
            state.ms, state.ending, state.erases = self.port.ms(), ending, self.port.storage.erases
        base = state.clock
        state.next_connect = base + state.plan
        seconds = sleep_for(self.config, now, state.next_connect)
        state.clock = now + seconds
        state.save()
        state.clock = base
        return seconds

    def _end(self, failure):
        state, ending = self.state, 0
        if failure:
            self.port.forget()
            state.unfinished = 0
            state.failures = min(state.failures + (not isinstance(failure, ConfigError)), 255)
            self._plan(state.failures)
        self.log.keep()
        if self.sleep and not failure:
            return self.sleep  # remembered already
        if failure:
            name = type(failure).__name__
            ending = ENDINGS.index(name) if name in ENDINGS else _OURS[-1]
            if ending in _OURS and self.pieces:
                self.pieces.blame()
        return self._remember(ending)

    def _summary(self, seconds):
        """The wake in figures, for the log."""
        figures = {"ms": self.port.ms(), "next": seconds, "drained": False, "battery": self.port.battery()}
        result, state = self.result, self.state
        if result:
            figures.update(turns=result.turns, flights=state.flights, bytes_up=state.up, bytes_down=state.down)
            figures.update(drained=result.drained, present=result.present)
        return figures
