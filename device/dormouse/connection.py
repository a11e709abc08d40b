"""The connected part of a wake: connect, first flight, drain, act, confirm, and again where the link drops.

Must stay true: nothing here outlives the link's deadline or the wake's cap; the queue counts as drained when the
fence says so, and never because a guessed pause went by, but where no fence can work.
"""

from binascii import hexlify

from dormouse import app, codec, protocol
from dormouse.admit import Intake
from dormouse.errors import ConfigError, LinkError, ProtocolError
from dormouse.inbox import Inbox
from dormouse.link import Link, resolve
from dormouse.runner import Work
from dormouse.session import Session
from dormouse.state import FENCE_DEAD, FENCE_WORKS

_REJOIN_PAUSE = 100  # ms before the second connection of a wake; doubled for each further one
_LOOK = 20  # ms between two looks for the time
_CUT = 1000  # ms after CONNACK within which a cut counts as a take-over by another client
_CUTS = 3  # such cuts in a row after which a connection without a fence shows whether that was the cause
_LATE = 3  # unfinished or failed wakes in a row after which the fence waits for silence
_PING = 10000  # ms between two signs of life while `stay_awake` lasts; the shortest watchdog is not shorter


class Online:
    """One wake's dealings with the broker. `agent` supplies port, log, state, configuration, outbox and plan."""

    def __init__(self, agent, secrets):
        self.agent = agent
        self.port = agent.port
        self.log = agent.log
        self.state = agent.state
        self.config = agent.config
        self.secrets = secrets
        self.outbox = agent.outbox
        self.link = Link(self.port.ms, self.config["patience"])
        self.budget = self.link.deadline = self.port.ms() + int(self.config["budget"] * 1000)
        self.cap = self.port.ms() + int(self.config["total"] * 1000)  # and not even handlers go past this
        self.security = self.session = self.credentials = self.standard = self.own = None
        self.inbox = Inbox(self.port.storage, self.port.random, self.config["inbox"], self._find)
        self.intake = Intake(self.inbox, self.config["payload"], self.outbox.answer, self.log)
        key = secrets.get("command_key")
        if key is not None:
            from dormouse.signing import Signer

            self.intake.signer = Signer(key, self.config["id"])
        longest = self.config["total"] - self.config["budget"]
        self.work = Work(self.port, self.inbox, self.outbox.answer, self.log, self.cap, longest)
        self.link.before_send = self.inbox.commit
        self.was_up = False  # has a connection of this wake had its CONNACK?
        self.turns = 0  # round trips
        self.mute = False  # no fence is sent, because connections with one were cut
        self.state.cutoffs = min(self.state.cutoffs, _CUTS - 1)  # each wake tries it once
        self.gave_up = False  # the fence is no longer waited for
        self.until = 0  # port.ms() until which the wake goes on though everything is done
        self.staying = False  # … and for all that time, not only until a first command has come

    def run(self, wake):
        """Connect, and again where the link drops, until everything is confirmed.

        Raises LinkError, ProtocolError or ConfigError when that can't be done in this wake, StorageError when flash
        fails; the link is closed in any case.
        """
        self.until = self.port.ms() + int(self.config["linger"] * 1000)
        own = self.secrets.get("password")
        if self.config["tls"]:
            from dormouse.tls import Security

            self.security = Security(self.config, self.port)
            own = self.security.own or own
        self.own = own
        if self.port.storage.size("credentials"):
            self.several()
        try:
            self._rejoin(wake)
        finally:
            self.link.close()

    def _find(self, name):
        """The Handler of a command, built in or the app's, or None. ProtocolError where memory does not suffice."""
        if name not in protocol.STANDARD:
            return app.commands.get(name)
        try:
            if not self.standard:
                from dormouse.builtins import Standard

                self.standard = Standard(self.agent, self)
        except MemoryError:  # else it would come again at every wake
            raise ProtocolError("too big for the memory there is")
        return self.standard.handlers[name]

    def several(self):
        """The credentials, of which there are several or are going to be."""
        if not self.credentials:
            from dormouse.credentials import Credentials

            self.credentials = Credentials(self.port.storage, self.own)
        return self.credentials

    def stay(self, seconds):
        """Go on for so long though everything is done; new commands run as they come."""
        self.until = self.port.ms() + seconds * 1000
        self.budget = max(self.budget, self.until + int(self.config["budget"] * 1000))
        self.cap = self.work.cap = max(self.cap, self.budget)
        self._extend()
        self.staying = True

    def _extend(self):
        """Time spent in handlers is not taken from the network's budget."""
        self.link.deadline = min(self.budget + self.work.spent, self.cap)

    def _rejoin(self, wake):
        pause = _REJOIN_PAUSE
        while True:
            try:
                return self._converse(wake)
            except (ConfigError, LinkError, ProtocolError) as e:
                self.link.close()
                if e.stage == "tls" and self.security.retry():
                    self.outbox.rewind(self.inbox)
                    continue
                if self._other_credential(e):
                    self.outbox.rewind(self.inbox)
                    self.log("rejoin", stage=e.stage, why=e.reason)
                    continue
                if isinstance(e, ConfigError):
                    raise
                if e.stage in ("read", "write") and not e.silent:
                    self._judge_cut()
                if not self.was_up or e.stage == "subscribe" or self.port.ms() + pause >= self.link.deadline:
                    raise
                self.outbox.rewind(self.inbox)
                self.log("rejoin", stage=e.stage, why=e.reason)
                self.port.pause(pause)
                pause *= 2

    def _other_credential(self, e):
        """The broker may have refused one credential of several: has another connection a chance?"""
        cert = self.config["cert"]
        if (
            not self.credentials
            or len(self.credentials.all) < 2
            or (e.stage != "connack" and not (cert and e.stage == "tls"))
        ):
            return False
        if isinstance(e, ConfigError) or (cert and not e.silent):  # a certificate is refused by an alert, or by closing
            return self.credentials.refused()
        return self.state.alone  # the refusal may have been lost: this time CONNECT goes by itself

    def _judge_cut(self):
        """A connection has broken. LinkError where others like it say who did it."""
        s = self.session
        if s and s.present is not None and self.port.ms() - s.connected < _CUT + s.rtt:
            self.state.cutoffs += 1
            if self.state.cutoffs > _CUTS:
                raise LinkError("another client uses this id: cut off right after CONNACK", "session")

    def _converse(self, wake):
        """One connection, from first flight to DISCONNECT."""
        state, c = self.state, self.config
        self.session = None
        self.port.join(c, self.secrets, self.link.deadline)
        if c["clock"] == "first":
            self._await_time()
        self.log("connecting", host=c["host"], port=c["port"])
        self.agent.phase("join")  # which feeds the watchdog, as every phase does
        addresses = resolve(c["host"], c["port"])
        credential = self.credentials.all[self.credentials.at] if self.credentials else self.own
        if c["cert"]:
            self.security.own = credential
        else:
            self.secrets["password"] = credential
        while True:
            family, address = addresses.pop(0)
            try:
                self.link.open(family, address, self.security)
                break
            except LinkError as e:
                if e.silent or not addresses:  # nobody listens at one of them, as at ::1 of localhost: try the next
                    raise
        prefix = protocol.topic(c["root"], c["id"], "")
        s = self.session = Session(self.link, prefix, c, self.secrets, self.intake.offer)
        s.signer = self.intake.signer
        nonce = hexlify(self.port.random(4))
        self.mute = state.cutoffs >= _CUTS
        late = state.failures >= _LATE or state.unfinished > _LATE

        s.encode_connect()
        try:
            if state.alone:
                s.await_connack()
            s.encode_subscribe()
            s.publish(protocol.WAKE, codec.encode(self.agent.report(self.inbox)), retain=True)
            self.outbox.send(s, self.inbox)
            if not (late or self.mute):
                s.send_fence(nonce)
            if s.present is None:
                s.await_connack()
        finally:
            state.alone = s.hidden
        self.was_up = True
        if self.credentials:
            self.credentials.accepted()
        self.log("connected", present=s.present, rtt=s.rtt)
        self.agent.phase("connect")
        self._drain(s, wake, nonce)
        if s.problem:
            raise LinkError(s.problem, "subscribe")
        self.agent.phase("confirm")
        self.turns = self.link.turns
        self.inbox.end()
        end = self.agent.finished(self.inbox, s)
        try:
            s.close(protocol.END, codec.encode(end))
        except LinkError as e:  # the next report repeats the end record
            self.log("error", kind="LinkError", stage="end", why=e.reason)

    def _await_time(self):
        """Nothing goes to a broker before the dates of its certificate can be checked."""
        end = min(self.port.ms() + int(self.config["patience"]), self.link.deadline)
        while self.port.time() is None:
            if self.port.ms() >= end:
                raise LinkError("no time server has answered", "clock")
            self.port.pause(_LOOK)

    def _drain(self, s, wake, nonce):
        """Take what comes, act, answer, until there is provably nothing left to wait for."""
        link, inbox, outbox = self.link, self.inbox, self.outbox
        told = self.gave_up = False
        while True:
            while not inbox.full and (not outbox.full or not s.fits(protocol.BATCH)) and link.ready(0):
                s.take()
                self.port.feed()  # the watchdog: what has come is progress, waiting is none
            link.flush()
            if s.drained and not told:
                told = True
                self.state.fence, self.state.cutoffs = FENCE_WORKS, 0
                self.log("drained", how=s.drained)
                self.agent.phase("drain")
            done = s.drained or self.gave_up
            settled = (done or inbox.full) and self.work.act(wake, self._room)
            self._extend()
            outbox.send(s, inbox, link.flush)
            link.flush()
            if settled:
                s.heard = self.port.ms()
                continue
            if inbox.full:
                return  # the cap is near: the broker keeps the rest for the next wake
            if done and not s.unacked and not outbox.pending(inbox) and not link.ready(0):
                left = self.until - self.port.ms()
                if left <= 0 or (self.intake.taken and not self.staying):
                    return
                self._linger(s, left)
            else:
                self._wait(s, nonce, done)

    def _room(self):
        """May one more command run, or should values be sent first? Never waits for what the broker sends: a full
        inbox reads nothing, and the PUBACKs that would make room stand behind commands.
        """
        return (self.inbox.details.room() and not self.outbox.full) or not self.session.fits(protocol.BATCH)

    def _linger(self, s, left):
        if not self.link.ready(min(left, _PING)) and left > _PING:
            s.ping()
            self.link.flush()

    def _wait(self, s, nonce, done):
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
        if not self.mute and (s.fences == 0 or (s.fences == 1 and self.state.fence != FENCE_DEAD)):
            s.send_fence(nonce)
        else:
            self.gave_up = True
            self.state.fence = FENCE_DEAD
            self.log("drained", how="quiet")
