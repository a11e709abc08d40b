"""The connected part of a wake: join, first flight, drain, act, confirm, and again where the link drops.

Must stay true: nothing here outlives the link's deadline or the wake's cap; the queue counts as drained when the
fence says so, and never because a guessed pause went by, but where no fence can work.
"""

from binascii import hexlify

from dormouse import catalogue, protocol
from dormouse.errors import LinkError, ProtocolError
from dormouse.inbox import Inbox
from dormouse.link import Link, resolve
from dormouse.report import describe
from dormouse.session import Session
from dormouse.state import FENCE_DEAD, FENCE_WORKS
from dormouse.wake import Overrun

_REJOIN_PAUSE = 100  # ms before the second connection of a wake; doubled for each further one
_CUT = 1000  # ms after CONNACK within which a cut counts as a take-over by another client
_CUTS = 3  # such cuts in a row that name the cause
_LATE = 3  # unfinished or failed wakes in a row after which the fence waits for silence
_BACKLOG = 256  # publishes not yet sent above which no further command is taken


class Online:
    """One wake's dealings with the broker."""

    def __init__(self, port, log, state, config, secrets, outbox):
        self.port = port
        self.log = log
        self.state = state
        self.config = config
        self.secrets = secrets
        self.outbox = outbox
        self.link = Link(port.ms, config["patience"])
        self.link.deadline = port.ms() + int(config["budget"] * 1000)
        self.cap = port.ms() + int(config["total"] * 1000)  # and not even handlers go past this
        self.inbox = Inbox(config["inbox"], config["payload"], catalogue.commands.get, outbox.answer, log)
        self.session = None
        self.turns = 0  # round trips
        self.gave_up = None  # why the fence is no longer waited for

    def run(self, wake, report):
        """Connect, and again where the link drops, until everything is confirmed. `report` is the wake report.

        Raises LinkError, ProtocolError or ConfigError when that can't be done in this wake, StorageError when flash
        fails; the link is closed in any case.
        """
        try:
            self._rejoin(wake, report)
        finally:
            self.link.close()

    def _rejoin(self, wake, report):
        pause = _REJOIN_PAUSE
        while True:
            try:
                return self.converse(wake, report)
            except (LinkError, ProtocolError) as e:
                self.link.close()
                s = self.session
                if s is None or s.present is None:
                    raise
                self.outbox.rewind(s.unacked)
                if not s.drained and self.port.ms() - s.connected < _CUT + s.rtt:
                    self.state.cutoffs += 1
                    if self.state.cutoffs >= _CUTS:
                        raise LinkError("another client uses this id: cut off right after CONNACK", "session")
                if self.port.ms() + pause >= self.link.deadline:
                    raise
                self.log("rejoin", stage=e.stage, why=e.reason)
                self.port.pause(pause)
                pause *= 2

    def converse(self, wake, report):
        """One connection, from first flight to DISCONNECT."""
        state, c = self.state, self.config
        self.log("connecting", host=c["host"], port=c["port"])
        self.session = None
        addresses = resolve(c["host"], c["port"])
        self.link.open(*addresses[0])
        prefix = protocol.topic(c["root"], c["id"], "")
        s = self.session = Session(self.link, prefix, c, self.secrets, self.inbox.offer)
        nonce = hexlify(self.port.random(4))
        alone, state.alone = state.alone, True  # until CONNACK has been seen
        late = state.failures >= _LATE or state.unfinished > _LATE

        def rest():
            s.publish(protocol.WAKE, report, retain=True)
            self.outbox.send(s)
            if not late:
                s.send_fence(nonce)

        s.open(rest, alone)
        state.alone = False
        s.connected = s.heard
        self.log("connected", present=s.present, rtt=s.rtt)
        self.drain(s, wake, nonce)
        if s.problem:
            raise LinkError(s.problem, "subscribe")
        self.finish(s)

    def drain(self, s, wake, nonce):
        """Take what comes, act, answer, until there is provably nothing left to wait for."""
        link, inbox, outbox = self.link, self.inbox, self.outbox
        told = self.gave_up = None
        linger = self.port.ms() + self.config["linger"] * 1000
        while True:
            while not inbox.full and len(outbox.queue) < _BACKLOG and link.ready(0):
                s.take()
            link.flush()
            if s.drained and not told:
                told = s.drained
                self.state.fence, self.state.cutoffs = FENCE_WORKS, 0
                self.log("drained", how=told)
            done = s.drained or self.gave_up
            if (done or inbox.full) and self.act(wake):
                continue
            outbox.send(s)
            link.flush()
            if done and not s.unacked and not outbox.queue and not link.ready(0):
                if inbox.taken or self.port.ms() >= linger:
                    return
                link.ready(linger - self.port.ms())
            else:
                self.wait(s, nonce, done)

    def wait(self, s, nonce, done):
        """Wait for the next packet; a fence that is overdue is sent a second time, then given up."""
        now = self.port.ms()
        patience = self.link.patience if done else s.silence()
        if self.link.ready(s.heard + patience - now):
            return
        now = self.port.ms()
        if now >= self.link.deadline:
            raise LinkError("the wake's budget is used up", "confirm" if done else "drain")
        if now < s.heard + patience:
            return
        if done:
            raise LinkError("silent for %d ms" % patience, "confirm")
        s.heard = now
        if s.fences == 0 or (s.fences == 1 and self.state.fence != FENCE_DEAD):
            s.send_fence(nonce)
        else:
            self.gave_up = "quiet"
            self.state.fence = FENCE_DEAD
            self.log("drained", how=self.gave_up)

    def act(self, wake):
        """Run what waits in the inbox, in order. True where something was run."""
        ran = False
        while True:
            command = self.inbox.next()
            if command is None:
                return ran
            handler = catalogue.commands[command.do]
            started = self.port.ms()
            if started + handler.limit * 1000 > self.cap:
                return ran
            now = self.port.time()
            if command.exp is not None and now is not None and command.exp <= now:
                self.inbox.finish(command, protocol.EXPIRED)
                continue
            self.run_command(wake, command, handler)
            ran = True
            spent = self.port.ms() - started
            self.link.deadline = min(self.link.deadline + spent, self.cap)
            self.session.heard += spent

    def run_command(self, wake, command, handler):
        wake.start(handler.limit)
        value = why = None
        status = protocol.SUCCEEDED
        try:
            value = handler.function(wake, **command.args)
        except Overrun:
            status = protocol.INTERRUPTED
        except Exception as e:
            status, why = protocol.FAILED, describe(e)
        if status == protocol.INTERRUPTED or wake.overrun():
            status, value, why = protocol.INTERRUPTED, None, "went past its limit of %s s" % handler.limit
        elif not protocol.fits(value):
            value, why = None, "done, but its value is no JSON of at most %d bytes" % protocol.VALUE_LIMIT
        self.inbox.finish(command, status, value, why)

    def finish(self, s):
        """Everything is confirmed: remember it, then the end record and DISCONNECT."""
        self.turns = self.link.turns
        self.state.unfinished = self.state.failures = 0
        self.state.save()
        end = {
            "wake": self.state.wake,
            "present": s.present,
            "drained": bool(s.drained),
            "fence_dead": self.state.fence == FENCE_DEAD,
        }
        s.close(protocol.END, protocol.encode(end))
